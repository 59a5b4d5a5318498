"""RTT estimation and retransmission timeout, RFC 6298. Pure: no clock, no I/O; all values in seconds."""

from __future__ import annotations


class RttEstimator:
    """Smoothed RTT and RTO of one connection; `srtt` is None until the first sample."""

    __slots__ = ("max_rto", "min_rto", "rto", "rttvar", "srtt")

    def __init__(self, initial_rto: float, min_rto: float, max_rto: float) -> None:
        self.srtt: float | None = None
        self.rttvar = 0.0
        self.rto = initial_rto
        self.min_rto = min_rto
        self.max_rto = max_rto

    def on_sample(self, rtt: float) -> None:
        """Fold in the RTT of a segment that was never retransmitted (Karn, RFC 6298 §3)."""
        srtt = self.srtt
        if srtt is None:  # RFC 6298 (2.2)
            self.srtt = srtt = rtt
            self.rttvar = rtt / 2
        else:  # RFC 6298 (2.3), alpha 1/8, beta 1/4: RTTVAR first, with the old SRTT
            error = rtt - srtt
            self.rttvar += ((error if error > 0 else -error) - self.rttvar) / 4
            self.srtt = srtt = srtt + error / 8
        rto = srtt + 4 * self.rttvar
        self.rto = self.min_rto if rto < self.min_rto else min(rto, self.max_rto)

    def on_timeout(self) -> None:
        """Back off the timer, RFC 6298 (5.5)."""
        self.rto = min(self.rto * 2, self.max_rto)
