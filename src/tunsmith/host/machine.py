"""Changes of this machine, made and taken back (route/change.py says what they are).

Taking back is for what we added, unchanged since: `take_back` looks at what is there, and where that is not what the
change made, it leaves it alone. So it can be done twice, by two processes, after a crash between a journal's line
and its change, and after somebody else has put the machine right.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from types import TracebackType

from tunsmith.errors import DeviceError, HostError
from tunsmith.host import nft
from tunsmith.host.journal import Journal
from tunsmith.host.netlink import addresses, links, routes, rules
from tunsmith.host.netlink.channel import Netlink
from tunsmith.host.sysctl import read_sysctl, set_sysctl
from tunsmith.host.tun import make_persistent
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
from tunsmith.route.facts import Address, Interface, Link, Route, Rule

_GONE = (errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.ENXIO, errno.EADDRNOTAVAIL)
_LINK_SCOPE = 253
_ADDED = (AddLink, AddAddress, AddRoute, AddRule, AddFirewall)


class Machine:
    """The network namespace of this process. Use as a context manager, or close it."""

    __slots__ = ("_journal", "_netlink")

    def __init__(self, journal: Journal | None = None) -> None:
        """With a `journal` that this process is in charge of, the programs that change something (nft) hold its lock
        as well, so that whoever takes over after our death waits for the one that is about to change something."""
        self._netlink = Netlink()
        self._journal = journal

    def __enter__(self) -> Machine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the netlink socket. What was made stays."""
        self._netlink.close()

    def make(self, change: Change) -> None:
        """Make `change`. Raises HostError, one line that says which change and why."""
        try:
            self._make(change)
        except OSError as error:
            raise HostError(f"cannot {_first_line(change)}: {_why(error)}") from error
        except DeviceError as error:
            raise HostError(str(error)) from error

    def make_all(self, changes: Sequence[Change]) -> None:
        """Make them in this order, or none: where one fails, those before it are taken back. Raises HostError."""
        made: list[Change] = []
        try:
            for change in changes:
                self.make(change)
                made.append(change)
        except BaseException:
            for change in reversed(made):
                self.take_back(change)
            raise

    def holds(self, change: Change) -> bool:
        """Whether this machine is as `change` makes it: what it adds is there and equal in everything, what it
        deletes is not there, what it sets has that value."""
        try:
            return self._holds(change)
        except OSError as error:
            if error.errno in _GONE:
                return not isinstance(change, (*_ADDED, ReplaceRoute, SetLink, SetSysctl))
            raise HostError(f"cannot look at what `{_first_line(change)}` did: {_why(error)}") from error

    def take_back(self, change: Change) -> bool:
        """Undo `change` if it holds; whether that was done. What is gone already is no error. Raises HostError
        where it is there and cannot be removed."""
        undo = change.undo()
        if undo is None or not self.holds(change):
            return False
        try:
            if isinstance(undo, SetLink) and not undo.up:
                self._set_down(undo)
            else:
                self._make(undo)
        except OSError as error:
            if error.errno in _GONE:
                return False
            raise HostError(f"cannot {_first_line(undo)}: {_why(error)}") from error
        return True

    def _set_down(self, undo: SetLink) -> None:
        """With the IPv6 addresses that it has: the kernel takes them from an interface that goes down, though one
        that is down can have them."""
        index = _index(undo.name)
        before = addresses.read_addresses(self._netlink, _name)
        self._make(undo)
        left = addresses.read_addresses(self._netlink, _name)
        for each in before:
            if each.device == undo.name and each not in left and each.scope != _LINK_SCOPE:
                addresses.add_address(self._netlink, index, each.address, each.peer)

    def _make(self, change: Change) -> None:
        netlink = self._netlink
        match change:
            case AddLink(name, tap, user, many_queues, group):
                make_persistent(name, tap, user, many_queues, group)
            case DeleteLink(name):
                links.delete_link(netlink, _index(name))
            case SetLink(name, up, mtu):
                links.set_link(netlink, _index(name), up, mtu)
            case AddAddress(device, address, peer):
                addresses.add_address(netlink, _index(device), address, peer)
            case DeleteAddress(device, address, peer):
                addresses.delete_address(netlink, _index(device), address, peer)
            case AddRoute(route):
                routes.add_route(netlink, route, _index)
            case DeleteRoute(route):
                routes.delete_route(netlink, route, _name, _index)
            case ReplaceRoute(_, new):
                routes.replace_route(netlink, new, _index)
            case AddRule(rule):
                rules.add_rule(netlink, rule)
            case DeleteRule(rule):
                rules.delete_rule(netlink, rule)
            case SetSysctl(path, value):
                set_sysctl(path, value)
            case AddFirewall(name, text):
                nft.add_table(name, text, self._held())
            case DeleteFirewall(name):
                nft.delete_table(name, self._held())

    def _holds(self, change: Change) -> bool:
        match change:
            case AddLink():
                return self._is_made(change)
            case DeleteLink(name):
                return self._link(name) is None
            case SetLink(name, up, mtu):
                link = self._link(name)
                return link is not None and link.up == up and mtu in (0, link.mtu)
            case AddAddress(device, address, peer):
                return self._has_address(device, address, peer)
            case DeleteAddress(device, address, peer):
                return not self._has_address(device, address, peer)
            case AddRoute(route):
                return self._has_route(route)
            case DeleteRoute(route):
                return not self._has_route(route)
            case ReplaceRoute(old, new):
                return self._has_route(new) and not self._has_route(old)
            case AddRule(rule):
                return self._has_rule(rule)
            case DeleteRule(rule):
                return not self._has_rule(rule)
            case SetSysctl(path, value):
                return read_sysctl(path) == " ".join(value.split())
            case AddFirewall(name, text):
                found = nft.table(name)
                # The name was free when we took it: where it cannot be told what we made, that has to do.
                return found is not None and nft.listed(name, text) in (found, None)
            case DeleteFirewall(name):
                return nft.table(name) is None

    def _held(self) -> tuple[int, ...]:
        return () if self._journal is None else self._journal.descriptors()

    def _link(self, name: str) -> Link | None:
        return next((link for link in links.read_links(self._netlink) if link.name == name), None)

    def _is_made(self, wanted: AddLink) -> bool:
        tun = links.read_tun(self._netlink, wanted.name)
        if tun is None or not tun.persistent:
            return False
        found = AddLink(wanted.name, tun.tap, tun.owner, tun.many_queues, tun.group)
        return found == wanted

    def _has_address(self, device: str, address: Interface, peer: Address | None) -> bool:
        found = addresses.read_addresses(self._netlink, _name)
        return any((each.device, each.address, each.peer) == (device, address, peer) for each in found)

    def _has_route(self, route: Route) -> bool:
        return routes.settled(route) in routes.read_like(self._netlink, route, _name)

    def _has_rule(self, rule: Rule) -> bool:
        return rule in rules.read_rules(self._netlink)


def _index(name: str) -> int:
    try:
        return socket.if_nametoindex(name)
    except OSError:
        raise OSError(errno.ENODEV, f"there is no interface {name}") from None


def _name(index: int) -> str:
    try:
        return socket.if_indextoname(index) if index else ""
    except OSError:
        return ""


def _first_line(change: Change) -> str:
    return change.commands()[0].partition("\n")[0]


def _why(error: OSError) -> str:
    if error.errno == errno.EPERM:
        return "not permitted: it takes root, or CAP_NET_ADMIN in a container"
    return error.strerror or str(error)
