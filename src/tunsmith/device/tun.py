"""The fd link: a descriptor that moves one whole frame with each system call.

That is a queue of a TUN or TAP with the virtio header, and just as well a datagram socket whose other end
speaks frames. Opening and configuring a TUN is host/tun.py's work, often in another namespace and process;
here its descriptor is used.
"""

from __future__ import annotations

import os

from tunsmith.device.base import Buffer, described


class TunDevice:
    """Frames of one descriptor: non-blocking, no packet information, virtio header of 10 bytes. Owns it.

    `name` is that of the interface, for people; it may be in another network namespace."""

    __slots__ = ("_fd", "ethernet", "lost", "mtu", "name", "offload")

    def __init__(
        self, fd: int, offload: int, mtu: int = 1500, *, ethernet: bool = False, name: str = ""
    ) -> None:
        self._fd = fd
        self.offload = offload
        self.mtu = mtu
        self.ethernet = ethernet
        self.name = name
        self.lost = 0

    def fileno(self) -> int:
        return self._fd

    def read(self, buffer: memoryview) -> int:
        return os.readv(self._fd, (buffer,))

    def write(self, parts: tuple[Buffer, ...]) -> None:
        try:
            os.writev(self._fd, parts)
        except OSError:  # full, down for the moment, or gone
            self.lost += 1

    def __repr__(self) -> str:
        return f"<{type(self).__name__}{' ' if self.name else ''}{self.name}{described(self)}>"

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
