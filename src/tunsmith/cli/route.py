"""`tunsmith route`: what `up` does to rules and routes, for a TUN interface that another program serves."""

from __future__ import annotations

import json as json_format
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunsmith.cli import options
from tunsmith.cli.main import FAILED, NOT_STARTED, complain
from tunsmith.errors import DeviceError, HostError
from tunsmith.route.wish import AUTO, STRATEGIES, Wish

if TYPE_CHECKING:
    from tunsmith.up.by_hand import ByHand

_tun = click.option("--tun", metavar="NAME", required=True, help="The TUN interface; it must be there.")
_state = click.option(
    "--state", metavar="DIR", type=click.Path(path_type=Path), help="Where the journal is kept."
)
_dry_run = click.option("--dry-run", is_flag=True, help="Print what would be done; change nothing.")
_json = click.option("--json", is_flag=True, help="Print one JSON object.")
_OPTIONS = (
    _tun,
    click.option(
        "--via", metavar="URL", type=options.upstream, default="direct", show_default=True,
        help="The upstream: the way to its proxy stays as it is.",
    ),
    click.option("--include", metavar="CIDR", type=options.prefix, multiple=True, help="Only this; may be repeated."),
    click.option("--exclude", metavar="CIDR", type=options.prefix, multiple=True, help="Not this; may be repeated."),
    click.option("--interface", metavar="IFACE", help="The only way out for the program behind the TUN."),
    click.option(
        "--strategy", type=click.Choice([AUTO, *STRATEGIES]), default=AUTO, show_default=True,
        help="How traffic is caught and the program's own let go: as of `up`.",
    ),
    click.option("--strict", is_flag=True, help="Believe no route but those to our own networks."),
    click.option("--gateway", is_flag=True, help="The traffic of other hosts, too, that this machine forwards."),
    _state,
    _json,
)  # fmt: skip


def _planning(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a plan."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@click.group(no_args_is_help=True)
def command() -> None:
    """Lead this machine's traffic into a TUN interface that another program serves, and back.

    \b
    tunsmith link add tun7 --user alice --address 10.7.0.1/24
    tunsmith route plan --tun tun7                         what would be changed, as commands
    tunsmith route apply --tun tun7
    tunsmith route undo --tun tun7

    The rules and routes are those of `up`, which does all of this by itself. What is applied stays until it is undone
    or the machine is booted; no guard watches it.

    \b
    Exit code: 0 done; 1 something is left to undo; 2 it cannot be, and nothing was changed; 125 this machine
    does not let us.
    """


@command.command(short_help="What would be changed, as commands.")
@_planning
def plan(**values: Any) -> int:
    """Print the changes as commands of ip, sysctl and nft, and those that take them back."""
    return _apply(dry_run=True, **values)


@command.command(short_help="Change it: all of it, or none.")
@_planning
@_dry_run
def apply(**values: Any) -> int:
    """Make the changes, written down first for `route undo`: all of them, or none."""
    return _apply(**values)


@command.command(short_help="Take back what was applied.")
@_tun
@_state
@_json
@_dry_run
def undo(tun: str, state: Path | None, json: bool, dry_run: bool) -> int:
    """Take back what `route apply` has changed and nobody has touched since. A second time there is nothing to do."""
    from tunsmith.cli.restore import as_object
    from tunsmith.host.restore import lines
    from tunsmith.host.state import default_directory
    from tunsmith.route.wish import check_name
    from tunsmith.up.by_hand import undo

    check_name(tun)
    found = undo(state or default_directory(), tun, dry_run)
    if json:
        click.echo(json_format.dumps({"dry_run": dry_run, "journals": [as_object(each) for each in found]}))
    elif not found:
        click.echo(f"# nothing to undo: no routes were applied to {tun}")
    else:
        click.echo("\n".join(line for each in found for line in lines(each)))
    return FAILED if any(each.left for each in found) else 0


def _apply(
    tun: str,
    via: str,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    interface: str | None,
    strategy: str,
    strict: bool,
    gateway: bool,
    state: Path | None,
    json: bool,
    dry_run: bool,
) -> int:
    from tunsmith.host.state import default_directory
    from tunsmith.up.asked import Asked
    from tunsmith.up.by_hand import apply, plan_by_hand

    wish = Wish(
        tun=tun,
        include=tuple(map(options.parse_prefix, include)),
        exclude=tuple(map(options.parse_prefix, exclude)),
        interface=interface or "",
        strategy=strategy,
        strict=strict,
        gateway=gateway,
    )
    asked = Asked(wish, state or default_directory(), via)
    try:
        found = plan_by_hand(asked)
        missed = [] if dry_run else apply(asked, found)
    except (HostError, DeviceError) as error:
        return complain(str(error), NOT_STARTED)
    _say(tun, found, missed, dry_run, json)
    return 0


def _say(tun: str, found: ByHand, missed: list[str], dry_run: bool, json: bool) -> None:
    from tunsmith.cli.changes import as_json, as_text, undo_of

    notes = [*found.notes, *missed]
    changes = found.changes
    if json:
        planned = found.plan
        click.echo(
            as_json(
                changes,
                dry_run,
                tun=planned.tun,
                strategy=planned.strategy,
                mark=planned.mark,
                interface=planned.pin,
                table=planned.table,
                notes=notes,
            )
        )
        return
    click.echo(as_text(found.steps, undo_of(changes) if dry_run else (), notes))
    if not dry_run:
        click.echo(f"# `tunsmith route undo --tun {tun}` takes it back")
