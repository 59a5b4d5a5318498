from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunsmith.wire.tcp import TIMESTAMP_WORD, TcpOptions, build_options, parse_options

word = st.integers(0, 0xFFFFFFFF)
some = st.builds(
    TcpOptions,
    mss=st.none() | st.integers(0, 0xFFFF),
    window_scale=st.none() | st.integers(0, 14),
    sack_permitted=st.booleans(),
    timestamp=st.none() | st.tuples(word, word),
    sack=st.lists(st.tuples(word, word), max_size=2).map(tuple),
)


@given(some)
def test_what_was_built_is_parsed(options: TcpOptions) -> None:
    raw = build_options(options)
    assert len(raw) % 4 == 0
    assert parse_options(raw) == options


@given(st.binary(max_size=40))
def test_nothing_raises(raw: bytes) -> None:
    parse_options(raw)
    parse_options(memoryview(raw))


@given(some, st.integers(0, 40))
def test_what_was_cut_off_does_not_spoil_what_came_before(options: TcpOptions, cut: int) -> None:
    parsed = parse_options(build_options(options)[:cut])
    assert parsed.mss in (None, options.mss)
    assert parsed.timestamp in (None, options.timestamp)
    assert parsed.sack in ((), options.sack)


def test_a_timestamp_alone_has_the_layout_of_the_fast_path() -> None:
    raw = build_options(TcpOptions(timestamp=(1, 2)))
    assert int.from_bytes(raw[:4], "big") == TIMESTAMP_WORD
    assert len(raw) == 12


@pytest.mark.parametrize(
    "raw",
    [
        b"\x02\x03\x05",
        b"\x03\x04\x01\x01",
        b"\x04\x03\0",
        b"\x08\x09" + bytes(7),
        b"\x05\x09" + bytes(7),
        b"\x05\x02",
    ],
    ids=["mss", "scale", "sack permitted", "timestamp", "sack", "empty sack"],
)
def test_options_of_a_wrong_length_count_as_none(raw: bytes) -> None:
    assert parse_options(raw) == TcpOptions()


@pytest.mark.parametrize("raw", [b"\x02", b"\x02\0\x05\xb4", b"\x02\x01", b"\x02\x08\x05\xb4"])
def test_a_length_that_cannot_be_ends_the_list(raw: bytes) -> None:
    assert parse_options(raw + b"\x04\x02") == TcpOptions()


def test_unknown_options_are_stepped_over__rfc9293_must_6() -> None:
    assert parse_options(b"\xfe\x04\xab\xcd\x1e\x03\0\x02\x04\x05\xb4").mss == 1460


def test_the_end_of_the_list_ends_it() -> None:
    assert parse_options(b"\0\x02\x04\x05\xb4").mss is None


def test_a_scale_beyond_14_is_14__rfc7323_2_3() -> None:
    assert parse_options(b"\x03\x03\xff").window_scale == 14
