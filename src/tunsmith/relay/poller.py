"""Readiness of many descriptors, behind one descriptor of the event loop.

A flow needs two callbacks from the kernel and nothing else of asyncio: no handle, no context, no task.
So the sockets of flows, and the device, sit in an epoll set of our own, and the event loop watches that
set. Being ready costs one dictionary look-up; opening costs one system call and closing none, because
a closed descriptor leaves its set by itself. Timers, tasks and signals stay with the loop.
"""

from __future__ import annotations

import asyncio
import select
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

IN = select.EPOLLIN
PRI = select.EPOLLPRI
OUT = select.EPOLLOUT
RDHUP = select.EPOLLRDHUP
"""The peer has ended its half, and nothing but what can be read now will come."""
ERROR = select.EPOLLERR
BROKEN = ERROR | select.EPOLLHUP
"""What is reported unasked; the interest of who waits for nothing else."""
NOTHING = 0

ROUNDS = 16
"""Looks at the set before timers and tasks of the loop get their turn."""
EVENTS = 256


def _nothing() -> None:
    """To do."""


class Poller:
    """Calls `handler(events)` for every descriptor that is ready; `events` may hold EPOLLERR and EPOLLHUP
    unasked, which reading or writing then explains. Level-triggered.

    What one look finds ready is handled between `begin()` and `end()`.

    What a handler raises goes to the loop's exception handler and is not felt by the others. One that raises in
    ROUNDS looks in a row would do so for ever: it is not called again."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        begin: Callable[[], None] = _nothing,
        end: Callable[[], None] = _nothing,
    ) -> None:
        self._loop = loop
        self._begin = begin
        self._end = end
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._faults: Counter[int] = Counter()
        """Of the present looks, by descriptor."""
        loop.add_reader(self._epoll.fileno(), self._run)

    def watch(self, fd: int, events: int, handler: Callable[[int], None]) -> None:
        """Call `handler` whenever `fd` is ready for `events`, from now on."""
        self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def change(self, fd: int, before: int, events: int) -> None:
        """Wait for other `events` of a watched `fd`. For NOTHING, errors are not reported either."""
        if not before:
            self._epoll.register(fd, events)
        elif events:
            self._epoll.modify(fd, events)
        else:
            self._epoll.unregister(fd)

    def forget(self, fd: int) -> None:
        """`fd` is about to be closed (and shared with nobody, or else `change` it to NOTHING first)."""
        self._handlers.pop(fd, None)

    def close(self) -> None:
        """Stop. The descriptors are their owners'."""
        self._loop.remove_reader(self._epoll.fileno())
        self._handlers.clear()
        self._epoll.close()

    def _run(self) -> None:
        handlers = self._handlers
        if self._faults:
            self._faults.clear()
        for _ in range(ROUNDS):
            ready = self._epoll.poll(0, EVENTS)
            if not ready:
                return
            self._begin()
            for fd, events in ready:
                handler = handlers.get(fd)
                if handler is not None:
                    try:
                        handler(events)
                    except Exception as error:
                        self._on_fault(fd, error)
            self._end()
            if self._epoll.closed:
                return

    def _on_fault(self, fd: int, error: Exception) -> None:
        self._faults[fd] += 1
        message = f"a flow handler failed: {error!r}"
        if self._faults[fd] == ROUNDS and fd in self._handlers:
            del self._handlers[fd]
            with suppress(OSError):  # its last act may have been to close
                self._epoll.unregister(fd)
            message += ", again and again: it is not called any more"
        self._loop.call_exception_handler({"message": message, "exception": error})
