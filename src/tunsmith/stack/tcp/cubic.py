"""CUBIC, RFC 9438: the window as a cubic function of the time since the last reduction.

It rises fast to where the last loss was, lingers there, then looks for more, whatever the round trip time.
Where Reno would have more by now, its window is followed (§4.3). The first slow start ends by HyStart++ (hystart.py).
"""

from __future__ import annotations

from tunsmith.stack.tcp.congestion import UNLIMITED
from tunsmith.stack.tcp.hystart import HyStart

C = 0.4
"""Segments per second³, §5."""
BETA = 0.7
"""What a reduction leaves of the window, §4.6."""
ALPHA = 3 * (1 - BETA) / (1 + BETA)
"""Segments a round trip that make Reno with BETA as fast as with one half, §4.3."""


class Cubic:
    """A Congestion. Names are those of RFC 9438 §4.1; windows are bytes."""

    __slots__ = (
        "_epoch_start",
        "_hystart",
        "_k",
        "_updated",
        "_w_est",
        "_w_max",
        "cwnd",
        "cwnd_prior",
        "mss",
        "ssthresh",
    )

    def __init__(self, mss: int, initial_window: int) -> None:
        self.mss = mss
        self.cwnd = initial_window
        self.ssthresh = UNLIMITED
        self.cwnd_prior = 0
        """The window before the last reduction."""
        self._w_max = 0.0
        self._w_est = 0.0
        self._k = 0.0
        self._epoch_start: float | None = None
        """When this stage of congestion avoidance began."""
        self._updated = 0.0
        self._hystart: HyStart | None = None

    def on_ack(self, acked: int, rtt: float, latest: float, now: float) -> None:
        cwnd = self.cwnd
        if cwnd < self.ssthresh:
            if self.ssthresh == UNLIMITED:
                self._start(acked, latest)
            else:
                self.cwnd = cwnd + acked
            return
        if self._epoch_start is None:
            self._epoch_start = now
            self._w_est = cwnd
            self._w_max = max(self._w_max, cwnd)
            self._k = ((self._w_max - cwnd) / self.mss / C) ** (1 / 3)
        elif now - self._updated > rtt:  # the window was not in use meanwhile, §5.8
            self._epoch_start += now - self._updated
        self._updated = now
        elapsed = now - self._epoch_start + rtt - self._k
        target = min(max(self._w_max + C * elapsed**3 * self.mss, cwnd), 1.5 * cwnd)
        alpha = ALPHA if self._w_est < self.cwnd_prior else 1.0
        self._w_est += alpha * self.mss * acked / cwnd
        self.cwnd = int(max(cwnd + (target - cwnd) * acked / cwnd, self._w_est))

    def _start(self, acked: int, rtt: float) -> None:
        """The first slow start, §4.10."""
        if self._hystart is None:
            self._hystart = HyStart(self.cwnd)
        self.cwnd += self._hystart.growth(acked, rtt, self.cwnd)
        if self._hystart.is_over:
            self.ssthresh = self.cwnd

    def on_congestion(self, flight: int, now: float) -> None:
        cwnd = self.cwnd
        self.cwnd_prior = cwnd
        self._w_max = cwnd * (1 + BETA) / 2 if cwnd < self._w_max else cwnd  # fast convergence, §4.7
        self.ssthresh = max(int(cwnd * BETA), 2 * self.mss)
        self._epoch_start = None

    def on_timeout(self, flight: int, now: float) -> None:
        self.on_congestion(flight, now)
        self._w_max = 0.0  # §4.8: the next stage begins where slow start ends

    def on_mss(self, mss: int) -> None:
        self.mss = mss
        self.cwnd = max(self.cwnd, mss)
