"""Two devices joined by a wire in memory: what one writes the other reads, whole and in order."""

from __future__ import annotations

import os
from collections import deque

from tunsmith.device.base import ALL_OFFLOADS, Buffer, described


class MemoryDevice:
    """One end of a pair. `limit` frames wait at most; more are lost, as in a transmit queue."""

    def __init__(self, offload: int, mtu: int, limit: int, ethernet: bool) -> None:
        self.offload = offload
        self.mtu = mtu
        self.ethernet = ethernet
        self.lost = 0
        self._limit = limit
        self._frames: deque[bytes] = deque()
        self._peer: MemoryDevice = self
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    @classmethod
    def pair(
        cls, offload: int = ALL_OFFLOADS, mtu: int = 1500, limit: int = 1024, *, ethernet: bool = False
    ) -> tuple[MemoryDevice, MemoryDevice]:
        """Two connected ends."""
        left, right = cls(offload, mtu, limit, ethernet), cls(offload, mtu, limit, ethernet)
        left._peer, right._peer = right, left
        return left, right

    def fileno(self) -> int:
        return self._event

    def read(self, buffer: memoryview) -> int:
        if self._event < 0:
            raise OSError("the device is closed")
        if not self._frames:
            raise BlockingIOError
        frame = self._frames.popleft()
        if not self._frames:
            os.eventfd_read(self._event)
        buffer[: len(frame)] = frame
        return len(frame)

    def write(self, parts: tuple[Buffer, ...]) -> None:
        peer = self._peer
        if self._event < 0 or peer._event < 0 or len(peer._frames) >= peer._limit:
            self.lost += 1
            return
        if not peer._frames:
            os.eventfd_write(peer._event, 1)
        peer._frames.append(b"".join(parts))

    def __repr__(self) -> str:
        return f"<MemoryDevice{described(self)}>"

    def close(self) -> None:
        if self._event >= 0:
            os.close(self._event)
            self._event = -1
