from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunsmith.errors import WireError
from tunsmith.wire.icmp import build_icmp
from tunsmith.wire.ip import IPV6, IpHeader, parse_ip
from tunsmith.wire.ndp import (
    ALL_NODES,
    UNSPECIFIED,
    NeighbourMessage,
    build_advertisement,
    build_solicitation,
    link_local,
    parse_ndp,
    solicited_node,
)

OURS, THEIRS = ip_address("fd00::1:2:3").packed, ip_address("fd00::aa:bbcc").packed
MAC = bytes.fromhex("02005e100001")


def _parse(packet: bytes) -> NeighbourMessage:
    return parse_ndp(parse_ip(packet), packet[40:])


def _reason(packet: bytes) -> str:
    with pytest.raises(WireError) as raised:
        _parse(packet)
    return raised.value.reason


def _message(
    kind: int,
    body: bytes,
    *,
    code: int = 0,
    rest: int = 0,
    ttl: int = 255,
    to: bytes = OURS,
    of: bytes = THEIRS,
) -> bytes:
    return build_icmp(IPV6, of, to, kind, code, rest, body, ttl=ttl)


def test_solicitation_goes_to_the_group_of_its_target__rfc4861_7_2_2() -> None:
    packet = build_solicitation(OURS, THEIRS, MAC)
    assert parse_ip(packet).destination == solicited_node(THEIRS) == ip_address("ff02::1:ffaa:bbcc").packed
    assert parse_ip(packet).ttl == 255
    assert _parse(packet) == NeighbourMessage(True, THEIRS, MAC)


def test_solicitation_of_somebody_known_goes_to_himself() -> None:
    assert parse_ip(build_solicitation(OURS, THEIRS, MAC, to=THEIRS)).destination == THEIRS


def test_probe_does_not_say_who_asks__rfc4862_5_4_2() -> None:
    packet = build_solicitation(UNSPECIFIED, OURS, MAC)
    assert _parse(packet) == NeighbourMessage(True, OURS, None)
    assert MAC not in packet


@pytest.mark.parametrize("flags", range(8))
def test_advertisement_has_its_flags(flags: int) -> None:
    router, solicited, override = bool(flags & 1), bool(flags & 2), bool(flags & 4)
    packet = build_advertisement(OURS, THEIRS, MAC, router=router, solicited=solicited, override=override)
    assert _parse(packet) == NeighbourMessage(False, OURS, MAC, router, solicited, override)
    assert (parse_ip(packet).source, parse_ip(packet).destination) == (OURS, THEIRS)


def test_other_options_are_stepped_over() -> None:
    body = OURS + b"\x0e\x01" + bytes(6) + b"\x02\x01" + MAC + b"\x05\x02" + bytes(14)
    assert _parse(_message(136, body)).mac == MAC


def test_link_layer_address_of_another_length_is_none_of_ethernet() -> None:
    assert _parse(_message(136, OURS + b"\x02\x02" + bytes(14))).mac is None


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (_message(135, OURS, ttl=254), "ndp_hop_limit"),
        (_message(135, OURS[:15]), "ndp_short"),
        (_message(135, OURS, code=1), "ndp_code"),
        (_message(135, ALL_NODES), "ndp_target"),
        (_message(135, OURS + b"\1"), "ndp_option"),
        (_message(135, OURS + b"\1\0"), "ndp_option"),
        (_message(135, OURS + b"\1\2" + bytes(6)), "ndp_option"),
        (_message(135, OURS, of=UNSPECIFIED), "ndp_source"),
        (_message(135, OURS + b"\1\1" + MAC, of=UNSPECIFIED, to=solicited_node(OURS)), "ndp_source"),
        (_message(136, OURS, rest=1 << 30, to=ALL_NODES), "ndp_flags"),
    ],
)
def test_checks__rfc4861_7_1(packet: bytes, reason: str) -> None:
    assert _reason(packet) == reason


def test_checksum_is_checked_unless_vouched_for() -> None:
    packet = bytearray(build_solicitation(OURS, THEIRS, MAC))
    packet[42] ^= 1
    assert _reason(bytes(packet)) == "icmp_checksum"
    assert parse_ndp(parse_ip(packet), packet[40:], vouched=True).target == THEIRS


def test_link_local_address_is_made_of_the_mac__rfc4291_appendix_a() -> None:
    assert link_local(bytes.fromhex("34567890abcd")) == ip_address("fe80::3656:78ff:fe90:abcd").packed


@given(st.sampled_from([135, 136]), st.binary(max_size=80))
def test_anything_is_a_message_or_a_wire_error(kind: int, rest: bytes) -> None:
    message = bytes((kind,)) + rest
    header = IpHeader(IPV6, 0, 40 + len(message), 40, 0, 0, False, 255, 58, THEIRS, OURS)
    try:
        parse_ndp(header, message, vouched=True)
    except WireError:
        pass
