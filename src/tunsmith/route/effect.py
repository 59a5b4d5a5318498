"""What a change does to a machine, on paper."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TypeVar

from tunsmith.route.change import (
    AddAddress,
    AddFirewall,
    AddLink,
    AddRoute,
    AddRule,
    Change,
    DeleteAddress,
    DeleteFirewall,
    DeleteLink,
    DeleteRoute,
    DeleteRule,
    ReplaceRoute,
    SetLink,
    SetSysctl,
)
from tunsmith.route.facts import Link, LinkAddress, Rule, Snapshot

_Item = TypeVar("_Item")
_ALL_IPV6, _IPV6 = "net/ipv6/conf/all/forwarding", re.compile("net/ipv6/conf/[^/]+/forwarding")
"""Writing the first writes all of the second."""


def holds(change: Change, snapshot: Snapshot) -> bool:
    """Whether the machine is as `change` makes it. Of a table of nftables only the name is known."""
    match change:
        case AddLink(name):
            return snapshot.link(name) is not None
        case DeleteLink(name):
            return snapshot.link(name) is None
        case SetLink(name, up, mtu):
            link = snapshot.link(name)
            return link is not None and link.up == up and mtu in (0, link.mtu)
        case AddAddress():
            return any(_is_address(change, each) for each in snapshot.addresses)
        case DeleteAddress():
            return not any(_is_address(change, each) for each in snapshot.addresses)
        case AddRoute(route):
            return route in snapshot.routes
        case DeleteRoute(route):
            return route not in snapshot.routes
        case ReplaceRoute(old, new):
            return new in snapshot.routes and old not in snapshot.routes
        case AddRule(rule):
            return rule in snapshot.rules
        case DeleteRule(rule):
            return rule not in snapshot.rules
        case SetSysctl(path, value):
            return snapshot.settings.get(path) == value
        case AddFirewall(name):
            return name in snapshot.firewalls
        case DeleteFirewall(name):
            return name not in snapshot.firewalls


def apply(change: Change, snapshot: Snapshot) -> Snapshot:
    """The machine after `change`."""
    match change:
        case AddLink(name):
            link = Link(name, max((each.index for each in snapshot.links), default=0) + 1, "tun", up=False)
            return replace(snapshot, links=(*snapshot.links, link))
        case DeleteLink(name):
            return without_link(name, snapshot)
        case SetLink(name, up, mtu):
            links = (
                replace(each, up=up, mtu=mtu or each.mtu) if each.name == name else each
                for each in snapshot.links
            )
            return replace(snapshot, links=tuple(links))
        case AddAddress(device, address, peer):
            return replace(snapshot, addresses=(*snapshot.addresses, LinkAddress(device, address, peer)))
        case DeleteAddress():
            kept = tuple(each for each in snapshot.addresses if not _is_address(change, each))
            return replace(snapshot, addresses=kept)
        case AddRoute(route):
            return replace(snapshot, routes=(*snapshot.routes, route))
        case DeleteRoute(route):
            return replace(snapshot, routes=_less(snapshot.routes, route))
        case ReplaceRoute(old, new):
            return replace(snapshot, routes=tuple(new if each == old else each for each in snapshot.routes))
        case AddRule(rule):
            return replace(snapshot, rules=_sorted_in(snapshot.rules, rule))
        case DeleteRule(rule):
            return replace(snapshot, rules=_less(snapshot.rules, rule))
        case SetSysctl(path, value):
            also = (each for each in snapshot.settings if path == _ALL_IPV6 and _IPV6.fullmatch(each))
            return replace(
                snapshot, settings={**snapshot.settings, **dict.fromkeys(also, value), path: value}
            )
        case AddFirewall(name):
            return replace(snapshot, firewalls=snapshot.firewalls | {name})
        case DeleteFirewall(name):
            return replace(snapshot, firewalls=snapshot.firewalls - {name})


def _is_address(change: AddAddress | DeleteAddress, found: LinkAddress) -> bool:
    return (found.device, found.address, found.peer) == (change.device, change.address, change.peer)


def _less(items: tuple[_Item, ...], item: _Item) -> tuple[_Item, ...]:
    return tuple(each for each in items if each != item)


def _sorted_in(rules: tuple[Rule, ...], rule: Rule) -> tuple[Rule, ...]:
    """Behind those of the same priority, as the kernel does it."""
    place = (rule.version, rule.priority)
    before = [each for each in rules if (each.version, each.priority) <= place]
    return (*before, rule, *(each for each in rules if (each.version, each.priority) > place))


def without_link(name: str, snapshot: Snapshot) -> Snapshot:
    """Its addresses, routes and switches go with it."""
    settings = {path: value for path, value in snapshot.settings.items() if f"/{name}/" not in path}
    return replace(
        snapshot,
        links=tuple(each for each in snapshot.links if each.name != name),
        addresses=tuple(each for each in snapshot.addresses if each.device != name),
        routes=tuple(each for each in snapshot.routes if each.device != name),
        settings=settings,
    )
