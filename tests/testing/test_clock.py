from __future__ import annotations

import pytest

from tunsmith.testing.clock import ManualClock


def test_it_moves_only_when_told() -> None:
    clock = ManualClock(5.0)
    assert clock() == clock() == 5.0
    assert clock.advance(1.5) == clock() == 6.5
    assert clock.advance_to(8.0) == clock() == 8.0


def test_it_never_goes_back() -> None:
    clock = ManualClock(5.0)
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1)
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance_to(4.9)
    assert clock() == 5.0
