"""The way to ourselves."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from tunsmith.stack.output import Parts
from tunsmith.stack.stack import ROOM, Stack
from tunsmith.stack.tcp.timers import NEVER

LOOPBACK_FRAMES = 1024
LOOPBACK_DELAY = 1e-6
"""Seconds that a packet to ourselves takes: not none, so that two that answer each other do not stop the world."""


class Loopback:
    """Frames of a stack for itself, up to LOOPBACK_FRAMES of them. A Way and a Timed."""

    __slots__ = ("__weakref__", "_clock", "_frames", "_stack", "mtu", "scheduled", "timers")

    def __init__(self, stack: Stack, clock: Callable[[], float]) -> None:
        self._stack = stack
        self._clock = clock
        self._frames: deque[bytes] = deque()
        self.mtu = stack.config.mtu
        self.timers = [NEVER]
        self.scheduled = NEVER

    def send(self, next_hop: bytes, parts: Parts, *, forwarded: bool = False) -> None:
        """Have the frame received, soon."""
        if len(self._frames) >= LOOPBACK_FRAMES:
            self._stack.drops["loopback_queue"] += 1
            return
        self._frames.append(b"".join(parts))
        if self.timers[0] == NEVER:
            self.timers[0] = self._clock() + LOOPBACK_DELAY
            self._stack.deadlines.schedule(self, self.timers[0])

    def on_timeout(self, now: float) -> None:
        """What was sent arrives; what that provokes takes its time again."""
        self.timers[0] = NEVER
        for _ in range(len(self._frames)):
            frame = self._frames.popleft()
            self._stack.receive_frame(memoryview(frame + bytes(ROOM)), len(frame), now)
