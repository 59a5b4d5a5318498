"""A device behind a bad path: what it reads and writes is lost, doubled, damaged and late on the way.

What happens to a frame is decided by a `Path` for each direction (testing/faults.py has one, driven by a
seed). Frames wait in the paths until their time has come; a timer makes the descriptor readable then, and
`read` first moves on whatever is due, in both directions.
"""

from __future__ import annotations

import ctypes
import math
import os
import select
import time
from collections.abc import Callable
from typing import Protocol

from tunsmith.device.base import FRAME_ROOM, Buffer, Device
from tunsmith.errors import WireError

_CLOCK_MONOTONIC = 1
_TFD_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
_NOW = 1e-9
"""The shortest alarm: zero would disarm the timer."""


class Path(Protocol):
    """One direction of a path. Times are those of the device's clock."""

    def send(self, frame: Buffer, now: float) -> None:
        """Put a frame on the path; it is copied. Raises WireError for one that no path carries."""

    def next_deadline(self) -> float | None:
        """When the next frame arrives."""

    def receive(self, now: float) -> list[bytes]:
        """The frames that have arrived, in order."""


class FaultyDevice:
    """`inner` behind the paths `inbound` (what is read) and `outbound` (what is written). Owns `inner`.

    `lost` counts what `inner` lost, not what the paths did."""

    def __init__(
        self, inner: Device, inbound: Path, outbound: Path, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._inner = inner
        self._inbound = inbound
        self._outbound = outbound
        self._clock = clock
        self.offload = inner.offload
        self.mtu = inner.mtu
        self.ethernet = inner.ethernet
        self.lost = inner.lost
        self._unsendable = 0
        self._arrived: list[bytes] = []  # the next one last
        self._buffer = memoryview(bytearray(FRAME_ROOM))
        self._alarm = _Alarm()
        self._alarm_at = math.inf
        """Setting a timer costs more than all the rest of a frame."""
        self._epoll = select.epoll()
        self._epoll.register(inner.fileno(), select.EPOLLIN)
        self._epoll.register(self._alarm.fd, select.EPOLLIN)
        self._fd = self._epoll.fileno()

    def fileno(self) -> int:
        return self._fd

    def read(self, buffer: memoryview) -> int:
        if self._fd < 0:
            raise OSError("the device is closed")
        if not self._arrived:
            self._move()
        if not self._arrived:
            raise BlockingIOError
        frame = self._arrived.pop()
        self._set_alarm()
        buffer[: len(frame)] = frame
        return len(frame)

    def write(self, parts: tuple[Buffer, ...]) -> None:
        if self._fd < 0:
            self.lost += 1
            return
        now = self._clock()
        try:
            self._outbound.send(b"".join(parts), now)
        except WireError:
            self._unsendable += 1
        self._hand_on(now)
        self._set_alarm()

    def close(self) -> None:
        if self._fd >= 0:
            self._fd = -1
            self._epoll.close()
            self._alarm.close()
            self._inner.close()

    def _move(self) -> None:
        """Take all that `inner` has, and hand on all that is due."""
        now = self._clock()
        try:
            while True:
                length = self._inner.read(self._buffer)
                try:
                    self._inbound.send(self._buffer[:length], now)
                except WireError:
                    pass  # lost on the way
        except BlockingIOError:
            pass
        self._arrived = self._inbound.receive(now)[::-1]
        self._hand_on(now)
        self._set_alarm()

    def _hand_on(self, now: float) -> None:
        for frame in self._outbound.receive(now):
            self._inner.write((frame,))
        self.lost = self._inner.lost + self._unsendable

    def _set_alarm(self) -> None:
        due = math.inf
        if self._arrived:
            due = -math.inf
        else:
            for path in (self._inbound, self._outbound):
                if (deadline := path.next_deadline()) is not None and deadline < due:
                    due = deadline
        if due != self._alarm_at:
            self._alarm_at = due
            self._alarm.set(0.0 if due == math.inf else max(due - self._clock(), _NOW))


class _Alarm:
    """A timerfd (Python has it from 3.13 on): readable when its time has come."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._settime = libc.timerfd_settime
        self.fd: int = libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_FLAGS)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def set(self, seconds: float) -> None:
        """Go off once in `seconds`; 0 means never."""
        whole = int(seconds)
        times = (ctypes.c_long * 4)(0, 0, whole, int((seconds - whole) * 1e9))
        if seconds and not any(times):
            times[3] = 1
        if self._settime(self.fd, 0, times, None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def close(self) -> None:
        os.close(self.fd)
