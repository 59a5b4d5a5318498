from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunsmith.wire.vnet import DATA_VALID, NEEDS_CSUM, PLAIN, VNET, moved

HEADER = st.tuples(st.integers(0, 3), st.integers(0, 5), *[st.integers(0, 0xFFFF)] * 4)


@pytest.mark.parametrize(
    ("before", "distance", "after"),
    [
        ((0, 0, 0, 0, 0, 0), 14, (0, 0, 0, 0, 0, 0)),
        ((NEEDS_CSUM, 0, 0, 0, 20, 16), 14, (NEEDS_CSUM, 0, 0, 0, 34, 16)),
        ((NEEDS_CSUM, 1, 40, 1400, 20, 16), 18, (NEEDS_CSUM, 1, 58, 1400, 38, 16)),
        ((NEEDS_CSUM, 1, 54, 1400, 34, 16), -14, (NEEDS_CSUM, 1, 40, 1400, 20, 16)),
        ((DATA_VALID, 1, 54, 1400, 0, 0), -14, (DATA_VALID, 1, 40, 1400, 0, 0)),
        ((DATA_VALID, 0, 7, 7, 7, 7), -14, (DATA_VALID, 0, 0, 0, 0, 0)),
        ((NEEDS_CSUM, 1, 3, 1400, 2, 16), -14, (NEEDS_CSUM, 1, 0, 1400, 0, 16)),
    ],
)
def test_offsets_move_with_the_packet(before, distance, after) -> None:
    assert moved(VNET.pack(*before) + b"packet", distance) == VNET.pack(*after)


@given(HEADER)
def test_nothing_on_the_way_in_makes_it_raise(header) -> None:
    assert len(moved(VNET.pack(*header), -18)) == len(PLAIN)


@given(
    st.sampled_from([1, 4]),
    st.integers(1, 200),
    st.integers(0, 0xFFFF),
    st.integers(0, 200),
    st.integers(0, 20),
)
def test_there_and_back_again(gso_type, header_length, size, start, offset) -> None:
    header = VNET.pack(NEEDS_CSUM, gso_type, header_length, size, start, offset)
    assert moved(moved(header, 14), -14) == header
