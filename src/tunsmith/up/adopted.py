"""A TUN interface that was there before us and stays: what we do to it has to be taken back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from tunsmith.host.machine import Machine
from tunsmith.route.change import AddAddress, AddRoute, Change, SetLink, SetSysctl
from tunsmith.route.facts import Link


def lasting(changes: Iterable[Change], link: Link, machine: Machine) -> Iterator[Change]:
    """`changes` planned for an interface that goes with us, for `link`, which does not; without those that somebody
    else has made."""
    for change in changes:
        if machine.holds(change):
            continue
        if isinstance(change, SetLink) and change.name == link.name:
            yield replace(change, was_up=link.up, was_mtu=link.mtu, transient=False)
        elif isinstance(change, AddAddress | AddRoute | SetSysctl):
            yield replace(change, transient=False)
        else:
            yield change
