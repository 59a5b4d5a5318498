"""What `up` has to tell, and to whom; cli/up_report.py puts it into words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tunsmith.host.restore import Replay
from tunsmith.relay.report import FlowRecord, Reporter
from tunsmith.route.plan import Plan


@dataclass(frozen=True, slots=True)
class Works:
    """It serves: by `plan`, to `upstream`. `journal` is None where nothing could be changed by us; `todo` is what an
    administrator has to run then. `notes` are lines about what is not as it should be, `seconds` what it took,
    `confirm` those in which it has to be confirmed."""

    plan: Plan
    upstream: str
    journal: Path | None
    notes: tuple[str, ...] = ()
    todo: tuple[str, ...] = ()
    seconds: float = 0.0
    confirm: float = 0.0


class Hushed:
    """A reporter that is told of no flows until `aloud`: the first are our own."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self.aloud = False

    def flow_ended(self, record: FlowRecord) -> None:
        if self.aloud:
            self._reporter.flow_ended(record)

    def notice(self, text: str) -> None:
        self._reporter.notice(text)


class Report(Reporter, Protocol):
    """Who wants to know."""

    def works(self, facts: Works) -> None:
        """Traffic passes."""

    def stopping(self, why: str) -> None:
        """It has begun to end; `why` is a clause like "SIGTERM"."""

    def stopped(self, found: Replay) -> None:
        """The machine is as it was, but for what `found` could not take back."""
