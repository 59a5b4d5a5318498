"""What somebody asks of `tunsmith up`: plain values, checked where they enter, and filled in from wherever."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tunsmith.config import Limits
from tunsmith.route.wish import Wish


@dataclass(frozen=True, slots=True)
class Asked:
    """`via` is the upstream's URL, `wish` what is to be taken and how (its `servers` are found out later). `workers` is
    how many processes share the work. `confirm` is the seconds in which somebody must run `tunsmith confirm`, 0 for no
    such thing, `state` the directory of the journal."""

    wish: Wish
    state: Path
    via: str = "direct"
    confirm: float = 0.0
    workers: int = 1
    limits: Limits = field(default_factory=Limits)
