"""Keeps a stack going: frames from the device to the stack, and the stack's timers, by the event loop.

The device's descriptor is watched for reading. When it is ready, a batch of frames goes through the stack,
which calls its handlers on the way; then everybody else gets a turn. For the stack's earliest deadline there is
one timer of the loop, moved forward when the stack says so.

For the stack, all that happens in one turn happens at one time: what a handler sends in the middle of a batch must
not be older than what the stack itself sends after it, or the peer would take the latter's timestamp for that of
an old duplicate (RFC 7323 §5). So everybody asks `now` here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tunsmith.device.base import FRAME_ROOM, Device
from tunsmith.stack.stack import Stack

BATCH = 64
"""Frames read before others get their turn."""


class Pump:
    """Between `device` and a stack, from `start` to `stop`. `on_lost(error)` is called once if the device goes;
    `on_quiet()`, where set, after every turn."""

    def __init__(
        self, device: Device, clock: Callable[[], float], on_lost: Callable[[OSError], None]
    ) -> None:
        self._device = device
        self._clock = clock
        self._turn: float | None = None
        self._on_lost = on_lost
        self._buffer = memoryview(bytearray(FRAME_ROOM))
        self._wake_at = float("inf")
        self._timer: asyncio.TimerHandle | None = None
        self._fd = -1
        self.on_quiet: Callable[[], None] | None = None

    def now(self) -> float:
        """The time, which stands still during a turn."""
        return self._clock() if self._turn is None else self._turn

    def start(self, stack: Stack) -> None:
        """Begin, on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._stack = stack
        self._fd = self._device.fileno()
        self._loop.add_reader(self._fd, self._on_readable)
        stack.deadlines.on_earlier = self._wake

    def stop(self) -> None:
        """End what was started; the device stays open. Idempotent."""
        self._stack.deadlines.on_earlier = None
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            self._fd = -1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_readable(self) -> None:
        read, buffer, stack = self._device.read, self._buffer, self._stack
        now = self._turn = self._clock()
        lost: OSError | None = None
        stack.batching = True
        try:
            for _ in range(BATCH):
                try:
                    length = read(buffer)
                except BlockingIOError:
                    break
                except OSError as error:
                    lost = error
                    break
                stack.receive_frame(buffer, length, now)
        finally:
            stack.end_batch(now)
            self._turn = None
        if lost is not None:
            self._loop.remove_reader(self._fd)
            self._fd = -1
            self._on_lost(lost)
        if self.on_quiet is not None:
            self.on_quiet()

    def _wake(self, due: float) -> None:
        """The stack's earliest deadline may have moved to `due`."""
        if due < self._wake_at:
            if self._timer is not None:
                self._timer.cancel()
            self._wake_at = due
            self._timer = self._loop.call_later(max(0.0, due - self._clock()), self._on_deadline)

    def _on_deadline(self) -> None:
        self._timer, self._wake_at = None, float("inf")
        now = self._turn = self._clock()
        try:
            self._stack.handle_timeout(now)
        finally:  # what a handler raises must not stop the clock
            self._turn = None
            due = self._stack.next_deadline()
            if due is not None:
                self._wake(due)
        if self.on_quiet is not None:
            self.on_quiet()
