"""`tunsmith restore`: take back what an instance of `up` has left that died without doing so."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Any

import click

from tunsmith.cli.main import FAILED, complain
from tunsmith.host.machine import Machine
from tunsmith.host.restore import Replay, lines, replay_all
from tunsmith.host.state import default_directory
from tunsmith.route import record


@click.command()
@click.option("--tun", metavar="NAME", help="Only what was left by the instance on that TUN.")
@click.option("--state", metavar="DIR", type=click.Path(path_type=Path), help="Where the journals are kept.")
@click.option(
    "--keep-blocks", is_flag=True, help="What --fail-closed keeps in stays in; for service managers."
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--json", is_flag=True, help="Say what was done as one JSON object.")
def command(tun: str | None, state: Path | None, keep_blocks: bool, dry_run: bool, json: bool) -> int:
    """Put this machine's network back as it was before a `tunsmith up` that died.

    Only what it added is removed, and only if nobody has changed it since. `up` does the same when it stops, its
    guard process when it is killed, and the next `up` when it starts; this is for after a power loss or a
    `kill -9` of both, and lifts what --fail-closed still blocks. A second time it finds nothing to do.

    \b
    Exit code: 0 done, or nothing to do; 1 something could not be done, or belongs to an instance that runs.
    """
    with Machine() as machine:
        found = replay_all(state or default_directory(), machine, tun, lift=not keep_blocks, dry_run=dry_run)
    if json:
        click.echo(json_format.dumps({"dry_run": dry_run, "journals": [as_object(each) for each in found]}))
    else:
        _print(found, dry_run)
    return FAILED if any(each.left for each in found) else 0


def _print(found: list[Replay], dry_run: bool) -> None:
    if not found:
        click.echo("nothing to restore")
    if dry_run and found:
        click.echo("this would be done:")
    for each in found:
        if each.left and not each.steps:
            complain(each.notice, FAILED)
        else:
            click.echo("\n".join(lines(each)))


def as_object(found: Replay) -> dict[str, Any]:
    """What became of one journal, for json.dumps."""
    header = found.contents.header
    return {
        "journal": str(found.path),
        "tun": header.tun if header else None,
        "pid": header.owner.pid if header else None,
        "notice": found.notice,
        "left": found.left,
        "steps": [
            {
                "outcome": step.outcome.name.lower(),
                "why": step.why,
                "block": step.entry.block,
                "commands": step.commands(),
                **record.write(step.entry.change),
            }
            for step in found.steps
        ],
    }
