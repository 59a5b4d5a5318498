"""How to get to a state: the lines that `given STATE` stands for.

The peer opens unless the state is one of an opener, announces no option but an MSS of 1000 and a window of
65535, and everything that can be acknowledged is. Next sequence numbers: 1 on either side, 2 on a side that
has sent its FIN. Longer names tell of options, of the round trip, or of how the state was reached.
"""

from __future__ import annotations

_LISTEN = "owner listen\n"
_SYN_RECEIVED = _LISTEN + "peer SYN 0 mss 1000\nstack SYN,ACK 0 ack 1\n"
_ESTABLISHED = _SYN_RECEIVED + "peer ACK 1 ack 1\ncheck state ESTABLISHED\n"
_FIN_WAIT_1 = _ESTABLISHED + "owner shutdown\nstack FIN,ACK 1 ack 1\ncheck state FIN-WAIT-1\n"
_FIN_WAIT_2 = _FIN_WAIT_1 + "peer ACK 1 ack 2\ncheck state FIN-WAIT-2\n"
_CLOSE_WAIT = _ESTABLISHED + "peer FIN,ACK 1 ack 1\n+0..0.05 stack ACK 1 ack 2\ncheck state CLOSE-WAIT\n"
_SYN_SENT = "owner connect\nstack SYN 0\ncheck state SYN-SENT\n"

GIVEN = {
    "CLOSED": "check state CLOSED\n",
    "LISTEN": _LISTEN + "check state LISTEN\n",
    "SYN-SENT": _SYN_SENT,
    "SYN-RECEIVED": _SYN_RECEIVED + "check state SYN-RECEIVED\n",
    "SYN-RECEIVED-SIMULTANEOUS": _SYN_SENT
    + "peer SYN 0 mss 1000\nstack SYN,ACK 0 ack 1\ncheck state SYN-RECEIVED\n",
    "ESTABLISHED": _ESTABLISHED,
    "ESTABLISHED-OPENER": _SYN_SENT
    + "peer SYN,ACK 0 ack 1 mss 1000\nstack ACK 1 ack 1\ncheck state ESTABLISHED\n",
    "ESTABLISHED-SACK": _LISTEN
    + "peer SYN 0 mss 1000 sackok\nstack SYN,ACK 0 ack 1 sackok\npeer ACK 1 ack 1\ncheck state ESTABLISHED\n",
    "ESTABLISHED-SACK-100MS": _LISTEN
    + "peer SYN 0 mss 1000 sackok\nstack SYN,ACK 0 ack 1 sackok\n+0.1 peer ACK 1 ack 1\n"
    + "check state ESTABLISHED, srtt 0.1\n",
    "ESTABLISHED-100MS": _SYN_RECEIVED + "+0.1 peer ACK 1 ack 1\ncheck state ESTABLISHED, srtt 0.1\n",
    "ESTABLISHED-TIMESTAMPS": _LISTEN
    + "peer SYN 0 mss 1012 ts 100/0\nstack SYN,ACK 0 ack 1 ts 0/100\n"
    + "peer ACK 1 ack 1 ts 100/0\ncheck state ESTABLISHED\n",
    "FIN-WAIT-1": _FIN_WAIT_1,
    "FIN-WAIT-2": _FIN_WAIT_2,
    "CLOSE-WAIT": _CLOSE_WAIT,
    "CLOSING": _FIN_WAIT_1 + "peer FIN,ACK 1 ack 1\nstack ACK 2 ack 2\ncheck state CLOSING\n",
    "LAST-ACK": _CLOSE_WAIT + "owner shutdown\nstack FIN,ACK 1 ack 2\ncheck state LAST-ACK\n",
    "TIME-WAIT": _FIN_WAIT_2 + "peer FIN,ACK 1 ack 2\nstack ACK 2 ack 2\ncheck state TIME-WAIT\n",
}
