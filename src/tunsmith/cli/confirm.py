"""`tunsmith confirm`: keep what `tunsmith up --confirm SECONDS` has set up."""

from __future__ import annotations

from pathlib import Path

import click

from tunsmith.errors import HostError
from tunsmith.host import guard, journal
from tunsmith.host.netns import NetworkNamespace
from tunsmith.host.state import default_directory


@click.command()
@click.option("--tun", metavar="NAME", help="The TUN of the instance, where there are several.")
@click.option("--state", metavar="DIR", type=click.Path(path_type=Path), help="Where the journals are kept.")
def command(tun: str | None, state: Path | None) -> None:
    """Say that you can still reach this machine: `up --confirm SECONDS` puts everything back unless told so in time.

    \b
    Exit code: 0 confirmed; 1 nobody waits for it.
    """
    directory, here = state or default_directory(), NetworkNamespace.current()
    paths = journal.paths(directory, here) if tun is None else [journal.look_up(directory, here, tun)]
    confirmed = [path for path in paths if guard.confirm(path)]
    if not confirmed:
        raise HostError(
            f"no instance{f' on {tun}' if tun else ''} waits for a confirmation in this network namespace"
        )
    click.echo("confirmed: it stays")
