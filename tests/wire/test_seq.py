from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tunsmith.wire.seq import widen

positions = st.integers(0, 1 << 70)
distances = st.integers(-(1 << 31), (1 << 31) - 1)


@given(positions, distances)
def test_what_is_within_half_the_space_comes_back(near: int, distance: int) -> None:
    position = near + distance
    assert widen(position & 0xFFFFFFFF, near) == position


@given(st.integers(0, 0xFFFFFFFF), positions)
def test_the_answer_is_the_nearest_with_those_bits(seq32: int, near: int) -> None:
    position = widen(seq32, near)
    assert position & 0xFFFFFFFF == seq32
    assert abs(position - near) <= 1 << 31


def test_around_the_wrap() -> None:
    assert widen(5, 0xFFFFFFF0) == 0x100000005
    assert widen(0xFFFFFFF0, 0x100000005) == 0xFFFFFFF0
    assert widen(0xFFFFFFFF, 0) == -1
