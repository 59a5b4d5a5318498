"""A machine of changes for tests that need no kernel: what holds is a set of words."""

from __future__ import annotations

from ipaddress import ip_network

from tunsmith.errors import HostError
from tunsmith.route.change import (
    AddRoute,
    AddRule,
    Change,
    DeleteRoute,
    DeleteRule,
    SetLink,
    SetSysctl,
)
from tunsmith.route.facts import Route, Rule

BLOCK = AddRoute(Route(ip_network("0.0.0.0/0"), table=125, kind="unreachable", metric=4096))
RULE = AddRule(Rule(4, 32000, table=125, inverted=True, fwmark=0x40, fwmask=0xFF))
FILTER = SetSysctl("net/ipv4/conf/eth0/rp_filter", "2", "1")
UP = SetLink("tunsmith0", True, 1500, transient=True)
CHANGES: tuple[Change, ...] = (FILTER, UP, BLOCK, RULE)


class World:
    """Stands for host/machine.py. `settings` are sysctls, `things` are routes and rules, `undone` is what was taken
    back, in order; a change among `stubborn` cannot be."""

    def __init__(self) -> None:
        self.settings = {FILTER.path: FILTER.was}
        self.things: set[Route | Rule] = set()
        self.undone: list[Change] = []
        self.stubborn: set[Change] = set()

    def make(self, change: Change) -> None:
        match change:
            case SetSysctl(path, value):
                self.settings[path] = value
            case AddRoute(thing) | AddRule(thing):
                self.things.add(thing)
            case DeleteRoute(thing) | DeleteRule(thing):
                self.things.discard(thing)
            case _:
                assert change.undo() is None

    def holds(self, change: Change) -> bool:
        match change:
            case SetSysctl(path, value):
                return self.settings.get(path) == value
            case AddRoute(thing) | AddRule(thing):
                return thing in self.things
            case DeleteRoute(thing) | DeleteRule(thing):
                return thing not in self.things
        raise AssertionError(change)

    def take_back(self, change: Change) -> bool:
        if change in self.stubborn:
            raise HostError("cannot: not permitted")
        undo = change.undo()
        if undo is None or not self.holds(change):
            return False
        self.make(undo)
        self.undone.append(change)
        return True
