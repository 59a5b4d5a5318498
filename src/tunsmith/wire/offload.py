"""What the virtio header leaves to be done, done in software: checksums completed, super-segments cut.

The stack always emits frames as if somebody behind it could offload. Where nobody can (a device without
the offload flags, a capture, the simulated network), `segment` turns each frame into the packets that
a network card would have sent. Linux does the same in tcp_gso_segment and __udp_gso_segment.
"""

from __future__ import annotations

from struct import Struct

from tunsmith.errors import WireError
from tunsmith.wire import tcp, udp
from tunsmith.wire.checksum import Buffer, finish, ones_sum, pseudo_sum
from tunsmith.wire.ethernet import parse_ethernet
from tunsmith.wire.ip import IpHeader, parse_ip
from tunsmith.wire.vnet import (
    GSO_ECN,
    GSO_NONE,
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP_L4,
    NEEDS_CSUM,
    PLAIN,
    VNET,
    VNET_HDR_LEN,
    moved,
)

_PROTOCOL = {GSO_TCPV4: 6, GSO_TCPV6: 6, GSO_UDP_L4: 17}
_U16 = Struct(">H")
_U16_PAIR = Struct(">HH")
_U32 = Struct(">I")


def complete_checksum(frame: Buffer) -> bytes:
    """A copy of `frame` whose transport checksum is complete, and whose virtio header asks for and
    promises nothing about it. A frame that needs none is only copied, header and all.

    Raises WireError: `vnet_short`, `vnet_checksum` (the field lies outside)."""
    if len(frame) < VNET_HDR_LEN:
        raise WireError("vnet_short")
    flags, gso_type, header_length, gso_size, start, offset = VNET.unpack_from(frame)
    if not flags & NEEDS_CSUM:
        return bytes(frame)
    begin = VNET_HDR_LEN + start
    field = begin + offset
    if field + 2 > len(frame):
        raise WireError("vnet_checksum")
    view = memoryview(frame)
    return b"".join(
        (
            VNET.pack(0, gso_type, header_length, gso_size, 0, 0) if gso_type else PLAIN,
            view[VNET_HDR_LEN:field],
            _U16.pack(finish(ones_sum(view[begin:]))),
            view[field + 2 :],
        )
    )


def segment(frame: Buffer) -> list[bytes]:
    """The frames that `frame` stands for, each a finished packet: no offload wanted, checksums complete.

    A TCP super-segment becomes segments of `gso_size` bytes of payload (FIN and PSH on the last only;
    CWR on the first only, RFC 3168 §6.1.2), a UDP one (USO) datagrams; IPv4 identifications count up.
    A frame that is no super-segment comes back alone. Raises WireError: `vnet_short`, `vnet_checksum`,
    `gso_type`, `gso_size`, `gso_header`, and those of `parse_ip`."""
    if len(frame) < VNET_HDR_LEN:
        raise WireError("vnet_short")
    flags, gso_type, _, gso_size, start, _ = VNET.unpack_from(frame)
    kind = gso_type & ~GSO_ECN
    if kind == GSO_NONE:
        return [complete_checksum(frame)]
    protocol = _PROTOCOL.get(kind)
    if protocol is None:
        raise WireError("gso_type")
    if not gso_size:
        raise WireError("gso_size")
    packet = memoryview(frame)[VNET_HDR_LEN:]
    ip = parse_ip(packet)
    begin = start if flags & NEEDS_CSUM else ip.header_length
    body = _body(packet, ip, protocol, begin)
    pieces = [packet[at : at + gso_size] for at in range(body, len(packet), gso_size)] or [packet[body:]]

    network = bytearray(packet[:begin])
    transport = bytearray(packet[begin:body])
    checksum_at = tcp.CHECKSUM_OFFSET if protocol == 6 else udp.CHECKSUM_OFFSET
    stamp = _TcpStamp(transport, gso_size, len(pieces)) if protocol == 6 else _UdpStamp(transport)
    addresses = ip.source + ip.destination
    frames = []
    for index, piece in enumerate(pieces):
        length = len(transport) + len(piece)
        stamp(index, length)
        _U16.pack_into(transport, checksum_at, 0)
        total = pseudo_sum(addresses, protocol, length) + ones_sum(transport) + ones_sum(piece)
        _U16.pack_into(transport, checksum_at, finish(total))
        _stamp_network(network, ip, index, length)
        frames.append(b"".join((PLAIN, network, transport, piece)))
    return frames


def segment_ethernet(frame: Buffer) -> list[bytes]:
    """As `segment`, for a frame with an Ethernet header, which each piece gets. Raises WireError `ethernet_short`
    as well."""
    header = parse_ethernet(frame[VNET_HDR_LEN:])
    if not frame[1]:
        return [complete_checksum(frame)]
    end = VNET_HDR_LEN + header.length
    link = bytes(frame[VNET_HDR_LEN:end])
    pieces = segment(moved(frame, -header.length) + bytes(frame[end:]))
    return [b"".join((PLAIN, link, memoryview(piece)[VNET_HDR_LEN:])) for piece in pieces]


def _body(packet: memoryview, ip: IpHeader, protocol: int, begin: int) -> int:
    """Where the transport payload begins; the transport header at `begin` must be whole."""
    shortest = tcp.HEADER_LENGTH if protocol == 6 else udp.HEADER_LENGTH
    if ip.total_length != len(packet) or begin < ip.header_length or begin + shortest > len(packet):
        raise WireError("gso_header")
    length = (packet[begin + 12] >> 4) * 4 if protocol == 6 else shortest
    if length < shortest or begin + length > len(packet):
        raise WireError("gso_header")
    return begin + length


def _stamp_network(network: bytearray, ip: IpHeader, index: int, length: int) -> None:
    """Make `network` the IP header of the `index`th packet, in front of `length` bytes."""
    if ip.family.version == 6:
        _U16.pack_into(network, 4, len(network) - ip.header_length + length)
        return
    _U16_PAIR.pack_into(network, 2, len(network) + length, (ip.identification + index) & 0xFFFF)
    _U16.pack_into(network, 10, 0)
    _U16.pack_into(network, 10, finish(ones_sum(network)))


class _TcpStamp:
    """Makes `header` the TCP header of one segment after the other."""

    __slots__ = ("_flags", "_header", "_last", "_seq", "_size")

    def __init__(self, header: bytearray, size: int, count: int) -> None:
        self._header = header
        self._size = size
        self._last = count - 1
        self._seq: int = _U32.unpack_from(header, 4)[0]
        self._flags = header[13]

    def __call__(self, index: int, length: int) -> None:
        flags = self._flags
        if index:
            flags &= ~tcp.CWR
        if index != self._last:
            flags &= ~(tcp.FIN | tcp.PSH)
        self._header[13] = flags
        _U32.pack_into(self._header, 4, (self._seq + index * self._size) & 0xFFFFFFFF)


class _UdpStamp:
    """Makes `header` the UDP header of one datagram after the other."""

    __slots__ = ("_header",)

    def __init__(self, header: bytearray) -> None:
        self._header = header

    def __call__(self, index: int, length: int) -> None:
        _U16.pack_into(self._header, 4, length)
