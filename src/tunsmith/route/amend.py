"""What has to change when the machine has changed under a plan.

Our own changes are taken out of the picture, on paper, and a plan is made for what is left, with the numbers that
we have. What it wants and is not there is made; then what the old plan made and the new one does not want is taken
back. So an uplink that came, went or got another address, rules of another VPN that came before ours, and our own
rules wiped out by somebody are one case. Nothing changes where nothing has to.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from tunsmith.route.change import (
    AddAddress,
    AddRoute,
    Change,
    DeleteAddress,
    DeleteRoute,
    ReplaceRoute,
    SetSysctl,
)
from tunsmith.route.draft import Step
from tunsmith.route.effect import apply, holds, without_link
from tunsmith.route.facts import Route, Snapshot
from tunsmith.route.plan import Plan, plan_with


@dataclass(frozen=True, slots=True)
class Amendment:
    """`plan` is the one that holds from now on, once the changes of `steps` are made."""

    plan: Plan
    steps: tuple[Step, ...]

    @property
    def changes(self) -> tuple[Change, ...]:
        return tuple(change for step in self.steps for change in step.changes)


def amend(old: Plan, snapshot: Snapshot) -> Amendment:
    """`old` has been carried out, and the machine is now as `snapshot` tells. Raises UsageError where nothing can be
    done any more."""
    bare = replace(_without(old, snapshot), served=old.served)
    new = plan_with(old.numbers, old.wish, bare, old.strategy)
    after = bare
    for change in new.changes:
        after = apply(change, after)
    steps = []
    for step in new.steps:
        missing = [change for change in step.changes if not _stands(change, snapshot, after)]
        if missing:
            steps.append(Step(step.reason, tuple(_over(old, snapshot, change) for change in missing)))
    replaced = {change.old for step in steps for change in step.changes if isinstance(change, ReplaceRoute)}
    gone = tuple(_taken_back(old, new, snapshot, replaced))
    if gone:
        steps.append(Step("what does not fit any more is taken back", gone))
    return Amendment(new, tuple(steps))


def _without(old: Plan, snapshot: Snapshot) -> Snapshot:
    """The machine as it would be without us."""
    for change in reversed(old.changes):
        if not holds(change, snapshot):
            continue
        undo = change.undo() or _removal(change)
        if undo is not None and not (
            isinstance(change, DeleteRoute) and _is_outdated(change.route, snapshot)
        ):
            snapshot = apply(undo, snapshot)
    return snapshot if old.numbers.lasting else without_link(old.tun, snapshot)


def _is_outdated(route: Route, snapshot: Snapshot) -> bool:
    """A default route that we deleted would not be there now, even without us."""
    link = snapshot.link(route.device)
    same = (each.metric for each in snapshot.default_routes(route.prefix.version))
    return link is None or not link.up or route.metric in same


def _stands(change: Change, snapshot: Snapshot, after: Snapshot) -> bool:
    """`change` is there already. A switch is as it is to be `after` all changes, of which one may write over another;
    or nobody looked at it."""
    if isinstance(change, SetSysctl):
        return snapshot.settings.get(change.path) in (None, after.settings[change.path])
    return holds(change, snapshot)


def _over(old: Plan, snapshot: Snapshot, change: Change) -> Change:
    """`change`, in one step where a route of ours is in its place."""
    if not isinstance(change, AddRoute):
        return change
    for each in old.changes:
        if (
            isinstance(each, AddRoute)
            and _place(each.route) == _place(change.route)
            and each.route in snapshot.routes
        ):
            return ReplaceRoute(each.route, change.route, change.transient)
    return change


def _place(route: Route) -> tuple[object, ...]:
    """What the kernel has one route for."""
    return route.table, route.prefix, route.metric, route.tos


def _taken_back(old: Plan, new: Plan, snapshot: Snapshot, replaced: Iterable[Route]) -> Iterable[Change]:
    wanted, over = set(new.changes), set(replaced)
    for change in reversed(old.changes):
        if change in wanted or not holds(change, snapshot):
            continue
        if isinstance(change, AddRoute) and change.route in over:
            continue
        if isinstance(change, DeleteRoute) and _is_outdated(change.route, snapshot):
            continue
        undo = change.undo() or _removal(change)
        if undo is not None:
            yield undo


def _removal(change: Change) -> Change | None:
    """What takes a change back that goes by itself when we go."""
    match change:
        case AddRoute(route):
            return DeleteRoute(route)
        case AddAddress(device, address, peer):
            return DeleteAddress(device, address, peer)
        case _:
            return None
