"""The upstream of a whole machine: its dialer, whose sockets escape the routes, and where its name leads to.

The name of a proxy is looked up as this machine does before anything is changed, and from then on by our own
questions (relay/lookup.py).
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from ipaddress import ip_address

from tunsmith.config import Settings
from tunsmith.dial.base import Dialer
from tunsmith.dial.direct import DirectDialer
from tunsmith.dial.escape import Escape
from tunsmith.dial.resolve import Address as Found
from tunsmith.dial.resolve import Resolver, family_of
from tunsmith.dial.url import UpstreamUrl, make_dialer, parse_upstream
from tunsmith.dns import resolvconf
from tunsmith.dns.resolvconf import ResolvConf
from tunsmith.errors import HostError
from tunsmith.flow import Target
from tunsmith.host.link import is_local
from tunsmith.host.resolvfiles import RESOLV_CONF, read_regular_file
from tunsmith.host.socket_owner import listeners_at, peers_of
from tunsmith.relay.lookup import Lookup, is_fake
from tunsmith.relay.neighbour import Neighbour
from tunsmith.route.facts import Address

BEHIND_STUB = "/run/systemd/resolve/resolv.conf"
"""Whom systemd-resolved asks, where resolv.conf names nobody but itself."""


MOST_PEERS = 16
"""Of a proxy on this machine that get a way of their own; one that has more relays for others, too."""


@dataclass(frozen=True, slots=True)
class Server:
    """The proxy: what it is called, where it was found, and its port; nothing of these for an upstream that is none."""

    name: str = ""
    found: tuple[Found, ...] = ()
    port: int = 0

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where it is, as far as that is away from this machine."""
        known = (ip_address(host) for _, host in self.found)
        return tuple(address for address in known if not address.is_loopback)

    @property
    def is_here(self) -> bool:
        """Whether it is a program on this machine."""
        return bool(self.found) and all(is_local(ip_address(host)) for _, host in self.found)

    def peers(self) -> list[Address]:
        """Where a proxy on this machine is connected to, `ssh -D` to its server say. That connection is from before
        our time: it must not be led into the TUN."""
        found = peers_of(listeners_at(self.port)) if self.is_here else ()
        away = [address for address in found if not is_local(address)]
        return away if len(away) <= MOST_PEERS else []


def find_server(via: str, settings: Settings) -> Server:
    """The proxy that `via` names. Raises UsageError for a URL that is none, HostError where its name leads nowhere."""
    url = parse_upstream(via)
    if not url.host:
        return Server()
    family = family_of(url.host)
    if family is not None:
        return Server(url.host, ((family, url.host),), url.port)
    return Server(url.host, _look_up(url, settings), url.port)


def _look_up(url: UpstreamUrl, settings: Settings) -> tuple[Found, ...]:
    try:
        found = socket.getaddrinfo(url.host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise HostError(f"{url}: the proxy's name cannot be looked up ({why}); nothing was changed") from None
    addresses = [(int(family), str(address[0])) for family, _, _, _, address in found]
    real = [entry for entry in addresses if not is_fake(settings.network, ip_address(entry[1]))]
    if not real:
        raise HostError(
            f"{url}: this machine's DNS gives a fake address for the proxy ({addresses[0][1]}), as behind another "
            f"tunsmith or a Clash; name the proxy by its address"
        )
    return tuple(real)


def own_resolver(escape: Escape, settings: Settings, search: tuple[str, ...], server: Server) -> Resolver:
    """Names from now on: asked of `settings.resolvers`, by our own sockets."""
    lookup = Lookup(escape, settings, search)
    if server.name:
        lookup.remember(server.name, server.found)
    return Resolver(lookup)


def open_upstream(
    via: str, escape: Escape, settings: Settings, search: tuple[str, ...], server: Server
) -> Dialer:
    """The dialer that `via` stands for."""
    return make_dialer(via, escape, own_resolver(escape, settings, search, server))


def find_neighbour(server: Server, escape: Escape, resolver: Resolver) -> Neighbour | None:
    """The proxy, where it is a program on this machine."""
    if not server.is_here:
        return None
    return Neighbour(Target(server.name, server.port), DirectDialer(escape, resolver))


def read_resolvers() -> ResolvConf:
    """The resolvers of this machine that can be asked with sockets of ours. A stub on loopback asks on its own
    account, with sockets that are led into the TUN; where it is systemd-resolved, its file says whom."""
    here = resolvconf.parse(_read(RESOLV_CONF))
    if here.nameservers and all(_is_loopback(address) for address in here.nameservers):
        behind = resolvconf.parse(_read(BEHIND_STUB))
        if behind.nameservers:
            return ResolvConf(behind.nameservers, here.search or behind.search, here.options)
    return here


def _is_loopback(address: str) -> bool:
    return ip_address(address).is_loopback


def _read(path: str) -> str:
    try:
        return read_regular_file(path)
    except OSError:
        return ""
