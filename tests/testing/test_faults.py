from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunsmith.errors import WireError
from tunsmith.testing.faults import Faults, Link
from tunsmith.wire.checksum import ones_sum, partial, pseudo_sum
from tunsmith.wire.ethernet import build_ethernet
from tunsmith.wire.ip import IPV4, parse_ip
from tunsmith.wire.udp import UDP
from tunsmith.wire.vnet import DATA_VALID, GSO_UDP_L4, NEEDS_CSUM, PLAIN, VNET, moved

ADDRESSES = b"\x0a\0\0\x01\x0a\0\0\x02"


def frame(payload: bytes, gso_size: int = 0) -> bytes:
    """A UDP frame whose checksum is left to somebody."""
    length = 8 + len(payload)
    udp = UDP.pack(1, 2, length, partial(pseudo_sum(ADDRESSES, 17, length)))
    vnet = VNET.pack(NEEDS_CSUM, GSO_UDP_L4 if gso_size else 0, 28, gso_size, 20, 6)
    return vnet + IPV4.header(ADDRESSES[:4], ADDRESSES[4:], 17, length) + udp + payload


def verifies(packet: bytes) -> bool:
    try:
        ip = parse_ip(packet)
    except WireError:
        return False
    if (ip.protocol, ip.header_length, ip.total_length) != (17, 20, len(packet)):
        return False
    transport = packet[20:]
    return (ones_sum(transport) + pseudo_sum(packet[12:20], 17, len(transport))) % 65535 == 0


def run(faults: Faults, count: int, gap: float = 0.001) -> list[tuple[float, int]]:
    """Send numbered packets `gap` apart; returns (time, number) as they arrive."""
    arrivals = [each for i in range(count) for each in faults.decide(frame(i.to_bytes(4, "big")), i * gap)]
    arrivals.sort(key=lambda arrival: arrival[0])
    return [(when, int.from_bytes(packet[38:42], "big")) for when, packet in arrivals]


def test_without_faults_a_packet_arrives_at_once_and_finished() -> None:
    ((when, packet),) = Faults(Random(1)).decide(frame(b"x"), 7.0)
    assert when == 7.0
    assert packet.startswith(PLAIN)
    assert verifies(packet[10:])


@pytest.mark.parametrize(
    ("fault", "counted"),
    [("loss", "lost"), ("duplicate", "duplicated"), ("reorder", "reordered"), ("corrupt", "corrupted")],
)
def test_accidents_happen_as_often_as_told_and_are_counted(fault: str, counted: str) -> None:
    for probability, low, high in ((0.0, 0, 0), (0.3, 250, 350), (1.0, 1000, 1000)):
        settings: dict[str, Any] = {fault: probability}
        faults = Faults(Random(7), **settings)
        arrived = run(faults, 1000)
        assert low <= faults.counts[counted] <= high
        assert len(arrived) == 1000 - faults.counts["lost"] + faults.counts["duplicated"]
        assert faults.counts["sent"] == 1000


def test_the_same_seed_is_the_same_network() -> None:
    def once(seed: int) -> list[tuple[float, int]]:
        return run(Faults(Random(seed), loss=0.2, duplicate=0.2, reorder=0.2, corrupt=0.2, jitter=0.1), 200)

    assert once(3) == once(3) != once(4)


def test_jitter_alone_keeps_the_order_and_its_bounds() -> None:
    arrived = run(Faults(Random(1), delay=0.02, jitter=0.05), 500)
    assert [number for _, number in arrived] == list(range(500))
    assert all(0.02 <= when - number * 0.001 <= 0.07 for when, number in arrived)


def test_reordered_packets_are_overtaken_but_not_lost() -> None:
    arrived = [number for _, number in run(Faults(Random(1), reorder=0.1), 500)]
    assert arrived != sorted(arrived)
    assert sorted(arrived) == list(range(500))


def test_the_bottleneck_paces_and_its_queue_overflows() -> None:
    faults = Faults(Random(1), rate=32 * 1024, queue=320)  # packets of 32 bytes, 1024 a second
    arrived = [each for _ in range(20) for each in faults.decide(frame(bytes(4)), 0.0)]
    assert [when for when, _ in arrived] == [i / 1024 for i in range(1, 11)]
    assert faults.counts["overflowed"] == 10
    assert faults.decide(frame(bytes(4)), 1.0)[0][0] == 1.0 + 1 / 1024


def test_super_segments_are_cut_unless_whole() -> None:
    big = frame(bytes(3000), gso_size=1000)
    assert len(Faults(Random(1)).decide(big, 0.0)) == 3
    assert Faults(Random(1), whole=True).decide(big, 0.0) == [(0.0, big)]


@given(st.binary(max_size=200), st.integers(0, 2**32), st.booleans(), st.booleans())
def test_corruption_is_one_bit_that_checksums_catch(
    payload: bytes, seed: int, vouched: bool, whole: bool
) -> None:
    sent = frame(payload)
    if vouched:
        sent = VNET.pack(DATA_VALID, 0, 0, 0, 0, 0) + Faults(Random(0)).decide(sent, 0.0)[0][1][10:]
    clean = Faults(Random(0)).decide(frame(payload), 0.0)[0][1]
    ((_, packet),) = Faults(Random(seed), corrupt=1.0, whole=whole).decide(sent, 0.0)
    assert packet.startswith(PLAIN), "nobody vouches for it"
    difference = int.from_bytes(packet, "big") ^ int.from_bytes(clean, "big")
    assert difference.bit_count() == 1
    assert not verifies(packet[10:])


def test_a_link_delivers_when_due_in_order_of_arrival() -> None:
    link = Link(Faults(Random(1), delay=0.5))
    assert link.next_deadline() is None
    link.send(frame(b"a"), 1.0)
    link.send(memoryview(frame(b"b")), 1.0)
    link.send(frame(b"c"), 1.2)
    assert link.next_deadline() == 1.5
    assert link.receive(1.4) == []
    assert [packet[-1:] for packet in link.receive(1.5)] == [b"a", b"b"]
    assert [packet[-1:] for packet in link.receive(9.0)] == [b"c"]
    assert link.next_deadline() is None


def test_a_black_hole_takes_what_is_too_long_and_says_nothing() -> None:
    faults = Faults(Random(1), mtu=1000)
    assert len(faults.decide(frame(bytes(1000 - 28)), 0.0)) == 1
    assert faults.decide(frame(bytes(1001 - 28)), 0.0) == []
    assert faults.counts == {"sent": 2, "too_big": 1}


def test_ethernet_is_cut_like_ip_and_its_headers_are_never_damaged() -> None:
    link = build_ethernet(b"\2" * 6, b"\4" * 6, 0x0800)
    inner = frame(bytes(3000), 1000)
    faults = Faults(Random(1), corrupt=1.0, ethernet=True, mtu=1100)
    arrivals = faults.decide(moved(inner, len(link)) + link + inner[10:], 0.0)
    assert len(arrivals) == 3
    assert all(packet[10:24] == link and not verifies(packet[:10] + packet[24:]) for _, packet in arrivals)
    arp = PLAIN + build_ethernet(b"\xff" * 6, b"\4" * 6, 0x0806) + bytes(28)
    assert [packet for _, packet in faults.decide(arp, 0.0)] == [arp]
