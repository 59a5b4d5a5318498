"""`tunsmith link`: TUN and TAP interfaces that stay, by hand."""

from __future__ import annotations

import json as json_format
from typing import TYPE_CHECKING, Any

import click

from tunsmith.cli.main import NOT_STARTED, complain
from tunsmith.errors import DeviceError, HostError, UsageError
from tunsmith.route.change import AddLink, Change, DeleteLink, SetLink

if TYPE_CHECKING:
    from tunsmith.host.devices import Device
    from tunsmith.route.facts import Interface

_dry_run = click.option("--dry-run", is_flag=True, help="Print the commands and their undo; change nothing.")
_json = click.option("--json", is_flag=True, help="Print one JSON object.")


@click.group(no_args_is_help=True)
def command() -> None:
    """Make, set up, show and delete TUN and TAP interfaces that stay until they are deleted.

    Each prints the commands of ip(8) that do the same. `up` and `run` need none of this: they make their own
    interface, which goes with them. This is for one that is to be there before, for a program of another user say,
    or for a stack of one's own.

    \b
    Exit code: 0 done; 2 it cannot be, and nothing was changed; 125 this machine does not let us.
    """


@command.command(short_help="Make one, or add to it what it lacks.")
@click.argument("name")
@click.option("--tap", is_flag=True, help="Frames with Ethernet headers.")
@click.option("--user", metavar="UID", help="Who may open it, besides root: a name or number.")
@click.option("--group", metavar="GID", help="Which group may.")
@click.option("--multi-queue", is_flag=True, help="Several programs may open it at a time, a queue each.")
@click.option(
    "--address", metavar="CIDR", multiple=True, help="An address of this machine on it; may be repeated."
)
@click.option("--mtu", metavar="N", type=int, default=0, help="Longest packet, 1500 by default.")
@click.option("--up", is_flag=True, help="Set it up.")
@_dry_run
@_json
def add(
    name: str,
    tap: bool,
    user: str | None,
    group: str | None,
    multi_queue: bool,
    address: tuple[str, ...],
    mtu: int,
    up: bool,
    dry_run: bool,
    json: bool,
) -> int:
    """Make the interface NAME, or add to one that is there what it lacks.

    \b
    tunsmith link add tun7 --user alice --address 10.7.0.1/24 --address fd07::1/64 --up
    tunsmith link add tap7 --tap --multi-queue --mtu 9000

    One that was made differently (TAP and not TUN, for another user) is not touched.
    """
    from tunsmith.host.snapshot import take_snapshot
    from tunsmith.route.device import DeviceWish, set_up, switches

    addresses = tuple(_parse_address(each) for each in address)
    made = AddLink(name, tap, _user_id(user), multi_queue, _group_id(group))
    wish = DeviceWish(made, addresses, mtu, up)
    found = _look(name)
    return _make(set_up(wish, found.made if found else None, take_snapshot(switches(name))), dry_run, json)


@command.command(short_help="Set it up.")
@click.argument("name")
@_dry_run
@_json
def up(name: str, dry_run: bool, json: bool) -> int:
    """Set the interface NAME up."""
    return _set(name, True, dry_run, json)


@command.command(short_help="Set it down.")
@click.argument("name")
@_dry_run
@_json
def down(name: str, dry_run: bool, json: bool) -> int:
    """Set the interface NAME down. Its routes go, and so do its IPv6 addresses: the kernel does not bring them back
    when it is up again."""
    return _set(name, False, dry_run, json)


@command.command(short_help="Delete it, if nobody has it open.")
@click.argument("name")
@click.option("--force", is_flag=True, help="Even if a program has it open: its traffic ends.")
@_dry_run
@_json
def delete(name: str, force: bool, dry_run: bool, json: bool) -> int:
    """Delete the TUN or TAP interface NAME, with its addresses and routes. No other kind of interface is ever deleted,
    nor one that a program has open."""
    from tunsmith.host.snapshot import take_snapshot
    from tunsmith.route.device import as_it_is

    found = _existing(name)
    if found.is_open and not force:
        raise UsageError(
            f"{name} is in use by {_in_words(found)}: end that first, or delete it all the same with --force"
        )
    undo = as_it_is(found.made, take_snapshot())
    made = found.made
    change = DeleteLink(name, made.tap, made.user, made.many_queues, made.group)
    return _make([change], dry_run, json, undo)


@command.command(short_help="What it was made for, who has it open.")
@click.argument("name", required=False)
@_json
def show(name: str | None, json: bool) -> int:
    """Show the TUN and TAP interfaces here, or the one called NAME: how it was made, who has it open, with how many
    queues and which offloads."""
    from tunsmith.host.devices import look_at_all

    found = [_existing(name)] if name else look_at_all()
    if json:
        click.echo(json_format.dumps([_object(device) for device in found]))
    elif found:
        click.echo("\n\n".join(_describe(device) for device in found))
    return 0


def _set(name: str, is_up: bool, dry_run: bool, json: bool) -> int:
    found = _existing(name)
    changes: list[Change] = [] if found.link.up == is_up else [SetLink(name, is_up, was_up=found.link.up)]
    return _make(changes, dry_run, json)


def _make(changes: list[Change], dry_run: bool, json: bool, undo: list[Change] | None = None) -> int:
    """Make `changes`, unless it is a `dry_run`, and say them; all or none."""
    from tunsmith.cli.changes import as_json, as_text, undo_of
    from tunsmith.host.machine import Machine
    from tunsmith.route.draft import Step

    if not dry_run:
        try:
            with Machine() as machine:
                machine.make_all(changes)
        except (HostError, DeviceError) as error:
            return complain(str(error), NOT_STARTED)
    if json:
        click.echo(as_json(changes, dry_run))
    elif not changes:
        click.echo("# nothing to do: it is as it should be")
    else:
        click.echo(as_text([Step("", tuple(changes))], (undo or undo_of(changes)) if dry_run else ()))
    return 0


def _look(name: str) -> Device | None:
    from tunsmith.host.devices import look_at

    return look_at(name)


def _existing(name: str) -> Device:
    from tunsmith.route.wish import check_name

    check_name(name)
    found = _look(name)
    if found is None:
        raise UsageError(f"there is no TUN or TAP interface {name} here; `tunsmith link show` lists them")
    return found


def _describe(device: Device) -> str:
    from tunsmith.route.device import describe

    state = "up" if device.link.up else "down"
    lines = [f"{device.link.name}: {describe(device.made)}, {state}, mtu {device.link.mtu}"]
    lines.append(
        f"    {'stays until it is deleted' if device.persistent else 'goes with the program that has it open'}"
    )
    lines += [f"    address {address}" for address in device.addresses]
    if device.is_open:
        queues = f", {device.queues} queues" if device.made.many_queues else ""
        lines.append(f"    open in {_in_words(device)}{queues}")
        lines.append(f"    offloads: {', '.join(device.offloads) or 'none'}")
    else:
        lines.append("    nobody has it open")
    return "\n".join(lines)


def _in_words(device: Device) -> str:
    return ", ".join(map(str, device.holders)) or "a program that we may not see"


def _object(device: Device) -> dict[str, Any]:
    made = device.made
    return {
        "name": device.link.name,
        "kind": "tap" if made.tap else "tun",
        "up": device.link.up,
        "mtu": device.link.mtu,
        "addresses": list(map(str, device.addresses)),
        "user": made.user,
        "group": made.group,
        "persistent": device.persistent,
        "multi_queue": made.many_queues,
        "queues": device.queues,
        "vnet_header": device.vnet_header,
        "offloads": device.offloads,
        "open": device.is_open,
        "holders": [{"pid": holder.pid, "program": holder.program} for holder in device.holders],
    }


def _parse_address(text: str) -> Interface:
    from ipaddress import ip_interface

    try:
        return ip_interface(text)
    except ValueError:
        raise UsageError(
            f"--address {text}: not an address with its prefix, like 10.7.0.1/24 or fd07::1/64"
        ) from None


def _user_id(name: str | None) -> int | None:
    import pwd

    return _id(name, "user", lambda known: pwd.getpwnam(known).pw_uid)


def _group_id(name: str | None) -> int | None:
    import grp

    return _id(name, "group", lambda known: grp.getgrnam(known).gr_gid)


def _id(name: str | None, what: str, look_up: Any) -> int | None:
    if name is None:
        return None
    if name.isdecimal() and int(name) < 2**32 - 1:
        return int(name)
    try:
        found: int = look_up(name)
    except KeyError:
        raise UsageError(f"--{what} {name}: there is no such {what} here") from None
    return found
