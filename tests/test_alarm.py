"""The alarm rings at the earliest time that it was set to, whatever happens when it rings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tunsmith.alarm import Alarm


class Desk:
    """A loop and a clock of which only the next timer is of interest."""

    def __init__(self) -> None:
        self.now = 100.0
        self.due: float | None = None
        self.rung: list[float] = []
        self.timers: list[tuple[float, asyncio.TimerHandle]] = []
        self._loop = asyncio.new_event_loop()
        self.alarm = Alarm(self, lambda: self.now, self._ring, lambda: self.due)  # type: ignore[arg-type]
        self.fault: Exception | None = None

    def call_later(self, delay: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(self.now + delay, call, (), self._loop)
        self.timers.append((self.now + delay, handle))
        return handle

    def _ring(self, now: float) -> None:
        self.rung.append(now)
        if self.fault is not None:
            raise self.fault

    @property
    def pending(self) -> list[float]:
        return [when for when, handle in self.timers if not handle.cancelled()]

    def run(self) -> None:
        """Jump to the next timer. A loop reports what a callback raises, as Handle._run does."""
        self.timers = [timer for timer in self.timers if not timer[1].cancelled()]
        self.now, handle = self.timers.pop(0)
        handle._run()

    def close(self) -> None:
        self._loop.close()


def test_it_rings_at_the_earliest_time_it_was_set_to() -> None:
    desk = Desk()
    for due in (105.0, 102.0, 107.0, 102.0):
        desk.alarm.set(due)
    assert desk.pending == [102.0]
    desk.run()
    assert desk.rung == [102.0]
    assert not desk.pending
    desk.close()


def test_what_is_overdue_is_rung_for_in_the_next_turn() -> None:
    desk = Desk()
    desk.alarm.set(5.0)
    assert desk.pending == [desk.now]
    desk.close()


def test_it_is_set_again_for_what_is_due_next() -> None:
    desk = Desk()
    desk.alarm.set_next()
    assert not desk.pending
    desk.alarm.set(101.0)
    desk.due = 130.0
    desk.run()
    assert desk.pending == [130.0]
    desk.close()


def test_it_goes_on_after_what_it_rang_for_has_raised() -> None:
    desk = Desk()
    reported: list[object] = []
    desk._loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
    desk.fault = ValueError("a fault")
    desk.alarm.set(101.0)
    desk.due = 102.0
    desk.run()
    assert reported == [desk.fault]
    assert desk.pending == [102.0]
    desk.close()


def test_once_cancelled_it_stays_silent() -> None:
    desk = Desk()
    desk.alarm.set(101.0)
    desk.alarm.cancel()
    desk.alarm.set(100.5)
    desk.alarm.cancel()
    assert not desk.pending
    desk.close()
