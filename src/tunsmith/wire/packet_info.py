"""What stands in front of a packet where there is no virtio header: nothing, or a word about its family.

    none     the packet itself
    linux4   two bytes of flags and the Ethertype: a Linux TUN without IFF_NO_PI
    bsd4     the address family in four bytes, big endian: utun of macOS and iOS, tun of the BSDs

The word says nothing that the packet does not say: on the way in it is stepped over, on the way out it follows
from the version nibble.
"""

from __future__ import annotations

from dataclasses import dataclass

_AF_INET = 2


@dataclass(frozen=True, slots=True)
class PacketInfo:
    """The words for IPv4 and IPv6, of one length."""

    ipv4: bytes
    ipv6: bytes

    def __len__(self) -> int:
        return len(self.ipv4)

    def word(self, first: int) -> bytes:
        """The word for the packet whose first byte is `first`."""
        return self.ipv6 if first >> 4 == 6 else self.ipv4


def bsd4(af_inet6: int = 30) -> PacketInfo:
    """The words of a system where AF_INET6 is 30 (macOS, iOS), 28 (FreeBSD) or 24 (OpenBSD, NetBSD)."""
    return PacketInfo(_AF_INET.to_bytes(4, "big"), af_inet6.to_bytes(4, "big"))


def offset(length: int) -> PacketInfo:
    """`length` bytes that mean nothing: zero on the way out, ignored on the way in."""
    return PacketInfo(bytes(length), bytes(length))


NONE = PacketInfo(b"", b"")
LINUX4 = PacketInfo(b"\0\0\x08\x00", b"\0\0\x86\xdd")
BSD4 = bsd4()
