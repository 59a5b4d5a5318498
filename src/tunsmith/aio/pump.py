"""Keeps a stack going: frames from its devices, and its timers, by the event loop.

The descriptors of devices are watched for reading. When one is ready, a batch of frames goes through the stack,
which calls its handlers on the way; then everybody else gets a turn. For the stack's earliest deadline there is
one timer of the loop, moved forward when the stack says so.

For the stack, all that happens in one turn happens at one time: what a handler sends in the middle of a batch must
not be older than what the stack itself sends after it, or the peer would take the latter's timestamp for that of
an old duplicate (RFC 7323 §5). So everybody asks `now` here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from tunsmith.alarm import Alarm
from tunsmith.device.base import BATCH, FRAME_ROOM, Device
from tunsmith.stack.stack import Stack

Receive = Callable[[memoryview, int, float], None]
"""As Stack.receive_frame."""


class Pump:
    """Between devices and a stack, from `start` to `stop`. `on_lost(error)` is called when a device has gone,
    `on_quiet()` after every turn."""

    def __init__(
        self,
        clock: Callable[[], float],
        on_lost: Callable[[OSError], None],
        on_quiet: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._turn: float | None = None
        self._on_lost = on_lost
        self._on_quiet = on_quiet
        self._buffer = memoryview(bytearray(FRAME_ROOM))
        self._watched: dict[int, tuple[Callable[[memoryview], int], Receive]] = {}

    def now(self) -> float:
        """The time, which stands still during a turn."""
        return self._clock() if self._turn is None else self._turn

    def start(self, stack: Stack, devices: Iterable[tuple[Device, Receive]]) -> None:
        """Begin, on the running loop: frames of each device go to its `receive`."""
        self._loop = asyncio.get_running_loop()
        self._stack = stack
        for device, receive in devices:
            fd = device.fileno()
            self._loop.add_reader(fd, self._on_readable, fd, device.read, receive)
            self._watched[fd] = device.read, receive
        self._alarm = Alarm(self._loop, self._clock, self._on_deadline, stack.next_deadline)
        stack.deadlines.on_earlier = self._alarm.set
        self._alarm.set_next()

    def turn(self) -> None:
        """Take what has arrived by now, without waiting for the loop to say so."""
        for fd, (read, receive) in list(self._watched.items()):
            self._on_readable(fd, read, receive)

    def stop(self) -> None:
        """End what was started; the devices stay open. Idempotent."""
        self._stack.deadlines.on_earlier = None
        for fd in self._watched:
            self._loop.remove_reader(fd)
        self._watched.clear()
        self._alarm.cancel()

    def _on_readable(self, fd: int, read: Callable[[memoryview], int], receive: Receive) -> None:
        buffer, stack = self._buffer, self._stack
        now = self._turn = self._clock()
        lost: OSError | None = None
        stack.begin_batch()
        try:
            for _ in range(BATCH):
                try:
                    length = read(buffer)
                except BlockingIOError:
                    break
                except OSError as error:
                    lost = error
                    break
                receive(buffer, length, now)
        finally:
            stack.end_batch(now)
            self._turn = None
        if lost is not None:
            self._loop.remove_reader(fd)
            self._watched.pop(fd, None)
            self._on_lost(lost)
        self._on_quiet()

    def _on_deadline(self, now: float) -> None:
        self._turn = now
        try:
            self._stack.handle_timeout(now)
        finally:
            self._turn = None
        self._on_quiet()
