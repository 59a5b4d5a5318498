"""A TUN descriptor as a device. Opening and configuring it is host/tun.py's work, often in another
namespace and process; here it is adopted."""

from __future__ import annotations

import os

from tunsmith.device.base import Buffer


class TunDevice:
    """Frames of one TUN queue. Owns the descriptor."""

    __slots__ = ("_fd", "lost", "mtu", "offload")

    def __init__(self, fd: int, offload: int, mtu: int = 1500) -> None:
        self._fd = fd
        self.offload = offload
        self.mtu = mtu
        self.lost = 0

    @classmethod
    def adopt(cls, fd: int, offload: int, mtu: int = 1500) -> TunDevice:
        """Take over `fd`: non-blocking, IFF_NO_PI and IFF_VNET_HDR with a header of 10 bytes."""
        return cls(fd, offload, mtu)

    def fileno(self) -> int:
        return self._fd

    def read(self, buffer: memoryview) -> int:
        return os.readv(self._fd, (buffer,))

    def write(self, parts: tuple[Buffer, ...]) -> None:
        try:
            os.writev(self._fd, parts)
        except OSError:  # full, down for the moment, or gone
            self.lost += 1

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
