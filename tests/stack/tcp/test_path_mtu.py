"""Paths that carry less than our link: told by silence (RFC 4821), or not looked for at all. What ICMP tells is in
test_icmp.py."""

from __future__ import annotations

from typing import Any

import pytest

from tests.stack.packets import FAMILIES, name
from tests.stack.tcp.peer import Peer, peer
from tunsmith.stack.tcp.policy import Options
from tunsmith.wire.icmp import IcmpError, build_error
from tunsmith.wire.ip import IPV4, IPV6, IpFamily
from tunsmith.wire.vnet import VNET_HDR_LEN

both = pytest.mark.parametrize("family", FAMILIES, ids=name)


def in_a_black_hole(**settings: Any) -> Peer:
    """Full segments are on their way and will not arrive."""
    other = peer(**settings)
    other.establish()
    other.take(bytes(8000))
    return other


def longest(other: Peer) -> int:
    """Of the segments that leave with the next timeout."""
    return max(segment.gso_size or len(segment.data) for segment in other.tick())


@pytest.mark.parametrize(
    ("family", "sizes"), [(IPV4, [1460] * 3 + [1024] * 3 + [536]), (IPV6, [1440] * 3 + [1220] * 4)]
)
def test_full_segments_that_vanish_become_smaller__rfc4821_7_7(family: IpFamily, sizes: list[int]) -> None:
    other = in_a_black_hole(family=family)
    assert [longest(other) for _ in sizes] == sizes
    assert other.stack.drops["path_mtu_black_hole"] == len(set(sizes)) - 1


@both
def test_what_passes_then_goes_on_in_that_size(family: IpFamily) -> None:
    other = in_a_black_hole(family=family)
    for _ in range(4):
        segment = other.tick()[0]
    other.ack = 1 + len(segment.data)
    other.stack.receive(other.packet(".", 1), other.now)
    assert len(other.swallow()) == 8000 - len(segment.data)
    assert other.connection.sender.mss == len(segment.data)


def test_small_segments_that_vanish_are_no_black_hole() -> None:
    other = peer()
    other.establish()
    other.take(bytes(500))
    other.wait(100.0)
    assert other.connection.sender.mss == 1460
    assert "path_mtu_black_hole" not in other.stack.drops


def test_options_come_out_of_the_smaller_segments_as_well() -> None:
    other = peer(timestamps=True)
    other.stamp = 5
    other.establish()
    other.take(bytes(8000))
    assert [longest(other) for _ in range(4)][-1] == 1024 - 12


# --- without discovery ---


def fragment_fields(other: Peer) -> list[tuple[int, int]]:
    """Identification and fragment field of what has been sent."""
    packets = [frame[VNET_HDR_LEN:] for frame in other.stack.frames_to_send()]
    return [(int.from_bytes(packet[4:6], "big"), int.from_bytes(packet[6:8], "big")) for packet in packets]


def too_big(other: Peer, mtu: int) -> None:
    n = other.family.header_length
    segment = b"\0\x50\x9c\x40" + ((other.iss + 1) & 0xFFFFFFFF).to_bytes(4, "big") + bytes(12)
    quoted = other.family.header(other.destination, other.source, 6, len(segment)) + segment
    other.stack.receive(
        build_error(other.family, other.source, other.destination, IcmpError.TOO_BIG, quoted[: n + 20], mtu),
        other.now,
    )


def test_text_of_one_length_leaves_in_smaller_segments_where_the_path_turns_out_narrow__rfc1191_4() -> None:
    other = peer()
    other.establish()
    assert [(len(out.data), out.gso_size) for out in other.take(bytes(2000))] == [(2000, 1460)]
    too_big(other, 1000)
    assert [(len(out.data), out.gso_size) for out in other.answers()] == [(2000, 960)]


def test_without_discovery_routers_may_cut_and_packets_are_numbered__rfc6864_4() -> None:
    other = peer(path_mtu_discovery=False)
    other.establish()
    other.connection.send(bytes(2000), other.now)
    other.connection.send(b"more", other.now)
    (first, df), (second, _) = fragment_fields(other)
    assert df == 0
    assert (second - first) & 0xFFFF == 2
    key = other.family.key(other.destination, 1, other.source, 2)
    other.stack.send_datagram(other.family, key, bytes(300), 100)
    other.stack.send_datagram(other.family, key, bytes(300))
    (third, df), (fourth, _) = fragment_fields(other)
    assert df == 0
    assert (fourth - third) & 0xFFFF == 3


def test_without_discovery_ipv6_segments_are_what_every_path_carries__rfc8200_5() -> None:
    other = peer(family=IPV6, path_mtu_discovery=False)
    assert other.knock().options.mss == 1440
    assert other.connection.sender.mss == 1220


@both
def test_without_discovery_nobody_tells_us_of_narrow_paths(family: IpFamily) -> None:
    other = in_a_black_hole(family=family, path_mtu_discovery=False)
    mss = other.connection.sender.mss
    too_big(other, 1280)
    for _ in range(6):
        other.tick()
    assert other.connection.sender.mss == mss


def test_discovery_is_an_option_of_a_connection() -> None:
    other = peer()
    other.establish()
    other.take(b"text")
    assert other.connection.get("path_mtu_discovery") is True
    other.connection.set("path_mtu_discovery", False, other.now)
    too_big(other, 600)
    assert other.connection.sender.mss == 1460
    other.connection.set("path_mtu_discovery", True, other.now)
    too_big(other, 600)
    assert other.connection.sender.mss == 560


def test_options_of_the_stack_are_those_of_connections_without_their_own() -> None:
    other = peer(options=Options(ttl=9))
    other.establish()
    assert other.connection.get("ttl") == 9
    other.connection.abort(other.now)
    other.answers()
    other.open()
    assert other.connection.get("ttl") == 9
