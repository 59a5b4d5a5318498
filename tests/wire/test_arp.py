from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunsmith.errors import WireError
from tunsmith.wire.arp import REPLY, REQUEST, Arp, build_arp, parse_arp

MAC, ADDRESS = st.binary(min_size=6, max_size=6), st.binary(min_size=4, max_size=4)
QUESTION = Arp(REQUEST, b"\x02\0\0\0\0\1", b"\x0a\0\0\1", bytes(6), b"\x0a\0\0\2")


def _edited(at: int, *values: int) -> bytes:
    message = bytearray(build_arp(QUESTION))
    message[at : at + len(values)] = bytes(values)
    return bytes(message)


@given(
    st.builds(
        Arp,
        st.sampled_from([REQUEST, REPLY]),
        MAC.filter(lambda mac: any(mac) and not mac[0] & 1),
        ADDRESS,
        MAC,
        ADDRESS,
    ),
    st.binary(max_size=18),
)
def test_parsing_undoes_building_whatever_pads_the_frame(message: Arp, padding: bytes) -> None:
    assert parse_arp(build_arp(message) + padding) == message


def test_layout__rfc826() -> None:
    assert build_arp(QUESTION).hex() == "00010800060400010200000000010a0000010000000000000a000002"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", "arp_short"),
        (build_arp(QUESTION)[:27], "arp_short"),
        (_edited(0, 0, 6), "arp_format"),
        (_edited(2, 0x86, 0xDD), "arp_format"),
        (_edited(4, 8), "arp_format"),
        (_edited(5, 16), "arp_format"),
        (_edited(6, 0, 3), "arp_operation"),
        (_edited(8, 0xFF), "arp_sender"),
        (_edited(8, *bytes(6)), "arp_sender"),
    ],
)
def test_faults_have_their_words(message: bytes, reason: str) -> None:
    with pytest.raises(WireError) as raised:
        parse_arp(message)
    assert raised.value.reason == reason


@given(st.binary(max_size=64))
def test_anything_is_a_message_or_a_wire_error(message: bytes) -> None:
    try:
        parse_arp(message)
    except WireError:
        pass
