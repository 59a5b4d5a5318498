"""The one timer of an event loop that a stack needs.

A stack says when something is due next (`Stack.next_deadline`), and at once when that moves forward
(`Deadlines.on_earlier`); whoever drives it, the engine or the library, has one Alarm for it. A deadline that moves
back costs nothing: the alarm rings too early once, and is set again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Alarm:
    """Calls `ring(now)` at the earliest time that it was `set` to, then asks `next_due` for the next. Times are those
    of `clock`, in seconds."""

    __slots__ = ("_clock", "_due", "_loop", "_next_due", "_ring", "_timer")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        ring: Callable[[float], None],
        next_due: Callable[[], float | None],
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._ring = ring
        self._next_due = next_due
        self._due = float("inf")
        self._timer: asyncio.TimerHandle | None = None

    def set(self, due: float) -> None:
        """Ring at `due`, or earlier where it is set so already."""
        if due < self._due:
            if self._timer is not None:
                self._timer.cancel()
            self._due = due
            self._timer = self._loop.call_later(max(0.0, due - self._clock()), self._on_time)

    def _on_time(self) -> None:
        self._timer, self._due = None, float("inf")
        try:
            self._ring(self._clock())
        finally:  # what a handler raises must not stop the clock
            self.set_next()

    def set_next(self) -> None:
        """Ring when something is due next, if anything is."""
        due = self._next_due()
        if due is not None:
            self.set(due)

    def cancel(self) -> None:
        """Never ring again. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._due = None, float("-inf")  # nothing is earlier
