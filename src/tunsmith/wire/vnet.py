"""virtio_net_hdr: the ten bytes before every packet (linux/virtio_net.h), and the offloads behind it.

A frame, everywhere in tunsmith, is this header followed by one IP packet (or one Ethernet frame, where the link
carries Ethernet). It says what is still to be
done to the packet: complete a checksum (NEEDS_CSUM), cut a super-segment into pieces of `gso_size`.
Towards us it also says that the kernel vouches for the packet, so no checksum need be computed.
Little endian: the native order of the machines we know, and what TUNSETVNETLE fixes elsewhere.
"""

from __future__ import annotations

from struct import Struct

from tunsmith.wire.checksum import Buffer

VNET_HDR_LEN = 10
VNET = Struct("<BBHHHH")
"""flags, gso_type, hdr_len, gso_size, csum_start, csum_offset."""

NEEDS_CSUM = 1
DATA_VALID = 2

GSO_NONE = 0
GSO_TCPV4 = 1
GSO_UDP = 3
GSO_TCPV6 = 4
GSO_UDP_L4 = 5
GSO_ECN = 0x80

PLAIN = bytes(VNET_HDR_LEN)
"""Nothing to be done: a complete packet."""

CHECKSUM, TSO4, TSO6, TSO_ECN, USO4, USO6 = 0x01, 0x02, 0x04, 0x08, 0x20, 0x40
"""Offload flags, as TUNSETOFFLOAD counts them (linux/if_tun.h): what a device takes and gives unfinished."""
TSO = CHECKSUM | TSO4 | TSO6
USO = USO4 | USO6
ALL_OFFLOADS = TSO | TSO_ECN | USO


def moved(frame: Buffer, distance: int) -> bytes:
    """The virtio header of `frame` for a packet that begins `distance` bytes later: behind a link-layer header that
    is put in front (positive) or taken away (negative)."""
    if not frame[0] and not frame[1]:
        return PLAIN
    flags, gso_type, header_length, gso_size, start, offset = VNET.unpack_from(frame)
    if flags & NEEDS_CSUM:
        start = max(0, start + distance)
    elif not gso_type:
        return VNET.pack(flags, 0, 0, 0, 0, 0)
    if header_length:
        header_length = max(0, header_length + distance)
    return VNET.pack(flags, gso_type, header_length, gso_size, start, offset)
