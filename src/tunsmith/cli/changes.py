"""Changes of the machine as commands that a person would type, or as JSON: what `link` and `route` print."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from tunsmith.route import record
from tunsmith.route.change import Change
from tunsmith.route.draft import Step


def as_text(steps: Iterable[Step], undo: Iterable[Change | None] = (), notes: Iterable[str] = ()) -> str:
    """A command a line; then, where there is an `undo`, how it is taken back."""
    lines = [f"# note: {note}" for note in notes]
    for step in steps:
        lines += [f"# {step.reason}"] if step.reason else []
        lines += [command for change in step.changes for command in change.commands()]
    back = [command for change in undo if change is not None for command in change.commands()]
    return "\n".join([*lines, *(["", "# and back:", *back] if back else [])])


def as_json(changes: Sequence[Change], dry_run: bool, **others: Any) -> str:
    """One object: {"dry_run": …, "changes": [{"change": "AddLink", …, "commands": […], "undo": […]}], …}."""
    return json.dumps({"dry_run": dry_run, "changes": [_object(change) for change in changes], **others})


def undo_of(changes: Sequence[Change]) -> list[Change | None]:
    """What takes them back, the last first."""
    return [change.undo() for change in reversed(changes)]


def _object(change: Change) -> dict[str, Any]:
    undo = change.undo()
    return {
        **record.write(change),
        "commands": change.commands(),
        "undo": [] if undo is None else undo.commands(),
    }
