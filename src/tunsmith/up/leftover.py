"""What an instance that died has left in place, so that nothing leaves this machine past a TUN: fail closed.

The next instance that is to fail closed takes it over instead of lifting it first, for there would be a moment in
which traffic leaks. It plans as though nothing of it were there, comes to the same numbers, and finds part of its
changes made.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from tunsmith.route.change import AddRoute, AddRule, Change, SetSysctl
from tunsmith.route.facts import Snapshot


def without(snapshot: Snapshot, changes: Iterable[Change]) -> Snapshot:
    """`snapshot` as it would be had nobody made `changes`."""
    made = list(changes)
    routes = {change.route for change in made if isinstance(change, AddRoute)}
    rules = {change.rule for change in made if isinstance(change, AddRule)}
    marks = {rule.fwmask for rule in rules}
    was = {change.path: change.was for change in made if isinstance(change, SetSysctl)}
    return replace(
        snapshot,
        routes=tuple(route for route in snapshot.routes if route not in routes),
        rules=tuple(rule for rule in snapshot.rules if rule not in rules),
        marks=frozenset(each for each in snapshot.marks if each[0] not in marks),
        settings={**snapshot.settings, **was},
    )
