"""TCP flows between SYN and answer: the upstream is dialed first, then the application hears the truth.

A dial that is over at once, as on this machine and its containers, never waits here and needs no task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from tunsmith.dial.base import Stream
from tunsmith.errors import DialError
from tunsmith.flow import Target
from tunsmith.relay.faults import dial_failure, icmp_for, outcome_of

if TYPE_CHECKING:
    from tunsmith.dial.base import Dialer
    from tunsmith.relay.flows import FlowBook
    from tunsmith.relay.report import FlowRecord
    from tunsmith.stack.request import FlowRequest
    from tunsmith.wire.icmp import IcmpError

AT_ONCE = 1024
"""Flows waiting for their upstream at a time. Of a program that gave up waiting Linux rarely says a word, so when
there are more, the oldest is the one to forget: a scan past silent hosts must not hide the others."""


class Dial(NamedTuple):
    """A flow waiting for its upstream."""

    record: FlowRecord
    opening: asyncio.Future[Stream]


class Dials:
    """The dials of one engine. `on_open(request, record, stream)` takes over what succeeded."""

    def __init__(
        self,
        dialer: Dialer,
        book: FlowBook,
        on_open: Callable[[FlowRequest, FlowRecord, Stream], None],
        clock: Callable[[], float],
    ) -> None:
        self._dialer = dialer
        self._book = book
        self._on_open = on_open
        self._clock = clock
        self.waiting: dict[FlowRequest, Dial] = {}
        """Oldest first."""

    def begin(self, request: FlowRequest, record: FlowRecord, dialer: Dialer | None = None) -> None:
        """Dial `record.target` for `request`, by `dialer` where it is not the usual one."""
        self._book.pin(record)
        try:
            opening = (dialer or self._dialer).begin(record.target)
        except Exception as error:
            self._refuse(request, record, dial_failure(error, record.target))
            return
        if isinstance(opening, Stream):
            self._on_open(request, record, opening)
        else:
            self._wait(request, record, opening)

    def _wait(self, request: FlowRequest, record: FlowRecord, opening: Awaitable[Stream]) -> None:
        if len(self.waiting) >= AT_ONCE:
            self.give_up(next(iter(self.waiting)), "given up", None)
        task = asyncio.ensure_future(opening)
        self.waiting[request] = Dial(record, task)
        request.on_cancelled = partial(self.give_up, request, "given up", None)
        task.add_done_callback(partial(self._on_dialed, request))

    def _on_dialed(self, request: FlowRequest, task: asyncio.Future[Stream]) -> None:
        dial = self.waiting.pop(request, None)
        if dial is None:  # given up, perhaps in the moment between its end and this call
            if not task.cancelled() and task.exception() is None:
                task.result().sock.close()
            return
        try:
            stream = task.result()
        except Exception as error:
            self._refuse(request, dial.record, dial_failure(error, dial.record.target))
        else:
            self._on_open(request, dial.record, stream)

    def _refuse(self, request: FlowRequest, record: FlowRecord, error: DialError) -> None:
        meaning = icmp_for(error)
        now = self._clock()
        if meaning is None:
            request.refuse(now)
        else:
            request.unreachable(meaning, now)
        record.outcome = outcome_of(error)
        self._book.drops[f"dial_{record.outcome}"] += 1
        self._book.end(record)
        self._book.complain(error)

    def targets(self) -> set[Target]:
        """Where the flows that wait want to go."""
        return {dial.record.target for dial in self.waiting.values()}

    def give_up(self, request: FlowRequest, outcome: str, error: IcmpError | None) -> None:
        """End a dial, which closes what it has opened. Without `error` the application hears nothing."""
        record, task = self.waiting.pop(request)
        task.cancel()
        if error is None:
            request.drop()
        else:
            request.unreachable(error, self._clock())
        record.outcome = outcome
        self._book.drops[f"dial_{outcome}"] += 1
        self._book.end(record)

    def expire(self, before: float, error: IcmpError) -> None:
        """Give up dials that began before `before`, telling the application `error`."""
        for request in [request for request, dial in self.waiting.items() if dial.record.started < before]:
            self.give_up(request, "timeout", error)

    def close(self) -> None:
        """Give up all."""
        for request in list(self.waiting):
            self.give_up(request, "stopped", None)
