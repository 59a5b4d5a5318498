"""Names of proxies, looked up with sockets that leave this machine as all of ours do.

getaddrinfo(3) opens sockets that cannot be marked, so with routes into the TUN in place its questions would go
into the tunnel that they are to open. Here they are asked of the machine's resolvers by way of the dialers, after
a look into /etc/hosts. A name that cannot be looked up any more keeps the addresses it had: they are as good as
ever when only DNS fails. Fake addresses, which a resolver of this machine may have been given by ourselves, are none.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from tunsmith.config import Network, Settings
from tunsmith.dial.direct import DirectDialer
from tunsmith.dial.escape import Escape
from tunsmith.dial.resolve import Address
from tunsmith.dns.hosts import addresses_of
from tunsmith.errors import DialTimeout, DialUnreachable, Reach, WireError
from tunsmith.relay.dns import Resolver
from tunsmith.relay.dns_exchange import PORT
from tunsmith.wire import dns

HOSTS = "/etc/hosts"


class Lookup:
    """`await lookup(name)` for dial/resolve.py."""

    def __init__(
        self, escape: Escape, settings: Settings, search: Sequence[str] = (), *, port: int = PORT
    ) -> None:
        """`settings.resolvers` are asked, at `port`; names without a dot are also tried in the domains `search`."""
        self._escape = escape
        self._network = settings.network
        self._search = tuple(search)
        self._resolver = Resolver(DirectDialer(escape), settings, port=port, escape=escape)
        self._last: dict[str, list[Address]] = {}

    def remember(self, name: str, addresses: Sequence[Address]) -> None:
        """`name` had these addresses before our time."""
        self._last[name] = list(addresses)

    async def __call__(self, name: str) -> list[Address]:
        """The addresses of `name`, those first that this machine has a way to. Raises DialUnreachable, DialTimeout."""
        try:
            found = _from_hosts(name) or await self._from_dns(name)
        except DialTimeout:
            if name in self._last:
                return self._last[name]
            raise
        if not found:
            if name in self._last:
                return self._last[name]
            raise DialUnreachable(f"{name}: no such name", Reach.HOST)
        self._last[name] = sorted(found, key=lambda entry: not self._has_route(*entry))
        return self._last[name]

    async def _from_dns(self, name: str) -> list[Address]:
        domains = self._search if "." not in name else ()
        for candidate in (*(f"{name}.{domain}" for domain in domains), name):
            if found := await self._ask_both(candidate):
                return found
        return []

    async def _ask_both(self, name: str) -> list[Address]:
        """IPv6 before IPv4, as RFC 6724 has it for a host with both."""
        six, four = await asyncio.gather(self._ask(name, dns.AAAA), self._ask(name, dns.A))
        if six is None and four is None:
            raise DialTimeout(f"{name}: the resolvers of this machine do not answer")
        return [entry for entry in map(_address, (*(six or ()), *(four or ()))) if not self._is_fake(entry)]

    async def _ask(self, name: str, rdtype: int) -> list[bytes] | None:
        """Packed addresses; None where nobody could say."""
        identifier = int.from_bytes(os.urandom(2), "big")
        try:
            query = dns.make_query(identifier, name, rdtype)
        except WireError as error:
            raise DialUnreachable(str(error), Reach.HOST) from None
        reply = await self._resolver.resolve(query, tcp=False)
        if reply is not None and reply[2] & dns.TC >> 8:
            reply = await self._resolver.resolve(query, tcp=True)
        if reply is None or dns.rcode_of(reply) not in (dns.NOERROR, dns.NXDOMAIN):
            return None
        return dns.addresses_in(reply)

    def _is_fake(self, entry: Address) -> bool:
        return is_fake(self._network, ip_address(entry[1]))

    def _has_route(self, family: int, host: str) -> bool:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                self._escape.pin(probe, host)
                probe.connect((host, PORT))
            except OSError:
                return False
        return True


def is_fake(network: Network, address: IPv4Address | IPv6Address) -> bool:
    """Whether `address` stands for a name in `network`, and for no host."""
    return address in (network.fake if address.version == 4 else network.fake6)


def _from_hosts(name: str) -> list[Address]:
    try:
        with open(HOSTS, encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError:
        return []
    return [_address(address.packed) for address in addresses_of(name, text)]


def _address(packed: bytes) -> Address:
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    return family, socket.inet_ntop(family, packed)
