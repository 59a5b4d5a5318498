"""A clock that stands still until told otherwise."""

from __future__ import annotations


class ManualClock:
    """Seconds since an origin of its own; call it to read it, as one calls time.monotonic."""

    __slots__ = ("_now",)

    def __init__(self, now: float = 1000.0) -> None:
        self._now = now

    def __call__(self) -> float:
        return self._now

    def advance(self, seconds: float) -> float:
        """Let `seconds` (not negative) pass; returns the new time."""
        return self.advance_to(self._now + seconds)

    def advance_to(self, when: float) -> float:
        """Go to `when`, which is not in the past; returns it."""
        if when < self._now:
            raise ValueError(f"time does not go back from {self._now} to {when}")
        self._now = when
        return when
