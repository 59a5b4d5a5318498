from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tunsmith.wire.checksum import finish, ones_sum, partial, pseudo_sum

data = st.binary(max_size=200)
even = st.binary(max_size=100).map(lambda raw: raw + raw)


def by_the_book(raw: bytes) -> int:
    """RFC 1071 §4.1, word by word."""
    if len(raw) % 2:
        raw += b"\0"
    total = sum(int.from_bytes(raw[at : at + 2], "big") for at in range(0, len(raw), 2))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def test_the_example_of_rfc1071() -> None:
    raw = bytes.fromhex("0001f203f4f5f6f7")
    assert ones_sum(raw) == 0xDDF2
    assert finish(ones_sum(raw)) == 0x220D


@given(data)
def test_the_same_as_by_the_book_but_never_zero(raw: bytes) -> None:
    assert finish(ones_sum(raw)) == (by_the_book(raw) or 0xFFFF)


@given(even)
def test_a_packet_with_its_checksum_in_it_sums_up_to_nothing(raw: bytes) -> None:
    assert ones_sum(raw + finish(ones_sum(raw)).to_bytes(2, "big")) == 0


@given(even, data)
def test_sums_add_up(first: bytes, second: bytes) -> None:
    assert ones_sum(first + second) == (ones_sum(first) + ones_sum(second)) % 0xFFFF


@given(data, st.integers(0, 1599))
def test_one_flipped_bit_is_always_seen(raw: bytes, bit: int) -> None:
    if not raw:
        return
    bit %= len(raw) * 8
    damaged = bytearray(raw)
    damaged[bit // 8] ^= 1 << bit % 8
    assert ones_sum(damaged) != ones_sum(raw)


@given(st.binary(min_size=32, max_size=32), st.integers(0, 255), st.integers(0, 65535))
def test_the_pseudo_header_of_ipv6__rfc8200_8_1(addresses: bytes, protocol: int, length: int) -> None:
    header = addresses + length.to_bytes(4, "big") + bytes(3) + bytes((protocol,))
    assert pseudo_sum(addresses, protocol, length) % 0xFFFF == ones_sum(header)


@given(st.binary(min_size=8, max_size=8), st.integers(0, 255), st.integers(0, 65535))
def test_the_pseudo_header_of_ipv4__rfc9293_3_1(addresses: bytes, protocol: int, length: int) -> None:
    header = addresses + bytes((0, protocol)) + length.to_bytes(2, "big")
    assert pseudo_sum(addresses, protocol, length) % 0xFFFF == ones_sum(header)


@given(st.binary(min_size=8, max_size=32), st.integers(0, 65535), data)
def test_a_partial_checksum_completes_to_the_whole_one(addresses: bytes, length: int, raw: bytes) -> None:
    begun = partial(pseudo_sum(addresses, 6, length))
    assert 0 <= begun <= 0xFFFF
    assert finish(begun + ones_sum(raw)) == finish(pseudo_sum(addresses, 6, length) + ones_sum(raw))
