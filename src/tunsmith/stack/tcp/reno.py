"""Reno: slow start and congestion avoidance of RFC 5681, with appropriate byte counting (RFC 3465)."""

from __future__ import annotations

from tunsmith.stack.tcp.congestion import UNLIMITED


class Reno:
    """A Congestion: one segment more each round trip, half of them after a loss."""

    __slots__ = ("cwnd", "mss", "ssthresh")

    def __init__(self, mss: int, initial_window: int) -> None:
        self.mss = mss
        self.cwnd = initial_window
        self.ssthresh = UNLIMITED

    def on_ack(self, acked: int, rtt: float, latest: float, now: float) -> None:
        if self.cwnd < self.ssthresh:
            self.cwnd += acked
        else:
            self.cwnd += max(1, self.mss * acked // self.cwnd)  # RFC 5681 (3)

    def on_congestion(self, flight: int, now: float) -> None:
        self.ssthresh = max(flight // 2, 2 * self.mss)  # RFC 5681 (4)

    def on_timeout(self, flight: int, now: float) -> None:
        self.on_congestion(flight, now)

    def on_mss(self, mss: int) -> None:
        self.mss = mss
        self.cwnd = max(self.cwnd, mss)
