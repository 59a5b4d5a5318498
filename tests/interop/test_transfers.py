"""Whatever path lies between our stack and Linux, what arrives is what was sent.

A sample of the matrix that matrix.py runs in full, by hand. A failure names the cell, and leaves a capture.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.interop.cell import AXES, Cell
from tests.interop.run import Outcome

SMALL = [Cell.from_seed(seed).lasting(1.5, 1 << 20) for seed in range(43, 75)]
LARGE = [Cell.from_seed(seed).lasting(5, 50_000_000) for seed in range(143, 167)]
Ask = Callable[[Cell], Outcome]


def by_seed(case: Cell) -> str:
    return f"seed {case.seed}"


@pytest.mark.netns
@pytest.mark.parametrize("case", SMALL, ids=by_seed)
def test_what_arrives_is_what_was_sent(ask: Ask, case: Cell) -> None:
    outcome = ask(case)
    assert not outcome.failures, str(outcome)
    assert outcome.bytes >= case.size


@pytest.mark.netns
@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("case", LARGE, ids=by_seed)
def test_what_arrives_is_what_was_sent__at_length(ask: Ask, case: Cell) -> None:
    outcome = ask(case)
    assert not outcome.failures, str(outcome)


@pytest.mark.parametrize("axis", AXES)
def test_the_sample_has_something_of_everything(axis: str) -> None:
    values = {576, 1280, 1500, 9000, 65535} if axis == "mtu" else set(AXES[axis])
    assert {getattr(cell, axis) for cell in SMALL} == values
