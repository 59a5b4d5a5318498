from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunsmith.errors import WireError
from tunsmith.wire.checksum import ones_sum, partial, pseudo_sum
from tunsmith.wire.ethernet import build_ethernet
from tunsmith.wire.ip import IPV4, IPV6, IpFamily, IpHeader, parse_ip
from tunsmith.wire.offload import complete_checksum, segment, segment_ethernet
from tunsmith.wire.tcp import ACK, CWR, FIN, PSH, TCP, TIMESTAMP_LENGTH
from tunsmith.wire.udp import UDP
from tunsmith.wire.vnet import (
    DATA_VALID,
    GSO_ECN,
    GSO_UDP,
    GSO_UDP_L4,
    NEEDS_CSUM,
    PLAIN,
    VNET,
    VNET_HDR_LEN,
    moved,
)

SOURCE = {IPV4: b"\x0a\0\0\x01", IPV6: bytes(15) + b"\x01"}
DESTINATION = {IPV4: b"\xc0\xa8\0\x02", IPV6: b"\xfd" + bytes(14) + b"\x02"}
TIMESTAMPS = b"\x01\x01\x08\x0a" + bytes(8)

families = st.sampled_from([IPV4, IPV6])
payloads = st.binary(max_size=4000)


def unfinished(
    family: IpFamily,
    protocol: int,
    header: bytes,
    payload: bytes,
    gso: tuple[int, int],
    identification: int = 0,
) -> bytes:
    """A frame whose transport checksum is the pseudo header's sum, as kernels and our stack emit it."""
    at = 16 if protocol == 6 else 6
    length = len(header) + len(payload)
    addresses = SOURCE[family] + DESTINATION[family]
    field = partial(pseudo_sum(addresses, protocol, length)).to_bytes(2, "big")
    ip = family.header(
        SOURCE[family], DESTINATION[family], protocol, length, identification=identification, traffic_class=3
    )
    vnet = VNET.pack(NEEDS_CSUM, gso[0], len(ip) + len(header), gso[1], len(ip), at)
    return vnet + ip + header[:at] + field + header[at + 2 :] + payload


def tcp_frame(
    family: IpFamily, payload: bytes, gso_size: int, flags: int, seq: int = 1, ident: int = 0, ecn: int = 0
) -> bytes:
    words = (20 + TIMESTAMP_LENGTH) // 4
    header = TCP.pack(1234, 80, seq, 99, words << 12 | flags, 512, 0, 0) + TIMESTAMPS
    return unfinished(family, 6, header, payload, (family.gso_tcp | ecn if gso_size else 0, gso_size), ident)


def udp_frame(family: IpFamily, payload: bytes, gso_size: int) -> bytes:
    header = UDP.pack(5000, 443, 8 + len(payload), 0)
    return unfinished(family, 17, header, payload, (GSO_UDP_L4 if gso_size else 0, gso_size))


def checked(frame: bytes) -> tuple[IpHeader, bytes]:
    """IP header and transport bytes of a finished frame, after all its checksums verified."""
    assert frame[:VNET_HDR_LEN] == bytes(VNET_HDR_LEN)
    packet = frame[VNET_HDR_LEN:]
    ip = parse_ip(packet)
    assert ip.total_length == len(packet)
    transport = packet[ip.header_length :]
    assert (
        ones_sum(transport) + pseudo_sum(ip.source + ip.destination, ip.protocol, len(transport))
    ) % 65535 == 0
    return ip, transport


@given(
    families,
    payloads,
    st.integers(1, 1460),
    st.integers(0, 255),
    st.integers(0, 2**32 - 1),
    st.integers(0, 65535),
)
def test_tcp_segments_are_the_super_segment(
    family: IpFamily, payload: bytes, size: int, flags: int, seq: int, ident: int
) -> None:
    frames = segment(tcp_frame(family, payload, size, flags, seq, ident))
    rejoined = b""
    for index, frame in enumerate(frames):
        ip, transport = checked(frame)
        source, destination, seq32, ack, word, window, _, urgent = TCP.unpack_from(transport)
        assert (source, destination, ack, window, urgent) == (1234, 80, 99, 512, 0)
        assert transport[20:32] == TIMESTAMPS
        assert seq32 == (seq + len(rejoined)) % 2**32
        last, first = index == len(frames) - 1, index == 0
        assert word & 0xFF == flags & ~(0 if last else FIN | PSH) & ~(0 if first else CWR)
        assert len(transport) == 32 + size or last
        assert ip.traffic_class == 3
        if family is IPV4:
            assert ip.identification == (ident + index) % 65536
        rejoined += transport[32:]
    assert rejoined == payload
    assert len(frames) == max(1, -(-len(payload) // size))


@given(families, payloads, st.integers(1, 1472))
def test_udp_datagrams_are_the_super_segment(family: IpFamily, payload: bytes, size: int) -> None:
    datagrams = []
    for frame in segment(udp_frame(family, payload, size)):
        _, transport = checked(frame)
        source, destination, length, checksum = UDP.unpack_from(transport)
        assert (source, destination, length) == (5000, 443, len(transport))
        assert checksum != 0
        datagrams.append(transport[8:])
    assert b"".join(datagrams) == payload
    assert all(len(datagram) == size for datagram in datagrams[:-1])


@given(families, payloads, st.booleans())
def test_completing_a_checksum_changes_nothing_else(family: IpFamily, payload: bytes, is_tcp: bool) -> None:
    frame = tcp_frame(family, payload, 0, ACK) if is_tcp else udp_frame(family, payload, 0)
    finished = complete_checksum(frame)
    checked(finished)
    field = VNET_HDR_LEN + family.header_length + (16 if is_tcp else 6)
    assert (
        finished[VNET_HDR_LEN:field] + finished[field + 2 :] == frame[VNET_HDR_LEN:field] + frame[field + 2 :]
    )
    assert segment(frame) == [finished]


def test_a_super_segment_may_have_its_checksum_completed_whole() -> None:
    whole = complete_checksum(tcp_frame(IPV4, bytes(5000), 1448, ACK))
    assert VNET.unpack_from(whole)[:4] == (0, IPV4.gso_tcp, 52, 1448)
    checked(bytes(VNET_HDR_LEN) + whole[VNET_HDR_LEN:])


def test_a_frame_that_wants_nothing_is_only_copied() -> None:
    frame = VNET.pack(DATA_VALID, 0, 0, 0, 0, 0) + bytes(20)
    assert complete_checksum(memoryview(frame)) == frame


def test_ecn_super_segments_are_cut_like_others() -> None:
    frames = segment(tcp_frame(IPV6, bytes(3000), 1000, ACK | CWR, ecn=GSO_ECN))
    assert [checked(frame)[1][13] for frame in frames] == [ACK | CWR, ACK, ACK]


def test_extension_headers_stay_in_front_of_every_segment() -> None:
    frame = udp_frame(IPV6, bytes(20), 10)
    vnet = VNET.pack(NEEDS_CSUM, GSO_UDP_L4, 0, 10, 48, 6)
    hop_by_hop = b"\x11\0\x01\x04\0\0\0\0"
    fixed = frame[10:14] + (8 + 28).to_bytes(2, "big") + b"\0" + frame[17:50]
    first, second = segment(vnet + fixed + hop_by_hop + frame[50:])
    for piece in (first, second):
        assert piece[50:58] == hop_by_hop
        assert parse_ip(piece[10:]).total_length == len(piece) - 10 == 40 + 8 + 8 + 10


@pytest.mark.parametrize(
    ("vnet", "packet", "reason"),
    [
        ((0, GSO_UDP, 0, 100, 0, 0), bytes(40), "gso_type"),
        ((0, IPV4.gso_tcp, 0, 0, 0, 0), bytes(40), "gso_size"),
        ((0, IPV4.gso_tcp, 0, 100, 0, 0), IPV4.header(bytes(4), bytes(4), 6, 19) + bytes(19), "gso_header"),
        ((0, IPV4.gso_tcp, 0, 100, 0, 0), IPV4.header(bytes(4), bytes(4), 6, 20) + bytes(20), "gso_header"),
        (
            (0, IPV4.gso_tcp, 0, 100, 0, 0),
            IPV4.header(bytes(4), bytes(4), 6, 20) + b"\xff" * 20,
            "gso_header",
        ),
        ((0, IPV4.gso_tcp, 0, 100, 0, 0), IPV4.header(bytes(4), bytes(4), 6, 20) + bytes(99), "gso_header"),
        (
            (NEEDS_CSUM, GSO_UDP_L4, 0, 9, 4, 6),
            IPV4.header(bytes(4), bytes(4), 17, 8) + bytes(8),
            "gso_header",
        ),
        ((NEEDS_CSUM, 0, 0, 0, 40, 16), bytes(57), "vnet_checksum"),
    ],
)
def test_headers_that_lie_are_refused(vnet: tuple[int, ...], packet: bytes, reason: str) -> None:
    with pytest.raises(WireError) as caught:
        segment(VNET.pack(*vnet) + packet)
    assert caught.value.reason == reason


@given(
    st.integers(0, 3),
    st.sampled_from([0, 1, 3, 4, 5, 0x81, 0x84, 77]),
    st.integers(0, 70),
    st.integers(0, 70),
    st.integers(0, 20),
    st.binary(max_size=120),
    st.booleans(),
)
def test_random_frames_raise_nothing_but_wire_errors(
    flags: int, gso_type: int, size: int, start: int, offset: int, body: bytes, framed: bool
) -> None:
    packet = IPV4.header(bytes(4), bytes(4), 6, len(body)) + body if framed else body
    try:
        frames = segment(VNET.pack(flags, gso_type, 0, size, start, offset) + packet)
    except WireError:
        return
    assert frames
    for frame in frames:
        assert len(frame) <= VNET_HDR_LEN + len(packet)


@pytest.mark.parametrize("vlan", [0, 7])
@pytest.mark.parametrize("family", [IPV4, IPV6])
def test_super_segments_on_ethernet_are_cut_and_each_piece_gets_the_header(
    family: IpFamily, vlan: int
) -> None:
    frame = tcp_frame(family, bytes(range(250)) * 20, 1000, ACK | PSH)
    link = build_ethernet(b"\2" * 6, b"\4" * 6, 0x0800 if family is IPV4 else 0x86DD, vlan)
    pieces = segment_ethernet(moved(frame, len(link)) + link + frame[VNET_HDR_LEN:])
    assert pieces == [piece[:VNET_HDR_LEN] + link + piece[VNET_HDR_LEN:] for piece in segment(frame)]
    assert len(pieces) == 5


def test_other_frames_on_ethernet_are_only_finished() -> None:
    arp = build_ethernet(b"\xff" * 6, b"\4" * 6, 0x0806) + bytes(28)
    assert segment_ethernet(PLAIN + arp) == [PLAIN + arp]
    with pytest.raises(WireError, match="ethernet_short"):
        segment_ethernet(PLAIN + b"short")


def test_a_frame_without_room_for_its_virtio_header_is_refused() -> None:
    for cut in range(VNET_HDR_LEN):
        for finish in (complete_checksum, segment):
            with pytest.raises(WireError) as caught:
                finish(bytes(cut))
            assert caught.value.reason == "vnet_short"
