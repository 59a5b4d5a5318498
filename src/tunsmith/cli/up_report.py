"""What `up` says: to people on standard error, to programs as lines of JSON on standard output.

Nobody may be reading any more, a closed terminal for one: then nothing is said.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from tunsmith.host.restore import Outcome, Replay, lines
from tunsmith.relay.reporters import JsonLines, Lines, Notices
from tunsmith.route import record
from tunsmith.route.plan import Plan
from tunsmith.up.report import Works


class TextReport(Notices):
    """What was done, and what a person must know."""

    def works(self, facts: Works) -> None:
        for line in _words(facts):
            self.notice(line)

    def stopping(self, why: str) -> None:
        self.notice(f"stopping ({why})")

    def stopped(self, found: Replay) -> None:
        trouble = [step for step in found.steps if step.outcome in (Outcome.FAILED, Outcome.CHANGED)]
        if not trouble and not found.notice:
            done = sum(step.outcome is Outcome.DONE for step in found.steps)
            self.notice(f"the network is as it was ({_count(done, 'change')} taken back)")
            return
        for line in lines(found):
            self.notice(line)


class LinesReport(TextReport, Lines):
    """The same, and a line for each flow."""


class JsonReport(JsonLines):
    """An object for each event: "up", "stopping", "stopped", and "flow" and "notice" as in `run`."""

    def __init__(self) -> None:
        super().__init__(sys.stdout)

    def works(self, facts: Works) -> None:
        planned = facts.plan
        self.write(
            event="up",
            tun=planned.tun,
            upstream=facts.upstream,
            strategy=planned.strategy,
            mark=planned.mark,
            interface=planned.pin,
            table=planned.table,
            hosts=list(planned.hosts),
            journal=None if facts.journal is None else str(facts.journal),
            notes=list(facts.notes),
            commands=list(facts.todo),
            confirm=facts.confirm,
            seconds=round(facts.seconds, 3),
        )

    def stopping(self, why: str) -> None:
        self.write(event="stopping", why=why)

    def stopped(self, found: Replay) -> None:
        self.write(
            event="stopped",
            steps=[
                {"outcome": step.outcome.name.lower(), "why": step.why, **record.write(step.entry.change)}
                for step in found.steps
            ],
            left=found.left,
        )


def plan_as_text(planned: Plan, *, exists: bool = False) -> str:
    """A plan as commands that one could type, and their undo, last first. `exists`: the TUN interface is there."""
    out = [f"# strategy {planned.strategy}; {_own_sockets(planned)}"]
    out += [f"# note: {note}" for note in planned.notes]
    if not exists:
        out.append(f"ip tuntap add dev {planned.tun} mode tun  # made by tunsmith itself, gone with it")
    for step in planned.steps:
        out.append(f"# {step.reason}")
        out += [command for change in step.changes for command in change.commands()]
    out.append("")
    out.append("# and back:")
    for change in reversed(planned.changes):
        undo = change.undo()
        if undo is not None:
            out += undo.commands()
    if not exists:
        out.append(f"ip tuntap delete dev {planned.tun} mode tun")
    return "\n".join(out)


def plan_as_json(planned: Plan) -> str:
    """The same as one object."""
    steps = [
        {
            "reason": step.reason,
            "changes": [
                {**record.write(change), "commands": change.commands(), "undo": _undo(change)}
                for change in step.changes
            ],
        }
        for step in planned.steps
    ]
    return json.dumps(
        {
            "tun": planned.tun,
            "strategy": planned.strategy,
            "mark": planned.mark,
            "interface": planned.pin,
            "table": planned.table,
            "hosts": list(planned.hosts),
            "notes": list(planned.notes),
            "steps": steps,
        }
    )


def _undo(change: Any) -> list[str]:
    undo = change.undo()
    return [] if undo is None else undo.commands()


def _words(facts: Works) -> list[str]:
    planned, wish = facts.plan, facts.plan.wish
    what = "everything" if wish.takes_all else ", ".join(map(str, wish.include))
    found = [f"{what} goes through {planned.tun} to {facts.upstream} (ready in {facts.seconds:.2f} s)"]
    found.append(f"strategy {planned.strategy}: {_own_sockets(planned)}, table {planned.table}")
    if planned.hosts:
        found.append(f"gateway: so does what comes from hosts on {', '.join(planned.hosts)}")
    local = (
        "the networks this machine stands in" if wish.strict else "what this machine has a narrower route for"
    )
    excluded = f", and {', '.join(map(str, wish.exclude))}" if wish.exclude else ""
    found.append(f"stays local: {local}, connections from outside{excluded}")
    found += [f"note: {note}" for note in facts.notes]
    if facts.todo:
        found.append("root has to run this for traffic to come:")
        found += [f"    {line}" for command in facts.todo for line in command.splitlines()]
    if facts.confirm:
        found.append(f"run `tunsmith confirm` within {facts.confirm:g} s, or all is put back")
    if facts.journal is not None:
        found.append(f"Ctrl-C puts everything back; so does `tunsmith restore`, by {facts.journal}")
    return found


def _own_sockets(planned: Plan) -> str:
    ways = []
    if planned.mark:
        ways.append(f"bear mark {planned.mark:#x}")
    if planned.pin:
        ways.append(f"leave by {planned.pin}")
    return f"our own sockets {' and '.join(ways) or 'have routes of their own'}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
