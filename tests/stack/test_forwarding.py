from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stack.port import MAC, PEER_MAC, Bench, Port, packed
from tests.stack.test_router import Two, udp
from tunsmith.stack.nic import Nic
from tunsmith.wire.arp import REPLY, Arp, build_arp
from tunsmith.wire.checksum import partial, pseudo_sum
from tunsmith.wire.ethernet import ETHERTYPE_ARP, ETHERTYPE_IPV4
from tunsmith.wire.icmp import build_icmp
from tunsmith.wire.ip import IPV4, IPV6, IpFamily, parse_ip
from tunsmith.wire.offload import segment
from tunsmith.wire.tcp import ACK, TCP
from tunsmith.wire.vnet import GSO_UDP_L4, NEEDS_CSUM, PLAIN, VNET

NAMES = {IPV4: ("10.1.0.9", "10.2.0.9"), IPV6: ("fd01::9", "fd02::9")}
families = pytest.mark.parametrize("family", [IPV4, IPV6], ids=["v4", "v6"])


def super_segment(family: IpFamily, length: int = 30_000, size: int = 1400) -> tuple[bytes, bytes]:
    """Virtio header and packet, from left to right."""
    addresses = packed(NAMES[family][0]) + packed(NAMES[family][1])
    half = family.address_length
    total = 20 + length
    tcp = TCP.pack(1, 2, 1, 1, 0x5000 | ACK, 500, partial(pseudo_sum(addresses, 6, total)), 0)
    ip = family.header(addresses[:half], addresses[half:], 6, total)
    vnet = VNET.pack(NEEDS_CSUM, family.gso_tcp, len(ip) + 20, size, len(ip), 16)
    return vnet, ip + tcp + bytes(length)


@families
def test_packet_goes_on_one_hop_older__rfc1812_5_3_1(family: IpFamily) -> None:
    two = Two(forwarding=True)
    packet = udp(*NAMES[family])
    two.receive(two.left, packet)
    (frame,) = two.right_port.take()
    header = parse_ip(frame[10:])
    assert (header.ttl, frame[:10]) == (63, PLAIN)
    assert frame[10 + header.header_length :] == packet[header.header_length :]
    assert two.left_port.take() == []
    assert not two.stack.drops


@families
def test_nothing_is_forwarded_unless_wished(family: IpFamily) -> None:
    two = Two()
    two.receive(two.left, udp(*NAMES[family]))
    assert (two.right_port.take(), two.stack.drops) == ([], {"not_our_address": 1})


@families
def test_super_segments_go_on_whole(family: IpFamily) -> None:
    two = Two(forwarding=True)
    vnet, packet = super_segment(family)
    two.receive(two.left, packet, vnet)
    (frame,) = two.right_port.take()
    assert frame[:10] == vnet
    assert len(frame) == 10 + len(packet)
    assert parse_ip(frame[10:]).ttl == 63


@families
def test_super_segments_are_cut_where_the_way_on_has_no_offload(family: IpFamily) -> None:
    two = Two(forwarding=True, offload=0)
    vnet, packet = super_segment(family)
    two.receive(two.left, packet, vnet)
    frames = two.right_port.take()
    assert len(frames) == 22
    assert all(frame[:10] == PLAIN and len(frame) <= 1510 for frame in frames)


@families
@pytest.mark.parametrize("ttl", [0, 1])
def test_packet_that_is_too_old_is_reported__rfc1812_5_3_1__rfc4443_3_3(family: IpFamily, ttl: int) -> None:
    two = Two(forwarding=True)
    packet = udp(*NAMES[family], ttl=ttl)
    two.receive(two.left, packet)
    (frame,) = two.left_port.take()
    header = parse_ip(frame[10:])
    assert header.source in two.left.usable
    assert header.destination == packed(NAMES[family][0])
    message = frame[10 + header.header_length :]
    assert message[:2] == (b"\x0b\0" if family is IPV4 else b"\x03\0")
    assert message[8:] == packet
    assert two.stack.drops == {"forward_ttl": 1}


@families
def test_packet_too_big_is_reported_with_the_mtu__rfc1191_4__rfc4443_3_2(family: IpFamily) -> None:
    two = Two(forwarding=True, mtu=1280)
    two.receive(two.left, udp(*NAMES[family], data=bytes(1300)))
    (frame,) = two.left_port.take()
    header = parse_ip(frame[10:])
    message = frame[10 + header.header_length :]
    assert message[:2] == (b"\x03\x04" if family is IPV4 else b"\x02\0")
    assert int.from_bytes(message[4:8], "big") == 1280
    assert two.stack.drops == {"forward_too_big": 1}


@families
def test_super_segment_of_large_segments_is_too_big(family: IpFamily) -> None:
    two = Two(forwarding=True, mtu=1280)
    vnet, packet = super_segment(family, size=1400)
    two.receive(two.left, packet, vnet)
    assert (len(two.left_port.take()), len(two.right_port.take())) == (1, 0)
    vnet, packet = super_segment(family, size=1200)
    two.receive(two.left, packet, vnet)
    assert (len(two.left_port.take()), len(two.right_port.take())) == (0, 1)


def test_datagrams_of_a_super_datagram_count_for_themselves() -> None:
    two = Two(forwarding=True, mtu=1280)
    packet = udp(*NAMES[IPV4], data=bytes(6000))
    two.receive(two.left, packet, VNET.pack(NEEDS_CSUM, GSO_UDP_L4, 28, 1200, 20, 6))
    assert len(two.right_port.take()) == 1


def test_ipv4_is_cut_where_it_may_be__rfc1812_5_2_6() -> None:
    two = Two(forwarding=True, mtu=1280)
    two.receive(two.left, udp(*NAMES[IPV4], data=bytes(3000), fragment=0, identification=77))
    headers = [parse_ip(frame[10:]) for frame in two.right_port.take()]
    assert [header.fragment_offset for header in headers] == [0, 1256, 2512]
    assert {(header.identification, header.ttl) for header in headers} == {(77, 63)}


def test_super_datagrams_are_cut_twice_where_they_must() -> None:
    two = Two(forwarding=True, mtu=700)
    packet = udp(*NAMES[IPV4], data=bytes(2400), fragment=0, identification=77)
    two.receive(two.left, packet, VNET.pack(NEEDS_CSUM, GSO_UDP_L4, 28, 1200, 20, 6))
    headers = [parse_ip(frame[10:]) for frame in two.right_port.take()]
    assert [(header.fragment_offset, header.identification) for header in headers] == [
        (0, 77), (680, 77), (0, 78), (680, 78),
    ]  # fmt: skip


@families
def test_no_route_is_reported(family: IpFamily) -> None:
    tun = Nic(Port(), ["10.1.0.1/16", "fd01::1/32"])
    other = Nic(Port(), ["10.2.0.1/16", "fd02::1/32"])
    bench = Bench(tun, other, forwarding=True)
    for route in [route for route in bench.router.routes if route.network.prefixlen == 0]:
        bench.router.remove_route(route)
    source = "10.1.0.9" if family is IPV4 else "fd01::9"
    bench.receive(tun, udp(source, "192.0.2.1" if family is IPV4 else "2001:db8::1"))
    (frame,) = tun.device.take()  # type: ignore[attr-defined]
    assert frame[10 + family.header_length :][:2] == (b"\3\0" if family is IPV4 else b"\1\0")
    assert bench.stack.drops == {"no_route": 1}


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        ("127.0.0.1", "10.2.0.9"),
        ("10.1.0.9", "127.0.0.1"),
        ("224.0.0.1", "10.2.0.9"),
        ("0.0.0.0", "10.2.0.9"),
        ("169.254.1.1", "10.2.0.9"),
        ("::1", "fd02::9"),
        ("fe80::9", "fd02::9"),
        ("fd01::9", "fe80::9"),
        ("::", "fd02::9"),
        ("ff02::1", "fd02::9"),
    ],
)
def test_martians_stay_where_they_are__rfc1812_5_3_7(source: str, destination: str) -> None:
    two = Two(forwarding=True)
    two.receive(two.left, udp(source, destination))
    assert (two.left_port.take(), two.right_port.take()) == ([], [])
    assert two.stack.drops == {"forward_martian": 1}


def test_directed_broadcasts_stay_where_they_are__rfc2644() -> None:
    two = Two(forwarding=True)
    two.receive(two.left, udp("10.1.0.9", "10.2.255.255"))
    assert (two.right_port.take(), two.stack.drops) == ([], {"forward_broadcast": 1})


@families
def test_no_error_about_an_error__rfc1812_4_3_2_7(family: IpFamily) -> None:
    two = Two(forwarding=True)
    kind = 3 if family is IPV4 else 1
    source, destination = map(packed, NAMES[family])
    two.receive(two.left, build_icmp(family, source, destination, kind, 0, 0, bytes(60), ttl=1))
    assert two.left_port.take() == []
    two.receive(
        two.left, build_icmp(family, source, destination, 8 if family is IPV4 else 128, 0, 0, b"", ttl=1)
    )
    assert len(two.left_port.take()) == 1


def test_nor_where_the_error_stands_behind_extension_headers__rfc4443_2_4() -> None:
    two = Two(forwarding=True)
    source, destination = map(packed, NAMES[IPV6])
    for kind, answers in ((1, 0), (128, 1)):
        message = build_icmp(IPV6, source, destination, kind, 0, 0, bytes(60))[40:]
        padding = bytes((58, 0, 1, 4, 0, 0, 0, 0))
        head = IPV6.header(source, destination, 60, 8 + len(message), ttl=1)
        two.receive(two.left, head + padding + message)
        assert len(two.left_port.take()) == answers


def test_no_error_about_later_fragments__rfc1812_4_3_2_7() -> None:
    two = Two(forwarding=True)
    two.receive(two.left, udp(*NAMES[IPV4], ttl=1, fragment=100))
    assert (two.left_port.take(), two.stack.drops) == ([], {"forward_ttl": 1})


def test_errors_come_from_another_nic_where_this_one_has_no_address() -> None:
    left, right = Nic(Port()), Nic(Port(), ["10.2.0.1/16"])
    bench = Bench(left, right, forwarding=True)
    bench.receive(left, udp("10.1.0.9", "10.2.0.9", ttl=1))
    (frame,) = left.device.take()  # type: ignore[attr-defined]
    assert parse_ip(frame[10:]).source == packed("10.2.0.1")
    bench.receive(left, udp("fd01::9", "fd02::9", ttl=1))
    assert left.device.take() == []  # type: ignore[attr-defined]


def test_neighbour_that_does_not_answer_is_reported_to_the_source() -> None:
    tun, tap = Nic(Port(), ["10.1.0.1/16"]), Nic(Port(ethernet=True), ["10.2.0.1/16"], mac=MAC, probe=False)
    bench = Bench(tun, tap, forwarding=True)
    bench.receive(tun, udp("10.1.0.9", "10.2.0.9"))
    bench.run(3.0)
    (frame,) = tun.device.take()  # type: ignore[attr-defined]
    assert (parse_ip(frame[10:]).destination, frame[30:32]) == (packed("10.1.0.9"), b"\3\1")


def test_between_tun_and_ethernet() -> None:
    tun, tap = Nic(Port(), ["10.1.0.1/16"]), Nic(Port(ethernet=True), ["10.2.0.1/16"], mac=MAC, probe=False)
    bench = Bench(tun, tap, forwarding=True)
    vnet, packet = super_segment(IPV4)
    bench.receive(tun, packet, vnet)
    answer = build_arp(Arp(REPLY, PEER_MAC, packed("10.2.0.9"), MAC, packed("10.2.0.1")))
    bench.receive_ethernet(tap, ETHERTYPE_ARP, answer)
    question, frame = tap.device.frames()  # type: ignore[attr-defined]
    assert question.ethernet.ethertype == ETHERTYPE_ARP
    assert frame.ethernet[:3] == (PEER_MAC, MAC, ETHERTYPE_IPV4)
    assert VNET.unpack(frame.vnet) == (NEEDS_CSUM, 1, 54, 1400, 34, 16)
    assert len(segment(vnet + frame.payload)) == 22
    bench.receive_ethernet(tap, ETHERTYPE_IPV4, udp("10.2.0.9", "10.1.0.9"))
    (back,) = tun.device.take()  # type: ignore[attr-defined]
    assert parse_ip(back[10:]).ttl == 63


@given(st.binary(max_size=100), st.binary(min_size=10, max_size=10), st.sampled_from([0, 0x6F]))
def test_no_packet_makes_it_raise(rest: bytes, vnet: bytes, offload: int) -> None:
    two = Two(forwarding=True, offload=offload, mtu=576)
    for family in (IPV4, IPV6):
        source, destination = map(packed, NAMES[family])
        for protocol in (6, 17, family.icmp):
            for field in (0, 0x4000):
                head = family.header(source, destination, protocol, len(rest), fragment=field)
                two.receive(two.left, head + rest, vnet)
    two.receive(two.left, rest, vnet)


@families
@pytest.mark.parametrize("lie", ["no size", "no header"])
def test_super_segments_that_lie_are_dropped(family: IpFamily, lie: str) -> None:
    two = Two(forwarding=True)
    vnet, packet = super_segment(family)
    _, gso_type, length, size, start, offset = VNET.unpack(vnet)
    if lie == "no size":
        vnet = VNET.pack(NEEDS_CSUM, gso_type, length, 0, start, offset)
    else:
        vnet = VNET.pack(NEEDS_CSUM, gso_type, length, size, len(packet) - 5, offset)
    two.receive(two.left, packet, vnet)
    assert (two.right_port.take(), two.stack.drops) == ([], {"gso_header": 1})
