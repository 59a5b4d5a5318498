"""IPv4 (RFC 791) and IPv6 (RFC 8200) headers as one shape.

`IpFamily` carries what differs between the two versions; all code above takes it as a value instead of
branching. The fast layouts read a whole frame, virtio header included, in one `unpack_from` and give
the same tuple for both families. Addresses and ports come out as one bytes slice, the flow key,
because source, destination and both ports lie side by side in either version.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from tunsmith.errors import WireError
from tunsmith.wire.checksum import Buffer, ones_sum
from tunsmith.wire.tcp import CHECKSUM_OFFSET as TCP_CHECKSUM_OFFSET
from tunsmith.wire.vnet import GSO_NONE, GSO_TCPV4, GSO_TCPV6, NEEDS_CSUM, VNET, VNET_HDR_LEN

WHOLE = frozenset({0, 0x4000, b""})
"""Values of the fragment field of an unfragmented packet: IPv4 without and with DF; IPv6 has none there."""

DEFAULT_TTL = 64


@dataclass(frozen=True, slots=True, eq=False)
class IpFamily:
    """What differs between the IP versions. Lengths are bytes; `key_length` is both addresses and ports."""

    version: int
    address_length: int
    header_length: int
    key_length: int
    icmp: int
    gso_tcp: int
    minimum_mtu: int
    length_bias: int
    """What to add to the length field of the header to get the length of the packet."""
    payload_at: int
    """Where, in a frame, the payload of a packet without options begins."""
    end_bias: int
    """What to add to the length field of the header to get the end of the packet in a frame."""
    tcp_layout: Struct
    """vnet flags, IP length, fragment, protocol, key, seq, ack, offset and flags, window, option word, tsval, tsecr."""
    udp_layout: Struct
    """vnet flags, gso_type, gso_size (byte-swapped), IP length, fragment, protocol, key, UDP length, UDP checksum."""
    tcp_frame: Struct
    """To be packed: what is in front of the sequence number (vnet header, `head`, key), seq, ack, offset and flags,
    window, checksum, urgent pointer."""
    tcp_frame_with_timestamp: Struct
    """The same, and option word, tsval, tsecr."""
    tcp_vnet: bytes
    """The vnet header of a TCP segment whose checksum is still to be completed."""

    @property
    def longest(self) -> int:
        """The most that can follow a header in one packet."""
        return 65535 + self.length_bias - self.header_length

    def swap(self, key: bytes) -> bytes:
        """The key of the opposite direction."""
        n = self.address_length
        return key[n : 2 * n] + key[:n] + key[2 * n + 2 :] + key[2 * n : 2 * n + 2]

    def split(self, key: bytes) -> tuple[bytes, int, bytes, int]:
        """Source address, source port, destination address, destination port."""
        n = self.address_length
        ports = int.from_bytes(key[2 * n :], "big")
        return key[:n], ports >> 16, key[n : 2 * n], ports & 0xFFFF

    def key(self, source: bytes, source_port: int, destination: bytes, destination_port: int) -> bytes:
        """The key of a packet from `source` to `destination`."""
        return source + destination + (source_port << 16 | destination_port).to_bytes(4, "big")

    def ecn_field(self, frame: Buffer) -> int:
        """The ECN field of the packet in `frame`, RFC 3168 §5."""
        return frame[VNET_HDR_LEN + 1] >> (4 if self.version == 6 else 0) & 3

    def head(self, length: int, address_sum: int) -> bytes:
        """The header in front of the addresses, of a TCP segment of `length`. `address_sum` is the ones' complement
        sum of the addresses (wire/checksum.py). DF is set, identification 0."""
        if self.version == 6:
            return _IPV6_HEAD.pack(0x60000000, length, 6, DEFAULT_TTL)
        checksum = 0xFFFF - (_HEAD_WORDS + length + address_sum) % 0xFFFF
        return _IPV4_HEAD.pack(0x4500, 20 + length, 0, 0x4000, DEFAULT_TTL << 8 | 6, checksum)

    def marked_head(
        self,
        length: int,
        address_sum: int,
        traffic_class: int,
        ttl: int,
        identification: int = 0,
        df: bool = True,
    ) -> bytes:
        """The same with fields that are not the usual ones; IPv6 has no `identification` and `df`."""
        if self.version == 6:
            return _IPV6_HEAD.pack(0x60000000 | traffic_class << 20, length, 6, ttl)
        words = (0x4500 | traffic_class, 20 + length, identification, 0x4000 if df else 0, ttl << 8 | 6)
        return _IPV4_HEAD.pack(*words, 0xFFFF - (sum(words) + address_sum) % 0xFFFF)

    def header(
        self,
        source: bytes,
        destination: bytes,
        protocol: int,
        length: int,
        *,
        traffic_class: int = 0,
        ttl: int = DEFAULT_TTL,
        identification: int = 0,
        fragment: int = 0x4000,
    ) -> bytes:
        """A complete IP header in front of `length` bytes of payload. IPv4: DF set and identification 0
        unless told otherwise (an atomic datagram, RFC 6864)."""
        if self.version == 6:
            return _IPV6.pack(0x60000000 | traffic_class << 20, length, protocol, ttl, source, destination)
        total = 20 + length
        words = 0x4500 + traffic_class + total + identification + fragment + (ttl << 8 | protocol)
        words += int.from_bytes(source, "big") + int.from_bytes(destination, "big")
        return _IPV4.pack(
            0x45,
            traffic_class,
            total,
            identification,
            fragment,
            ttl,
            protocol,
            0xFFFF - words % 0xFFFF,
            source,
            destination,
        )


_IPV4 = Struct(">BBHHHBBH4s4s")
_IPV6 = Struct(">IHBB16s16s")
_IPV4_HEAD = Struct(">HHHHHH")
_IPV6_HEAD = Struct(">IHBB")
_HEAD_WORDS = 0x4500 + 20 + 0x4000 + (DEFAULT_TTL << 8 | 6)

IPV4 = IpFamily(
    version=4,
    address_length=4,
    header_length=20,
    key_length=12,
    icmp=1,
    gso_tcp=GSO_TCPV4,
    minimum_mtu=576,
    length_bias=0,
    payload_at=VNET_HDR_LEN + 20,
    end_bias=VNET_HDR_LEN,
    tcp_layout=Struct(f">B{VNET_HDR_LEN - 1}x 2xH2xHxB2x12s IIHH4x III"),
    udp_layout=Struct(f">BBxxH{VNET_HDR_LEN - 6}x 2xH2xHxB2x12s HH"),
    tcp_frame=Struct(">34sIIHHHH"),
    tcp_frame_with_timestamp=Struct(">34sIIHHHHIII"),
    tcp_vnet=VNET.pack(NEEDS_CSUM, GSO_NONE, 0, 0, 20, TCP_CHECKSUM_OFFSET),
)
IPV6 = IpFamily(
    version=6,
    address_length=16,
    header_length=40,
    key_length=36,
    icmp=58,
    gso_tcp=GSO_TCPV6,
    minimum_mtu=1280,
    length_bias=40,
    payload_at=VNET_HDR_LEN + 40,
    end_bias=VNET_HDR_LEN + 40,
    tcp_layout=Struct(f">B{VNET_HDR_LEN - 1}x 4xH0sBx36s IIHH4x III"),
    udp_layout=Struct(f">BBxxH{VNET_HDR_LEN - 6}x 4xH0sBx36s HH"),
    tcp_frame=Struct(">54sIIHHHH"),
    tcp_frame_with_timestamp=Struct(">54sIIHHHHIII"),
    tcp_vnet=VNET.pack(NEEDS_CSUM, GSO_NONE, 0, 0, 40, TCP_CHECKSUM_OFFSET),
)


def family_of(address: bytes) -> IpFamily:
    """The family of a packed address."""
    return IPV4 if len(address) == 4 else IPV6


def is_unicast(address: bytes) -> bool:
    """Whether one host can have `address`: not multicast, broadcast or unspecified."""
    if len(address) == 4:
        return 0 < address[0] < 224
    return address[0] != 0xFF and any(address)


@dataclass(slots=True)
class IpHeader:
    """One parsed header, for everything but the fast path. `header_length` includes IPv4 options;
    IPv6 extension headers are not walked here: `protocol` is the first next-header value."""

    family: IpFamily
    traffic_class: int
    total_length: int
    header_length: int
    identification: int
    fragment_offset: int
    more_fragments: bool
    ttl: int
    protocol: int
    source: bytes
    destination: bytes


def parse_ip(packet: Buffer) -> IpHeader:
    """Parse and check the IP header of `packet` (no virtio header in front).

    Raises WireError: `ip_short`, `ip_version`, `ip_length`, `ip_checksum`. Trailing bytes beyond the
    stated length are allowed (RFC 894 padding), a stated length beyond the buffer is not."""
    if len(packet) < 20:
        raise WireError("ip_short")
    version = packet[0] >> 4
    if version == 4:
        ihl, tos, total, ident, fragment, ttl, protocol, _, source, destination = _IPV4.unpack_from(packet)
        header_length = (ihl & 15) * 4
        if header_length < 20 or total < header_length or total > len(packet):
            raise WireError("ip_length")
        if ones_sum(packet[:header_length]):
            raise WireError("ip_checksum")
        return IpHeader(
            IPV4,
            tos,
            total,
            header_length,
            ident,
            (fragment & 0x1FFF) * 8,
            bool(fragment & 0x2000),
            ttl,
            protocol,
            source,
            destination,
        )
    if version == 6:
        if len(packet) < 40:
            raise WireError("ip_short")
        word, length, protocol, ttl, source, destination = _IPV6.unpack_from(packet)
        if 40 + length > len(packet):
            raise WireError("ip_length")
        return IpHeader(
            IPV6, word >> 20 & 0xFF, 40 + length, 40, 0, 0, False, ttl, protocol, source, destination
        )
    raise WireError("ip_version")
