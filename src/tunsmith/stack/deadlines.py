"""All timers of a stack behind one question: when is something due next?

A heap of (due time, tie-breaker, weak reference to a connection). A connection has at most one entry that
counts, whose time is never later than its earliest timer. Entries that turn out to be early are put back
when they surface, so arming a timer for later costs nothing and arming it for sooner one push. A closed
connection leaves its entry behind but not itself: at thousands a second, the next ones are made of the
memory that is still warm.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from operator import itemgetter
from typing import Protocol
from weakref import ref

from tunsmith.stack.tcp.timers import NEVER

ENTRIES = 1024
"""How long the heap may grow before it is swept."""


class Timed(Protocol):
    """Something with timers, kept alive by others: `scheduled` is the time of its entry here, NEVER without."""

    timers: list[float]
    scheduled: float

    def on_timeout(self, now: float) -> None:
        """Run every timer that is due and disarm or re-arm it."""


class Deadlines:
    """Due times of any number of Timed objects."""

    __slots__ = ("_heap", "_limit", "_order", "on_earlier")

    def __init__(self) -> None:
        self.on_earlier: Callable[[float], None] | None = None
        """Called with the new earliest time whenever it moves forward, so that the owner can set its alarm."""
        self._heap: list[tuple[float, int, ref[Timed]]] = []
        self._order = 0
        self._limit = ENTRIES

    def schedule(self, timed: Timed, due: float) -> None:
        """Make sure `timed` is looked at no later than `due`."""
        if due < timed.scheduled:
            timed.scheduled = due
            self._order += 1
            heap = self._heap
            heappush(heap, (due, self._order, ref(timed)))
            if self.on_earlier is not None and heap[0][1] == self._order:
                self.on_earlier(due)
            if len(heap) > self._limit:
                self._sweep()

    def _sweep(self) -> None:
        """Drop the entries that do not count: those of connections that are gone, and the one that a timer far
        away leaves behind each time a near one passes in front of it."""
        counting = {}
        for entry in self._heap:
            timed = entry[2]()
            if timed is not None and entry[0] == timed.scheduled:
                counting[id(timed)] = entry
        self._heap[:] = sorted(counting.values(), key=itemgetter(0, 1))
        self._limit = max(ENTRIES, 4 * len(self._heap))

    def earliest(self) -> float | None:
        """The exact time of the earliest armed timer, or None."""
        heap = self._heap
        while heap:
            due, _, reference = heap[0]
            timed = reference()
            if timed is None:
                heappop(heap)
                continue
            real = min(timed.timers)
            if due == timed.scheduled and due == real:
                return due
            heappop(heap)
            if due == timed.scheduled:
                timed.scheduled = NEVER
                if real < NEVER:
                    self.schedule(timed, real)
        return None

    def run(self, now: float) -> None:
        """Let everything that is due at `now` happen; afterwards nothing is."""
        while (due := self.earliest()) is not None and due <= now:
            timed = heappop(self._heap)[2]()
            if timed is not None:
                timed.scheduled = NEVER
                timed.on_timeout(now)
                self.schedule(timed, min(timed.timers))
