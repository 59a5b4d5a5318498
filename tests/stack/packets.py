"""IP packets by hand, and what came out of a stack, taken apart."""

from __future__ import annotations

from tunsmith.stack.stack import Stack
from tunsmith.wire.checksum import finish, ones_sum, pseudo_sum
from tunsmith.wire.icmp import ECHO_REQUEST, build_icmp
from tunsmith.wire.ip import IPV4, IPV6, IpFamily, IpHeader, parse_ip
from tunsmith.wire.offload import segment
from tunsmith.wire.vnet import VNET_HDR_LEN

HOST = {IPV4: b"\x0a\0\0\x01", IPV6: b"\xfd" + bytes(14) + b"\x01"}
STACK = {IPV4: b"\x0a\0\0\x02", IPV6: b"\xfd" + bytes(14) + b"\x02"}
FAMILIES = [IPV4, IPV6]


def name(family: IpFamily) -> str:
    """For parametrize(ids=...)."""
    return f"v{family.version}"


def udp_datagram(
    family: IpFamily,
    data: bytes,
    *,
    checksum: int | None = None,
    source: bytes | None = None,
    destination: bytes | None = None,
    length: int | None = None,
) -> bytes:
    """UDP header and payload from port 5000 to port 53; correct unless told otherwise."""
    head = (5000).to_bytes(2, "big") + (53).to_bytes(2, "big")
    head += (8 + len(data) if length is None else length).to_bytes(2, "big")
    addresses = (source or HOST[family]) + (destination or STACK[family])
    total = pseudo_sum(addresses, 17, 8 + len(data)) + ones_sum(head + b"\0\0" + data)
    return head + (finish(total) if checksum is None else checksum).to_bytes(2, "big") + data


def packet(
    family: IpFamily,
    protocol: int,
    payload: bytes,
    *,
    source: bytes | None = None,
    destination: bytes | None = None,
    **fields: int,
) -> bytes:
    """An IP packet from HOST to STACK."""
    source, destination = source or HOST[family], destination or STACK[family]
    return family.header(source, destination, protocol, len(payload), **fields) + payload


def udp_packet(family: IpFamily, data: bytes, **fields: int) -> bytes:
    return packet(family, 17, udp_datagram(family, data, **fields))  # type: ignore[arg-type]


def ping(family: IpFamily, data: bytes = b"ping", identifier: int = 7, sequence: int = 1) -> bytes:
    rest = identifier << 16 | sequence
    return build_icmp(family, HOST[family], STACK[family], ECHO_REQUEST[family], 0, rest, data)


def with_ipv4_options(whole: bytes, options: bytes) -> bytes:
    """`whole` with options (of whole words) in its IPv4 header."""
    head = bytearray(whole[:20])
    head[0] = 0x45 + len(options) // 4
    head[2:4] = (len(whole) + len(options)).to_bytes(2, "big")
    head[10:12] = b"\0\0"
    head[10:12] = finish(ones_sum(bytes(head) + options)).to_bytes(2, "big")
    return bytes(head) + options + whole[20:]


def sent(stack: Stack) -> list[tuple[IpHeader, bytes]]:
    """The packets that left, with complete checksums, as header and payload; checksums are checked."""
    out = []
    for frame in stack.frames_to_send():
        for piece in segment(frame):
            whole = piece[VNET_HDR_LEN:]
            header = parse_ip(whole)
            assert header.total_length == len(whole)
            payload = whole[header.header_length :]
            if header.protocol in (6, 17, 58) and not (header.more_fragments or header.fragment_offset):
                total = pseudo_sum(header.source + header.destination, header.protocol, len(payload))
                assert (total + ones_sum(payload)) % 0xFFFF == 0
            elif header.protocol == 1 and not (header.more_fragments or header.fragment_offset):
                assert ones_sum(payload) == 0
            out.append((header, payload))
    return out
