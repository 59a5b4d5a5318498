from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunsmith.errors import WireError
from tunsmith.wire.checksum import ones_sum
from tunsmith.wire.ip import IPV4, IPV6, IpFamily, family_of, is_unicast, parse_ip

families = st.sampled_from([IPV4, IPV6])
V4 = IPV4.header(b"\x0a\0\0\x01", b"\x0a\0\0\x02", 17, 8)
V6 = IPV6.header(bytes(15) + b"\x01", bytes(15) + b"\x02", 17, 8)


def reason(packet: bytes) -> str:
    with pytest.raises(WireError) as caught:
        parse_ip(packet)
    return caught.value.reason


@given(
    families, st.data(), st.integers(0, 255), st.integers(0, 1000), st.integers(0, 255), st.integers(0, 255)
)
def test_what_was_built_is_parsed(
    family: IpFamily, data: st.DataObject, protocol: int, length: int, traffic_class: int, ttl: int
) -> None:
    n = family.address_length
    source, destination = data.draw(st.binary(min_size=n, max_size=n)), bytes(n)
    header = family.header(source, destination, protocol, length, traffic_class=traffic_class, ttl=ttl)
    parsed = parse_ip(header + bytes(length + 3))
    assert len(header) == family.header_length == parsed.header_length
    assert (parsed.family, parsed.source, parsed.destination) == (family, source, destination)
    assert (parsed.protocol, parsed.traffic_class, parsed.ttl) == (protocol, traffic_class, ttl)
    assert parsed.total_length == family.header_length + length
    assert not parsed.more_fragments


@given(st.integers(0, 0xFFFF), st.integers(0, 0x1FFF), st.booleans())
def test_fragments_say_where_they_belong(identification: int, units: int, more: bool) -> None:
    field = units | (0x2000 if more else 0)
    header = IPV4.header(bytes(4), bytes(4), 17, 8, identification=identification, fragment=field)
    parsed = parse_ip(header + bytes(8))
    assert (parsed.identification, parsed.fragment_offset) == (identification, units * 8)
    assert parsed.more_fragments is more


@given(families, st.integers(0, 255), st.integers(1, 255), st.integers(0, 0xFFFF), st.booleans())
def test_a_head_with_other_marks_is_that_of_the_header(
    family: IpFamily, traffic_class: int, ttl: int, identification: int, df: bool
) -> None:
    addresses = bytes(range(2 * family.address_length))
    head = family.marked_head(
        20, ones_sum(addresses), traffic_class, ttl, identification=identification, df=df
    )
    n = family.address_length
    assert head + addresses == family.header(
        addresses[:n],
        addresses[n:],
        6,
        20,
        traffic_class=traffic_class,
        ttl=ttl,
        identification=identification,
        fragment=0x4000 if df else 0,
    )


def test_an_ipv4_header_has_its_checksum_and_is_atomic__rfc6864() -> None:
    assert ones_sum(V4) == 0
    assert V4[4:8] == b"\0\0\x40\0"


def test_what_is_no_header() -> None:
    assert reason(b"") == reason(V4[:19]) == reason(V6[:39]) == "ip_short"
    assert reason(b"\x50" + bytes(60)) == "ip_version"
    assert reason(V4 + bytes(7)) == reason(V6 + bytes(7)) == "ip_length"
    assert reason(b"\x44" + V4[1:] + bytes(8)) == "ip_length"
    assert reason(b"\x46" + V4[1:] + bytes(4)) == "ip_length"
    assert reason(V4[:2] + b"\0\x13" + V4[4:] + bytes(8)) == "ip_length"
    assert reason(V4[:10] + b"\0\0" + V4[12:] + bytes(8)) == "ip_checksum"


@given(families, st.data(), st.integers(0, 65535), st.integers(0, 65535))
def test_keys_name_a_flow_and_its_way_back(
    family: IpFamily, data: st.DataObject, source_port: int, destination_port: int
) -> None:
    n = family.address_length
    addresses = st.binary(min_size=n, max_size=n)
    source, destination = data.draw(addresses), data.draw(addresses)
    key = family.key(source, source_port, destination, destination_port)
    assert len(key) == family.key_length
    assert family.split(key) == (source, source_port, destination, destination_port)
    assert family.swap(key) == family.key(destination, destination_port, source, source_port)
    assert family.swap(family.swap(key)) == key
    assert family_of(source) is family


@pytest.mark.parametrize(
    ("address", "unicast"),
    [
        ("0a000001", True),
        ("dfffffff", True),
        ("e0000001", False),
        ("ffffffff", False),
        ("00000000", False),
        ("fd" + "00" * 14 + "01", True),
        ("fe80" + "00" * 13 + "01", True),
        ("ff02" + "00" * 13 + "01", False),
        ("00" * 16, False),
    ],
)
def test_who_can_be_a_host(address: str, unicast: bool) -> None:
    assert is_unicast(bytes.fromhex(address)) is unicast
