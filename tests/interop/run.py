"""Cells and endings, each in a process and a network namespace of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

ROOT = Path(__file__).parents[2]
GRACE = 90.0
FOREVER = 3600.0


class Case(Protocol):
    """What can be run: a program of this folder, with arguments."""

    module: ClassVar[str]

    @property
    def seconds(self) -> float: ...

    @property
    def arguments(self) -> list[str]: ...


@dataclass
class Outcome:
    """What became of a case. `failures` is empty if all went well; `capture` is left otherwise."""

    case: Case
    failures: list[str]
    capture: Path
    bytes: int = 0
    seconds: float = 0.0
    accidents: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        words = "; ".join(self.failures)
        return (
            f"{self.case}: {words}\nthe wire: {self.accidents}\ncapture: {self.capture}\n"
            f"again: unshare --net python -m {self.case.module} {' '.join(map(repr, self.case.arguments))}"
        )


def run_case(case: Case, folder: Path) -> Outcome:
    """Run `case` to its end; a capture of it stays in `folder` if anything fails."""
    capture = folder / (re.sub(r"\W+", "-", str(case)) + ".pcapng")
    process = subprocess.Popen(
        ["unshare", "--net", sys.executable, "-B", "-m", case.module, *case.arguments, str(capture)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        out, err = process.communicate(timeout=min(case.seconds, FOREVER) + GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = "", "stuck: " + process.communicate()[1]
    if err or process.returncode:
        return Outcome(case, [err or f"exit code {process.returncode}"], capture)
    report = json.loads(out)
    outcome = Outcome(
        case, report.pop("failures"), capture, report.pop("bytes", 0), report.pop("seconds", 0.0), report
    )
    if not outcome.failures:
        capture.unlink()
    return outcome
