"""What this process has changed on the machine, and how it is all taken back.

Before a change is made it is in the journal, on disk; from the first to the last there is a guard, another process
that takes everything back if this one dies. Both are there before anything is changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tunsmith.errors import HostError
from tunsmith.host import restore
from tunsmith.host.guard import Guard
from tunsmith.host.journal import Journal
from tunsmith.host.machine import Machine
from tunsmith.host.restore import Outcome, Replay
from tunsmith.route.change import AddRoute, Change, ReplaceRoute, SetSysctl
from tunsmith.up.asked import Asked


class Footprint:
    """The changes of one instance."""

    __slots__ = ("_inherited", "_machine", "guard", "journal")

    def __init__(self, machine: Machine, journal: Journal, guard: Guard) -> None:
        """Takes all three."""
        self._machine = machine
        self._inherited = bool(journal.entries)
        self.journal = journal
        self.guard = guard

    @classmethod
    def begin(cls, asked: Asked, tun: str) -> Footprint:
        """Journal and guard, nothing changed yet. Forks: not for a process with threads or an event loop. Raises
        UsageError where another instance is in the way, HostError where nothing can be written down."""
        journal = Journal.create(asked.state, tun, asked.wish.takes_all)
        try:
            guard = Guard.start(journal.path, Machine)
        except BaseException:
            journal.give_up()
            raise
        return cls(Machine(journal), journal, guard)

    def make(self, changes: Sequence[Change], blocks: Iterable[Change] = ()) -> list[str]:
        """Make `changes`, in this order; `blocks` are those among them that are to outlive a crash. What a dead
        instance has left in the journal and on the machine is not made again. Returns what could not be done and is
        no reason to give up, in lines for people. Raises HostError with part of them made."""
        there = {entry.change for entry in self.journal.entries}
        wanted = [change for change in changes if change not in there or not self._machine.holds(change)]
        self.journal.write([change for change in wanted if change not in there], list(blocks))
        missed = []
        for change in wanted:
            try:
                self._machine.make(change)
            except HostError as error:
                if not isinstance(change, SetSysctl):  # containers mount /proc/sys read-only
                    raise
                missed.append(str(error))
        return missed

    def put_over(self, change: ReplaceRoute) -> None:
        """Put a route of ours in the place of another that is ours, too. Raises HostError with nothing done."""
        if change.transient:
            self._machine.make(change)
            return
        old = AddRoute(change.old)
        self.journal.write([AddRoute(change.new)], [])
        self._machine.make(change)
        self.journal.keep([entry for entry in self.journal.entries if entry.change != old])

    def take_back(self, changes: Iterable[Change]) -> None:
        """Take `changes` back while the rest stays. Raises HostError where the journal cannot be written."""
        undone = list(changes)
        entries = [entry for entry in self.journal.entries if entry.change in undone]
        left = [
            step.entry for step in restore.take_back(self._machine, entries) if step.outcome is Outcome.FAILED
        ]
        self.journal.keep([entry for entry in self.journal.entries if entry not in entries or entry in left])

    def end(self, served: bool) -> Replay:
        """Take everything back, the last change first, and be gone, journal and guard as well. Never raises: what
        could not be taken back is told, and stays in the journal.

        Where we never `served`, and a dead instance had left a block, that stays: a start that fails opens nothing."""
        found = restore.replay(self.journal, self._machine, lift=served or not self._inherited)
        self._machine.close()
        self.guard.release()
        return found
