"""Taking back what a journal says: the last change first, only what we added and nobody has touched since.

Each change is looked at before it is undone (`Machine.take_back`), so that a replay which is itself cut off is
simply done again, and two at a time do no harm. What is not as we made it is somebody else's now: it is left alone
and named. The journal goes when everything in it has been dealt with; what could not be undone stays in it.

There are three that replay: the guard when its instance dies, the next start, and `tunsmith restore`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

from tunsmith.errors import HostError
from tunsmith.host import journal, state
from tunsmith.host.journal import Busy, Contents, Entry, Journal
from tunsmith.host.netns import NetworkNamespace, is_gone
from tunsmith.route.change import Change


class Undoing(Protocol):
    """What is needed of host/machine.py."""

    def holds(self, change: Change) -> bool: ...

    def take_back(self, change: Change) -> bool: ...


class Outcome(Enum):
    """What became of a change."""

    DONE = "taken back"
    GONE = "gone already"
    CHANGED = "changed by somebody since, left alone"
    BLOCKS = "stays, to keep traffic in"
    FAILED = "not taken back"


@dataclass(frozen=True, slots=True)
class Step:
    """A change that was looked at, and taken back where it could be. `why`: what failed."""

    entry: Entry
    outcome: Outcome
    why: str = ""

    def commands(self) -> list[str]:
        """What undoes it, as a person would type it."""
        undo = self.entry.change.undo()
        return [] if undo is None else undo.commands()

    def __str__(self) -> str:
        said = " && ".join(command.partition("\n")[0] for command in self.commands())
        return f"{self.outcome.value}: {said}{f' ({self.why})' if self.why else ''}"


@dataclass(frozen=True, slots=True)
class Replay:
    """A journal that was dealt with. `notice` says what is to be known besides the steps, in a line or not at all;
    `left` that something of it could not be done; what stays to keep traffic in is not meant."""

    path: Path
    contents: Contents
    steps: tuple[Step, ...] = ()
    notice: str = ""
    left: bool = False

    @property
    def title(self) -> str:
        """Whose it was."""
        header = self.contents.header
        return self.path.name if header is None else f"{header.tun} of process {header.owner.pid}"


def take_back(
    machine: Undoing, entries: Iterable[Entry], lift: bool = True, dry_run: bool = False
) -> list[Step]:
    """Undo `entries`, the last one first; those that block stay unless `lift`. Never raises: see `Step.why`.

    What could not be done is tried once more: of rules that have the same priority, the last may have to wait until
    those before it are gone."""
    steps = [_take_back(machine, entry, lift, dry_run) for entry in reversed(tuple(entries))]
    return [
        _take_back(machine, step.entry, lift, dry_run) if step.outcome is Outcome.FAILED else step
        for step in steps
    ]


def replay(opened: Journal, machine: Undoing, lift: bool = True) -> Replay:
    """Take back what `opened` says; it is kept for what is left to do, and removed otherwise. Closes it.

    `lift` False: what blocks stays, as after a crash of an instance that was to fail closed."""
    contents = opened.contents
    steps = take_back(machine, opened.entries, lift)
    left = [step.entry for step in reversed(steps) if step.outcome in (Outcome.BLOCKS, Outcome.FAILED)]
    notice = _notice_of_damage(opened)
    try:
        if left and contents.header is not None:
            opened.keep(left)
            opened.close()
        else:
            opened.remove()
    except HostError as error:
        notice = f"{notice}; {error}" if notice else str(error)
        return Replay(opened.path, contents, tuple(steps), notice, left=True)
    failed = any(step.outcome is Outcome.FAILED for step in steps)
    return Replay(opened.path, contents, tuple(steps), notice, left=failed)


def replay_all(
    directory: Path,
    machine: Undoing,
    tun: str | None = None,
    lift: bool = True,
    dry_run: bool = False,
) -> list[Replay]:
    """Deal with the journals in `directory` of owners that are dead, of `tun` or of all, as far as they are about
    this network namespace. Those of a kernel or namespace that has gone are removed. One whose owner lives is in the
    answer too, with what to do as its notice.

    `dry_run`: nothing is changed, the steps are what would be done. A journal that cannot be read is in the answer
    with the reason."""
    if not directory.exists():
        return []
    state.check(directory)
    found = []
    for path in journal.paths(directory):
        try:
            contents = journal.read(path)
            if contents is not None and tun in (None, _tun_of(path, contents)):
                found.append(_deal_with(path, contents, machine, lift, dry_run))
        except HostError as error:
            contents = error.contents if isinstance(error, Busy) else Contents(None)
            found.append(Replay(path, contents, notice=str(error), left=True))
    return [each for each in found if each is not None]


def lines(found: Replay) -> list[str]:
    """What became of a journal, for people: a title with the notice, and a line for each change."""
    title = f"{found.title}: {found.notice}" if found.notice else found.title
    return [title, *(f"  {step}" for step in found.steps)]


def summary(found: Replay) -> list[str]:
    """The same in a line, and what has to be looked after by people; nothing where there was nothing to take back."""
    outcomes = [step.outcome for step in found.steps]
    if found.contents.header is None or set(outcomes) <= {Outcome.GONE}:
        return [f"{found.title}: {found.notice}"] if found.notice else []
    if Outcome.FAILED in outcomes:
        result = "not everything could be taken back, try `tunsmith restore`"
    elif Outcome.BLOCKS in outcomes:
        result = "done, but traffic stays blocked until `tunsmith restore` or the next start"
    else:
        result = f"done, {outcomes.count(Outcome.DONE)} changes taken back"
    owner, tun = found.contents.header.owner.pid, found.contents.header.tun
    said = [f"process {owner} on {tun} has ended without putting the network back: {result}"]
    said += [str(step) for step in found.steps if step.outcome in (Outcome.CHANGED, Outcome.FAILED)]
    return [*said, found.notice] if found.notice else said


def _take_back(machine: Undoing, entry: Entry, lift: bool, dry_run: bool) -> Step:
    undo = entry.change.undo()
    if undo is None:
        return Step(entry, Outcome.GONE)
    try:
        if entry.block and not lift:
            return Step(entry, Outcome.BLOCKS if machine.holds(entry.change) else Outcome.GONE)
        if machine.holds(entry.change) if dry_run else machine.take_back(entry.change):
            return Step(entry, Outcome.DONE)
        return Step(entry, Outcome.GONE if machine.holds(undo) else Outcome.CHANGED)
    except (HostError, OSError) as error:
        return Step(entry, Outcome.FAILED, str(error))


def _deal_with(path: Path, contents: Contents, machine: Undoing, lift: bool, dry_run: bool) -> Replay | None:
    """None where it is the business of another namespace, or has just been dealt with by somebody else."""
    past = _why_past(path, contents)
    if past is None and _inode_of(path) != NetworkNamespace.current().inode:
        return None
    if dry_run:
        if journal.is_owned(path):
            raise Busy(path, contents)
        steps = () if past else tuple(take_back(machine, contents.entries, lift, dry_run=True))
        return Replay(path, contents, steps, past or "")
    opened = Journal.take_over(path)
    if opened is None:
        return None
    if past is None:
        return replay(opened, machine, lift)
    opened.remove()
    return Replay(path, contents, notice=past)


def _why_past(path: Path, contents: Contents) -> str | None:
    """Why nothing of it is left in the kernel, None where something may be."""
    if contents.header is not None and contents.header.is_past():
        return "the machine was booted since, or its namespace has gone; the journal is removed"
    inode = _inode_of(path)
    if inode != NetworkNamespace.current().inode and is_gone(inode):
        return "its network namespace has gone; the journal is removed"
    return None


def _notice_of_damage(opened: Journal) -> str:
    damaged = opened.contents.damaged
    if not damaged:
        return ""
    numbers = ", ".join(map(str, damaged))
    return f"line {numbers} cannot be read and what it said is not taken back; the file is kept as {opened.set_aside()}"


def _inode_of(path: Path) -> int:
    number = path.name.partition("-")[0]
    return int(number) if number.isdecimal() else 0


def _tun_of(path: Path, contents: Contents) -> str:
    return contents.header.tun if contents.header else path.stem.partition("-")[2]
