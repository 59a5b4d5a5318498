"""A TUN interface that was there before us and stays: what we do to it has to be taken back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from tunsmith.host.machine import Machine
from tunsmith.host.sysctl import read_sysctl
from tunsmith.route.change import AddAddress, AddRoute, Change, SetLink, SetSysctl
from tunsmith.route.facts import Link


def lasting(changes: Iterable[Change], link: Link, machine: Machine) -> Iterator[Change]:
    """`changes` planned for an interface that goes with us, for `link`, which does not; without those that somebody
    else has made."""
    for change in changes:
        if machine.holds(change):
            continue
        if isinstance(change, SetLink) and change.name == link.name:
            mtu, was_mtu = (0, 0) if change.mtu == link.mtu else (change.mtu, link.mtu)
            yield SetLink(link.name, change.up, mtu, was_up=link.up, was_mtu=was_mtu)
        elif isinstance(change, SetSysctl):
            yield replace(change, was=read_sysctl(change.path) or change.was, transient=False)
        elif isinstance(change, AddAddress | AddRoute):
            yield replace(change, transient=False)
        else:
            yield change
