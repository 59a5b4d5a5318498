"""Where packets come from and go to.

A device moves frames: a 10-byte virtio_net_hdr (wire/vnet.py) and one IP packet, or, where `ethernet` says
so, one Ethernet frame. One whole frame a call, in either direction. `read` fills the caller's buffer and keeps
nothing; `write` has copied when it returns. Neither blocks. testing/conformance.py checks any implementation
against this page.

Batches are the reader's: it reads until there is no more, or until it has had `limit` frames and others are
to have their turn (`read_batch`). A TUN gives one frame a system call, and that is up to 64 KiB.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tunsmith.wire.vnet import ALL_OFFLOADS as ALL_OFFLOADS
from tunsmith.wire.vnet import CHECKSUM as CHECKSUM
from tunsmith.wire.vnet import TSO as TSO
from tunsmith.wire.vnet import TSO_ECN as TSO_ECN
from tunsmith.wire.vnet import USO as USO

Buffer = bytes | bytearray | memoryview

FRAME_ROOM = 10 + 65535 + 96
"""A buffer of this size holds any frame, and what the stack may look at behind it."""
BATCH = 64
"""Frames read before others get their turn."""


class Device(Protocol):
    """One packet device."""

    offload: int
    """The offload flags of wire/vnet.py that are in force, both ways: frames may be read with such work left to do,
    and must not be written with any other."""
    mtu: int
    """Bytes of the longest IP packet, super-segments aside."""
    ethernet: bool
    """An Ethernet header stands between virtio header and packet."""

    def fileno(self) -> int:
        """A descriptor that is readable when `read` has a frame."""

    def read(self, buffer: memoryview) -> int:
        """One frame into `buffer` (FRAME_ROOM bytes); returns its length. Raises BlockingIOError when
        there is none now, OSError when the device has gone."""

    def write(self, parts: tuple[Buffer, ...]) -> None:
        """One frame, given as the parts to be joined; the first begins with the virtio header. A frame the device
        cannot take is lost and counted in `lost`, as on any link: writing happens in the middle of all else. That the
        device has gone is told by `read`."""

    lost: int
    """Frames lost in `write`."""

    def close(self) -> None:
        """Give the device back; idempotent."""


def described(device: Device) -> str:
    """What somebody who looks at a device wants to know, for its repr."""
    if device.fileno() < 0:
        return ", closed"
    kind = ", Ethernet" if device.ethernet else ""
    return f"{kind}, mtu {device.mtu}, {'super-segments' if device.offload & TSO else 'packets'}"


def read_batch(
    device: Device, buffer: memoryview, take: Callable[[memoryview, int], None], limit: int = BATCH
) -> bool:
    """Read at most `limit` frames into `buffer` (FRAME_ROOM bytes), one after the other, and call `take` with
    it and the length of each; `take` keeps no view. Returns whether there may be more now. Raises OSError
    when the device has gone."""
    read = device.read
    for _ in range(limit):
        try:
            length = read(buffer)
        except BlockingIOError:
            return False
        take(buffer, length)
    return True
