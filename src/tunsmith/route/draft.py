"""A plan in the making."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tunsmith.route.change import Change


@dataclass(frozen=True, slots=True)
class Step:
    """Changes that belong together, and what they are for: one line for people, without a full stop."""

    reason: str
    changes: tuple[Change, ...]


@dataclass(slots=True)
class Draft:
    """What a strategy fills in; see Plan, which it becomes."""

    steps: list[Step] = field(default_factory=list)
    blocks: list[Change] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    mark: int = 0
    pin: str = ""
    must_pin: bool = False
    hosts: list[str] = field(default_factory=list)

    def add(self, reason: str, changes: Iterable[Change], *, blocks: bool = False) -> None:
        """`blocks`: they are needed to keep traffic in, after us."""
        found = tuple(changes)
        if found:
            self.steps.append(Step(reason, found))
        if blocks:
            self.blocks += [change for change in found if change.undo() is not None]
