"""What keeps ICMP errors and challenge ACKs from being an amplifier."""

from __future__ import annotations

from collections.abc import Callable


class RateLimit:
    """A token bucket: allows `burst` events at once and `rate` a second in the long run, RFC 4443 §2.4 f."""

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


class BlurredLimit:
    """Allows at least `rate` events a second, and up to a quarter more (RFC 5961 §7). How many is drawn anew each
    second: who counts the answers that he gets cannot tell from them what others got (CVE-2016-5696)."""

    __slots__ = ("_left", "_random", "_rate", "_until")

    def __init__(self, rate: float, random: Callable[[int], bytes]) -> None:
        self._rate = int(rate)
        self._random = random
        self._left = 0
        self._until = float("-inf")

    def allow(self, now: float) -> bool:
        """Whether one more event may happen at `now` (seconds)."""
        if now >= self._until:
            self._until = now + 1.0
            self._left = self._rate + int.from_bytes(self._random(4), "big") % (self._rate // 4 + 1)
        self._left -= 1
        return self._left >= 0
