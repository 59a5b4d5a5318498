"""A descriptor that moves one packet with each system call, and knows no virtio header.

A TUN or TAP that somebody else opened, utun of macOS and iOS, a datagram socket to another program or machine.
Towards us each packet gets an empty virtio header; from us only finished packets go out. The packet
information in front of them is one of wire/packet_info.py.
"""

from __future__ import annotations

import os
import socket

from tunsmith.device.base import Buffer
from tunsmith.device.tun import TunDevice
from tunsmith.wire.packet_info import NONE, PacketInfo
from tunsmith.wire.vnet import PLAIN, VNET_HDR_LEN


class PacketDevice(TunDevice):
    """Packets of one descriptor that keeps them apart, non-blocking. Owns it. Without offload."""

    __slots__ = ("_info", "_word")

    def __init__(
        self,
        fd: int,
        mtu: int = 1500,
        *,
        packet_info: PacketInfo = NONE,
        ethernet: bool = False,
        name: str = "",
    ) -> None:
        super().__init__(fd, 0, mtu, ethernet=ethernet, name=name)
        self._info = packet_info
        self._word = bytearray(len(packet_info))

    def read(self, buffer: memoryview) -> int:
        word = self._word
        count = os.readv(self._fd, (word, buffer[VNET_HDR_LEN:]) if word else (buffer[VNET_HDR_LEN:],))
        if not count and _has_ended(self._fd):
            raise OSError("the other end is gone")
        buffer[:VNET_HDR_LEN] = PLAIN
        return VNET_HDR_LEN + max(0, count - len(word))

    def write(self, parts: tuple[Buffer, ...]) -> None:
        try:
            os.writev(self._fd, bare(parts, self._info))
        except OSError:
            self.lost += 1


def bare(parts: tuple[Buffer, ...], info: PacketInfo) -> tuple[Buffer, ...]:
    """The parts of a frame with `info` in the place of the virtio header."""
    head = memoryview(parts[0])[VNET_HDR_LEN:]
    if not info:
        return (head, *parts[1:])
    first = head if head else next(part for part in parts[1:] if part)
    return (info.word(first[0]), head, *parts[1:])


def _has_ended(fd: int) -> bool:
    """Whether nothing at all was read because nothing more will come; to a datagram socket it is a message."""
    try:
        with socket.socket(fileno=os.dup(fd)) as other:
            return other.type != socket.SOCK_DGRAM
    except OSError:
        return True
