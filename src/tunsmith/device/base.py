"""Where packets come from and go to.

A device moves frames: a 10-byte virtio_net_hdr and one IP packet (wire/vnet.py), in either direction,
one whole frame a call. `read` fills the caller's buffer and keeps nothing; `write` has copied when it
returns. Neither blocks. testing/conformance.py checks any implementation against this page.
"""

from __future__ import annotations

from typing import Protocol

Buffer = bytes | bytearray | memoryview

FRAME_ROOM = 10 + 65535 + 96
"""A buffer of this size holds any frame, and what the stack may look at behind it."""

CHECKSUM, TSO4, TSO6, TSO_ECN, USO4, USO6 = 0x01, 0x02, 0x04, 0x08, 0x20, 0x40
"""Offload flags, as TUNSETOFFLOAD counts them: what the device takes and gives unfinished."""
TSO = CHECKSUM | TSO4 | TSO6
USO = USO4 | USO6


class Device(Protocol):
    """One packet device."""

    offload: int
    """The flags above that are in force, both ways."""
    mtu: int

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
