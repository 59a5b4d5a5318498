"""RTT estimation and the timeouts that follow from it: RFC 6298, RFC 8985 §7.2. Pure: no clock, no I/O; seconds."""

from __future__ import annotations

SHORTEST_PROBE_TIMEOUT = 0.01
"""A probe timeout below the granularity of schedulers would only find the peer asleep."""


class RttEstimator:
    """Smoothed RTT and RTO of one connection; `srtt` is None until the first sample."""

    __slots__ = ("max_rto", "min_rto", "probing", "rto", "rttvar", "shortest", "srtt", "wait")

    def __init__(self, initial_rto: float, min_rto: float, max_rto: float) -> None:
        self.srtt: float | None = None
        self.rttvar = 0.0
        self.rto = self.wait = initial_rto
        """`wait`: how long without an ACK until something must be done: the probe timeout, or the RTO."""
        self.min_rto = min_rto
        self.max_rto = max_rto
        self.shortest = max_rto
        """The smallest sample."""
        self.probing = False
        """Whether a tail loss probe goes before the RTO."""

    def on_sample(self, rtt: float) -> None:
        """Fold in the RTT of a segment that was never retransmitted (Karn, RFC 6298 §3)."""
        if rtt < self.shortest:
            if rtt < 0.0:  # an owner who reads his clock twice may tell us the later time first
                rtt = 0.0
            self.shortest = rtt
        srtt = self.srtt
        if srtt is None:  # RFC 6298 (2.2)
            self.srtt = srtt = rtt
            self.rttvar = rtt * 0.5
        else:  # RFC 6298 (2.3), alpha 1/8, beta 1/4: RTTVAR first, with the old SRTT
            error = rtt - srtt
            self.rttvar += ((error if error > 0.0 else -error) - self.rttvar) * 0.25
            self.srtt = srtt = srtt + error * 0.125
        rto = srtt + 4.0 * self.rttvar
        self.rto = rto = self.min_rto if rto < self.min_rto else min(rto, self.max_rto)
        if self.probing and srtt + srtt < rto:
            self.wait = srtt + srtt if srtt > SHORTEST_PROBE_TIMEOUT / 2 else SHORTEST_PROBE_TIMEOUT
        else:
            self.wait = rto

    def on_timeout(self) -> None:
        """Back off the timer, RFC 6298 (5.5)."""
        self.rto = self.wait = min(self.rto * 2, self.max_rto)

    def restart(self, rto: float) -> None:
        """Begin with another initial RTO, RFC 6298 (5.7)."""
        self.rto = self.wait = rto
