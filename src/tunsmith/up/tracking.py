"""Keeping up with a machine whose network changes: an uplink goes, comes back, gets another address or another gateway,
another VPN sets rules of its own, somebody wipes ours; or the machine has slept.

The kernel tells that something has changed (host/watch.py), a snapshot what there is now, the plan what has to change
with it (route/amend.py). Then the engines learn by which way they leave, and end the flows that cannot go on.

A manager that takes away what we make, again and again, is not fought at full speed: amendments are at least CALM
apart.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import methodcaller
from typing import TYPE_CHECKING

from tunsmith.errors import HostError, UsageError
from tunsmith.host.machine import Machine
from tunsmith.host.snapshot import take_snapshot
from tunsmith.host.watch import Watcher
from tunsmith.route.amend import Amendment, amend
from tunsmith.route.change import AddRoute, ReplaceRoute
from tunsmith.route.facts import Address, Route, Snapshot
from tunsmith.route.plan import Plan, settings

if TYPE_CHECKING:
    from tunsmith.engine import Engine
    from tunsmith.up.engines import Engines
    from tunsmith.up.footprint import Footprint

CALM = 1.0
"""Seconds from one amendment to the next, at least."""


@dataclass(frozen=True, slots=True)
class Way:
    """How our sockets leave this machine: from its `addresses`, by the interface `pin` ("" for any), where
    `must_pin` says that without one they may not leave. As an order: go this way from now on."""

    addresses: frozenset[str]
    pin: str
    must_pin: bool

    def __call__(self, engine: Engine) -> None:
        escape = engine.escape
        if escape is not None:
            if self.must_pin and not self.pin:
                escape.leave_nowhere()
            else:
                escape.leave_by(self.pin or None)
        engine.on_network_changed(self.addresses, self.pin or None)


class Tracking:
    """From `start` to `close`, the changes of `plan` fit the machine. Make it before the snapshot that the plan was
    made for, or soon after: what has changed in between is found at the start."""

    def __init__(self, footprint: Footprint, engines: Engines, notice: Callable[[str], None]) -> None:
        self._footprint = footprint
        self._engines = engines
        self._notice = notice
        self._watcher = Watcher(self._changed, self._resumed)
        self._timer: asyncio.TimerHandle | None = None
        self._calm_until = 0.0
        self._trouble = ""

    def start(self, plan: Plan, servers: Iterable[Address]) -> None:
        """`servers` are those of the proxy: the way to them matters."""
        self._loop = asyncio.get_running_loop()
        self._plan = plan
        self._servers = tuple(servers)
        snapshot = self._look()
        self._way = _way(plan, snapshot)
        self._uplinks = _uplinks(plan, snapshot)
        self._watcher.start()
        self._changed()

    def close(self) -> None:
        """Idempotent."""
        self._watcher.close()
        if self._timer is not None:
            self._timer.cancel()

    def _changed(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_at(self._calm_until, self._follow)

    def _resumed(self, seconds: float) -> None:
        self._notice(f"this machine has slept for {seconds:.0f} s; connections are asked whether they live")
        self._engines.tell(methodcaller("on_resumed"))
        self._changed()

    def _follow(self) -> None:
        self._timer = None
        try:
            snapshot = self._look()
            amendment = amend(self._plan, snapshot)
            self._carry_out(amendment)
        except (HostError, UsageError) as error:
            if str(error) != self._trouble:  # once, however often it happens
                self._trouble = str(error)
                self._notice(f"the network has changed, and the routes do not fit any more: {error}")
            self._calm_until = self._loop.time() + CALM
            return
        self._trouble = ""
        self._go(amendment.plan, snapshot)

    def _look(self) -> Snapshot:
        names = [name for _, name in socket.if_nameindex()]
        return take_snapshot(settings(names), self._servers)

    def _carry_out(self, amendment: Amendment) -> None:
        old, self._plan = self._plan, amendment.plan
        if not amendment.steps:
            return
        self._calm_until = self._loop.time() + CALM
        before, wanted = set(old.changes), set(amendment.plan.changes)
        blocks = amendment.plan.blocks
        rest = []
        for change in amendment.changes:
            if isinstance(change, ReplaceRoute) and AddRoute(change.old, change.transient) in before:
                self._footprint.put_over(change)
            elif change in wanted:
                self._footprint.make([change], [change] if change in blocks else [])
            else:
                rest.append(change)
        self._footprint.take_back(change for change in old.changes if change not in wanted)
        with Machine() as machine:  # what goes with the TUN is in no journal
            for change in rest:
                undone = change.undo()
                if undone is not None and machine.holds(undone):
                    machine.make(change)

    def _go(self, plan: Plan, snapshot: Snapshot) -> None:
        """Tell the engines, where the way out is another one now."""
        way, uplinks = _way(plan, snapshot), _uplinks(plan, snapshot)
        if uplinks != self._uplinks:
            self._notice(f"network changed: {_words(uplinks)}")
        if way != self._way or uplinks != self._uplinks:
            self._engines.tell(way, standing="way")
        self._way, self._uplinks = way, uplinks


def _way(plan: Plan, snapshot: Snapshot) -> Way:
    addresses = frozenset(
        str(each.address.ip) for each in snapshot.addresses if each.device != plan.tun and each.scope != 253
    )
    return Way(addresses, plan.pin, plan.must_pin)


def _uplinks(plan: Plan, snapshot: Snapshot) -> tuple[Route, ...]:
    """The best ways out of the machine, one of IPv4 and one of IPv6."""
    found = []
    for version in (4, 6):
        ways = [route for route in snapshot.default_routes(version) if route.device != plan.tun]
        found += ways[:1]
    return tuple(found)


def _words(uplinks: tuple[Route, ...]) -> str:
    if not uplinks:
        return "there is no way out of this machine at the moment"
    return "out by " + " and ".join(
        f"{route.device} via {route.gateway}" if route.gateway else route.device for route in uplinks
    )
