"""virtio_net_hdr: the ten bytes before every packet (linux/virtio_net.h).

A frame, everywhere in tunsmith, is this header followed by one IP packet. It says what is still to be
done to the packet: complete a checksum (NEEDS_CSUM), cut a super-segment into pieces of `gso_size`.
Towards us it also says that the kernel vouches for the packet, so no checksum need be computed.
Little endian: the native order of the machines we know, and what TUNSETVNETLE fixes elsewhere.
"""

from __future__ import annotations

from struct import Struct

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
