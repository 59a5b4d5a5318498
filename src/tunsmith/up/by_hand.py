"""What `up` would change, for a TUN interface that is there and that another program serves: made by one command, taken
back by another, later.

It is written down as `up` does it, but in a directory of its own for each interface (STATE/by-hand/TUN), because its
owner is dead by then and alive in spirit: neither a next `up` nor `tunsmith restore` is to take it for a leftover.
There is no guard: it is meant to stay.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tunsmith.errors import HostError, UsageError
from tunsmith.host import journal, restore, state
from tunsmith.host.devices import Device, look_at
from tunsmith.host.journal import Journal
from tunsmith.host.machine import Machine
from tunsmith.host.netns import NetworkNamespace
from tunsmith.host.restore import Replay
from tunsmith.route.change import AddAddress, Change, SetSysctl
from tunsmith.route.draft import Step
from tunsmith.route.facts import Interface
from tunsmith.route.plan import Plan
from tunsmith.route.wish import NETWORK
from tunsmith.up.adopted import lasting
from tunsmith.up.asked import Asked
from tunsmith.up.service import look

_DIRECTORY = "by-hand"


@dataclass(frozen=True, slots=True)
class ByHand:
    """`steps` are what is to be changed, without what is as it should be. `notes` are lines for people."""

    plan: Plan
    steps: tuple[Step, ...]
    notes: tuple[str, ...]

    @property
    def changes(self) -> list[Change]:
        return [change for step in self.steps for change in step.changes]


def plan_by_hand(asked: Asked) -> ByHand:
    """What would be changed for the interface `asked.wish.tun`. Raises UsageError, HostError."""
    device = look_at(asked.wish.tun)
    if device is None:
        raise UsageError(
            f"there is no TUN interface {asked.wish.tun} here: make it by `tunsmith link add {asked.wish.tun}`"
        )
    if device.made.tap:
        raise UsageError(
            f"{device.link.name} is a TAP: traffic without Ethernet headers can only be led into a TUN"
        )
    wish = replace(asked.wish, addresses=_addresses(device), mtu=device.link.mtu)
    outlook = look(replace(asked, wish=wish), dry_run=True)
    own = {address.ip for address in device.addresses}
    steps = []
    with Machine() as machine:
        for step in outlook.plan.steps:
            changes = tuple(
                change
                for change in lasting(step.changes, device.link, machine)
                if not (isinstance(change, AddAddress) and change.address.ip in own)
            )
            if changes:
                steps.append(Step(step.reason, changes))
    return ByHand(outlook.plan, tuple(steps), (*outlook.plan.notes, *_notes(outlook.plan, device)))


def apply(asked: Asked, found: ByHand) -> list[str]:
    """Make the changes, written down before; what could not be done and is no reason to give up, in lines. Raises
    UsageError, HostError; nothing is changed then."""
    tun = found.plan.tun
    directory = _directory(asked.state, tun)
    _refuse_beside_others(asked.state, directory, tun)
    state.prepare(asked.state)
    state.prepare(directory)
    written = Journal.create(directory, tun, asked.wish.takes_all)
    missed = []
    with Machine(written) as machine:
        try:
            written.write(found.changes)
            for change in found.changes:
                try:
                    machine.make(change)
                except HostError as error:
                    if not isinstance(change, SetSysctl):  # containers mount /proc/sys read-only
                        raise
                    missed.append(str(error))
        except BaseException:
            restore.replay(written, machine)
            _remove(directory)
            raise
    written.close()
    return missed


def undo(directory: Path, tun: str, dry_run: bool) -> list[Replay]:
    """Take back what was applied to `tun` by the journals in the state directory `directory`; nothing, where nothing
    was. Raises HostError."""
    own = _directory(directory, tun)
    with Machine() as machine:
        found = restore.replay_all(own, machine, tun, dry_run=dry_run)
    _remove(own)
    return found


def _addresses(device: Device) -> tuple[Interface, ...]:
    """Those it has, and ours for a version of which it has none: IPv6 is not to leave past it."""
    own = [address for address in device.addresses if not address.ip.is_link_local]
    return tuple(
        next((address for address in own if address.version == usual.version), usual) for usual in NETWORK
    )


def _notes(plan: Plan, device: Device) -> list[str]:
    program = f"the sockets of the program behind {plan.tun}"
    notes = []
    if plan.mark:
        notes.append(f"{program} must bear the mark {plan.mark:#x} (SO_MARK), or they come back into it")
    elif plan.pin:
        notes.append(f"{program} must be bound to {plan.pin} (SO_BINDTODEVICE), or they come back into it")
    if not device.is_open:
        notes.append(f"nobody has {plan.tun} open: what is led into it is lost until a program does")
    return notes


def _refuse_beside_others(directory: Path, own: Path, tun: str) -> None:
    here = NetworkNamespace.current()
    for path in journal.paths(directory, here):
        contents = journal.read(path)
        if contents is not None and contents.header is not None and journal.is_owned(path):
            header = contents.header
            raise UsageError(
                f"process {header.owner.pid} leads traffic into {header.tun} already: stop it first"
            )
    contents = journal.read(journal.look_up(own, here, tun))
    if contents is not None and contents.header is not None and not contents.header.is_past():
        raise UsageError(
            f"routes were applied to {tun} already: `tunsmith route undo --tun {tun}` comes first"
        )


def _directory(directory: Path, tun: str) -> Path:
    return directory / _DIRECTORY / tun


def _remove(directory: Path) -> None:
    with suppress(OSError):  # what is in it stays
        directory.rmdir()
