from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunsmith.errors import WireError
from tunsmith.wire.ethernet import (
    BROADCAST,
    build_ethernet,
    format_mac,
    group_mac,
    is_group,
    parse_ethernet,
    parse_mac,
)

MAC = st.binary(min_size=6, max_size=6)


@given(MAC, MAC, st.integers(0, 0xFFFF).filter(lambda kind: kind != 0x8100), st.integers(0, 4094))
def test_parsing_undoes_building(destination, source, ethertype, vlan) -> None:
    header = build_ethernet(destination, source, ethertype, vlan)
    assert parse_ethernet(header + b"data") == (destination, source, ethertype, vlan, 18 if vlan else 14)


def test_priority_tag_is_no_vlan__802_1q_6_9_1() -> None:
    frame = bytes(12) + b"\x81\x00" + b"\xe0\x00" + b"\x08\x00"
    assert parse_ethernet(frame)[2:] == (0x0800, 0, 18)


@pytest.mark.parametrize("frame", [b"", bytes(13), bytes(12) + b"\x81\x00", bytes(12) + b"\x81\x00\0\1\x08"])
def test_short_frames(frame: bytes) -> None:
    with pytest.raises(WireError, match="ethernet_short"):
        parse_ethernet(frame)


@pytest.mark.parametrize(
    ("address", "mac"),
    [
        ("e0000001", "01005e000001"),
        ("ef8a0b0c", "01005e0a0b0c"),  # the 24th bit is lost: RFC 1112 §6.4
        ("ffffffff", "ffffffffffff"),
        ("ff0200000000000000000001ff123456", "3333ff123456"),
    ],
)
def test_groups_have_an_address_on_ethernet__rfc1112_6_4__rfc2464_7(address: str, mac: str) -> None:
    assert group_mac(bytes.fromhex(address)) == bytes.fromhex(mac)
    assert is_group(bytes.fromhex(mac))


def test_one_station_is_no_group() -> None:
    assert not is_group(b"\x02\0\0\0\0\1")
    assert is_group(BROADCAST)


@pytest.mark.parametrize("text", ["02:00:5e:10:00:01", "02-00-5E-10-00-01", "02005e100001"])
def test_macs_are_written_in_several_ways_and_read_in_one(text: str) -> None:
    assert format_mac(parse_mac(text)) == "02:00:5e:10:00:01"


@pytest.mark.parametrize(
    "text", ["", "02:00:5e:10:00", "02:00:5e:10:00:01:02", "nonsense", "02:00:5e:10:00:0g"]
)
def test_no_mac(text: str) -> None:
    with pytest.raises(ValueError, match="is no MAC address: six bytes in hexadecimal"):
        parse_mac(text)
