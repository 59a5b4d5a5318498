"""Congestion control: how many bytes may be in the network. RFC 5681.

The sender reports what happened; an algorithm only keeps `cwnd` and `ssthresh`. How the flight gets down to
`ssthresh` in a recovery is not its business: recovery.py does that, the same for all, and sets `cwnd`.
Another algorithm is another class with these methods, given as `StackConfig.congestion`.
"""

from __future__ import annotations

from typing import Protocol

UNLIMITED = 1 << 62
"""`ssthresh` before the first loss."""


class Congestion(Protocol):
    """What the sender asks of an algorithm. Windows are bytes, times seconds."""

    cwnd: int
    ssthresh: int

    def on_ack(self, acked: int, rtt: float, latest: float, now: float) -> None:
        """`acked` bytes were delivered, outside fast recovery and with the window in use. `rtt` is smoothed; `latest`
        is what this ACK has measured, if it has."""

    def on_congestion(self, flight: int, now: float) -> None:
        """A loss or a congestion mark, once a round trip, with `flight` bytes sent and not acknowledged: set
        `ssthresh`."""

    def on_timeout(self, flight: int, now: float) -> None:
        """The retransmission timer expired: set `ssthresh`. `cwnd` is one segment afterwards."""

    def on_mss(self, mss: int) -> None:
        """The path now carries segments of `mss`."""
