"""Connections between our stack and Linux begin and end as they should, whoever does what first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import pytest

from tests.interop.endings import SCENARIOS
from tests.interop.run import Outcome


@dataclass(frozen=True)
class Ending:
    """A scenario of endings.py."""

    module: ClassVar[str] = "tests.interop.endings"
    name: str
    version: int
    seed: int = 1
    seconds: float = 60.0

    @property
    def arguments(self) -> list[str]:
        return [self.name, str(self.version), str(self.seed)]

    def __str__(self) -> str:
        return f"{self.name}, IPv{self.version}"


ENDINGS = [Ending(name, version) for name in SCENARIOS for version in (4, 6)]
LONG = [ending for ending in ENDINGS if ending.name.startswith("10,000")]
Ask = Callable[[Ending], Outcome]


@pytest.mark.netns
@pytest.mark.parametrize("case", [ending for ending in ENDINGS if ending not in LONG], ids=str)
def test_connections_end_as_they_should(ask: Ask, case: Ending) -> None:
    outcome = ask(case)
    assert not outcome.failures, str(outcome)


@pytest.mark.netns
@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("case", [LONG[0], LONG[3]], ids=str)
def test_ten_thousand_connections(ask: Ask, case: Ending) -> None:
    """Each with a question and an answer; opened by either side."""
    outcome = ask(case)
    assert not outcome.failures, str(outcome)
