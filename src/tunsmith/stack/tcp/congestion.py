"""Congestion control: how many bytes may be in flight. RFC 5681 and RFC 6582 (NewReno).

The sender reports what happened; the controller only keeps `cwnd` and `ssthresh`. Another algorithm is
another class with the same methods, given as `StackConfig.congestion`.
"""

from __future__ import annotations

from typing import Protocol

UNLIMITED = 1 << 62


class Congestion(Protocol):
    """What the sender asks of an algorithm. All quantities are bytes."""

    cwnd: int
    ssthresh: int

    def on_ack(self, acked: int, now: float) -> None:
        """New data was acknowledged outside recovery, and the window was in use."""

    def on_fast_retransmit(self, flight: int) -> None:
        """Three duplicate ACKs: enter recovery."""

    def on_duplicate_ack(self) -> None:
        """One more duplicate ACK during recovery: a segment has left the network."""

    def on_partial_ack(self, acked: int) -> None:
        """`acked` bytes were acknowledged during recovery, but not all of the window at its start."""

    def on_recovered(self, flight: int) -> None:
        """Recovery is over."""

    def on_timeout(self, flight: int) -> None:
        """The retransmission timer expired."""

    def on_mss(self, mss: int) -> None:
        """The path now carries segments of `mss`."""


class NewReno:
    """Slow start, congestion avoidance, NewReno recovery."""

    __slots__ = ("cwnd", "mss", "ssthresh")

    def __init__(self, mss: int, initial_window: int) -> None:
        self.mss = mss
        self.cwnd = initial_window
        self.ssthresh = UNLIMITED

    def on_ack(self, acked: int, now: float) -> None:
        if self.cwnd < self.ssthresh:
            self.cwnd += acked  # slow start with appropriate byte counting, RFC 3465
        else:
            self.cwnd += max(1, self.mss * acked // self.cwnd)  # RFC 5681 (3)

    def on_fast_retransmit(self, flight: int) -> None:
        self.ssthresh = max(flight // 2, 2 * self.mss)  # RFC 5681 (4)
        self.cwnd = self.ssthresh + 3 * self.mss

    def on_duplicate_ack(self) -> None:
        self.cwnd += self.mss

    def on_partial_ack(self, acked: int) -> None:
        self.cwnd = max(self.cwnd - acked, 0) + self.mss  # RFC 6582 §3.2 step 3

    def on_recovered(self, flight: int) -> None:
        self.cwnd = min(self.ssthresh, max(flight, self.mss) + self.mss)  # RFC 6582 §3.2 step 3, option 1

    def on_timeout(self, flight: int) -> None:
        self.ssthresh = max(flight // 2, 2 * self.mss)
        self.cwnd = self.mss

    def on_mss(self, mss: int) -> None:
        self.mss = mss
        self.cwnd = max(self.cwnd, mss)
