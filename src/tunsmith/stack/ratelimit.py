"""A token bucket: what keeps ICMP errors and challenge ACKs from being an amplifier."""

from __future__ import annotations


class RateLimit:
    """Allows `burst` events at once and `rate` a second in the long run. RFC 4443 §2.4 f, RFC 5961 §7."""

    __slots__ = ("_burst", "_filled_at", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._filled_at = 0.0

    def allow(self, now: float) -> bool:
        """Whether one more event may happen at `now` (seconds, any origin, not going backwards); takes
        a token if so."""
        elapsed = max(0.0, now - self._filled_at)
        self._tokens = min(self._burst, self._tokens + elapsed * self._rate)
        self._filled_at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
