"""The states of a connection, RFC 9293 §3.3.2. LISTEN and CLOSED are the stack's own tables:
a connection object exists from SYN-SENT or SYN-RECEIVED until it is closed or in TIME-WAIT."""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """RFC 9293 names."""

    __hash__ = object.__hash__  # Enum's own is written in Python and would be met with every segment

    SYN_SENT = "SYN-SENT"
    SYN_RECEIVED = "SYN-RECEIVED"
    ESTABLISHED = "ESTABLISHED"
    FIN_WAIT_1 = "FIN-WAIT-1"
    FIN_WAIT_2 = "FIN-WAIT-2"
    CLOSE_WAIT = "CLOSE-WAIT"
    CLOSING = "CLOSING"
    LAST_ACK = "LAST-ACK"
    TIME_WAIT = "TIME-WAIT"
    CLOSED = "CLOSED"


ON_FIN_RECEIVED = {
    State.ESTABLISHED: State.CLOSE_WAIT,
    State.FIN_WAIT_1: State.CLOSING,
    State.FIN_WAIT_2: State.TIME_WAIT,
}
"""RFC 9293 §3.10.7.4, eighth: the peer's FIN arrived (FIN-WAIT-1 with our FIN acknowledged is FIN-WAIT-2 by then)."""

ON_FIN_SENT = {
    State.ESTABLISHED: State.FIN_WAIT_1,
    State.CLOSE_WAIT: State.LAST_ACK,
}
"""RFC 9293 §3.10.4: our FIN left."""

ON_FIN_ACKED = {
    State.FIN_WAIT_1: State.FIN_WAIT_2,
    State.CLOSING: State.TIME_WAIT,
    State.LAST_ACK: State.CLOSED,
}
"""RFC 9293 §3.10.7.4, fifth: the peer acknowledged our FIN."""

TO_BE_RESET = frozenset(
    {
        State.SYN_RECEIVED,
        State.ESTABLISHED,
        State.FIN_WAIT_1,
        State.FIN_WAIT_2,
        State.CLOSE_WAIT,
    }
)
"""States in which ABORT sends a RST, RFC 9293 §3.10.5: in the others the peer is gone or not yet there."""

CARRYING = frozenset({State.ESTABLISHED, State.FIN_WAIT_1, State.FIN_WAIT_2, State.CLOSE_WAIT})
"""Connections on which silence may mean that the peer is gone."""

FIN_UNACKNOWLEDGED = frozenset({State.SYN_RECEIVED, State.FIN_WAIT_1, State.CLOSING, State.LAST_ACK})
"""States of a closed connection whose peer may not have everything yet."""

OPENING = frozenset({State.SYN_SENT, State.SYN_RECEIVED})
"""The handshake is under way."""

RECEIVING = frozenset({State.ESTABLISHED, State.FIN_WAIT_1, State.FIN_WAIT_2})
"""States in which segment text is accepted, RFC 9293 §3.10.7.4, seventh."""
