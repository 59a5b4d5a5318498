"""What somebody asks of `tunsmith up`, checked as far as that is possible without looking at the machine."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface

from tunsmith.errors import UsageError
from tunsmith.route.facts import ANY4, ANY6, Address, Interface, Prefix

AUTO = "auto"
STRATEGIES = ("mark", "interface", "replace", "cover")
"""How traffic is caught and our own let go; route/plan.py chooses where `AUTO` is asked."""
NETWORK: tuple[Interface, ...] = (IPv4Interface("198.18.0.1/15"), IPv6Interface("2001:2::1/48"))
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,15}")
_RESERVED = {".", "..", "all", "default", "lo"}
"""Names that the kernel refuses, or under which /proc/sys/net/ipv4/conf has something else."""


@dataclass(frozen=True, slots=True)
class Wish:
    """Raises UsageError where it cannot be fulfilled on any machine.

    `tun` is the name of the TUN interface, "" for the first free one. `addresses` are those of the TUN; the network
    of each is ours, and led into the TUN (fake addresses are from it). `servers` are the proxy's own addresses,
    none for a direct upstream. `include` is what goes through the TUN, everything where empty; `exclude` is left
    out of that. `interface` is the only way out that our own sockets may take. `dns`: queries go into the TUN even
    where the resolver stands in the LAN. `nft`: the firewall can be used."""

    tun: str = ""
    addresses: tuple[Interface, ...] = NETWORK
    mtu: int = 1500
    servers: tuple[Address, ...] = ()
    include: tuple[Prefix, ...] = ()
    exclude: tuple[Prefix, ...] = ()
    interface: str = ""
    strategy: str = AUTO
    strict: bool = False
    gateway: bool = False
    fail_closed: bool = False
    dns: bool = True
    nft: bool = True

    def __post_init__(self) -> None:
        for name in (self.tun, self.interface):
            if name:
                check_name(name)
        if self.tun and self.tun == self.interface:
            raise UsageError(f"{self.tun} cannot be the TUN interface and the way out at once")
        if self.strategy not in (AUTO, *STRATEGIES):
            raise UsageError(f"no strategy {self.strategy!r}: there are {', '.join((AUTO, *STRATEGIES))}")
        for prefix in self.include:
            if prefix in self.exclude:
                raise UsageError(f"{prefix} is included and excluded")
        for server in self.servers:
            if server.is_unspecified or server.is_multicast:
                raise UsageError(f"{server} cannot be the address of a proxy")
        if len({address.version for address in self.addresses}) != len(self.addresses):
            raise UsageError("the TUN takes one IPv4 and one IPv6 address")
        if any(address.version == 6 for address in self.addresses) and self.mtu < 1280:
            raise UsageError(f"an MTU of {self.mtu} is less than the 1280 that IPv6 needs (RFC 8200 §5)")

    @property
    def takes_all(self) -> bool:
        """Everything is to go through the TUN, but for what is excluded."""
        return not self.include or ANY4 in self.include or ANY6 in self.include

    def included(self, version: int) -> list[Prefix]:
        """What goes through the TUN, by prefix, none where this version is not asked for."""
        everything = ANY4 if version == 4 else ANY6
        if not self.include:
            return [] if everything in self.exclude else [everything]
        return _of(version, self.include)

    def excluded(self, version: int) -> list[Prefix]:
        return _of(version, self.exclude)

    def address(self, version: int) -> Interface | None:
        """The TUN's address."""
        return next((address for address in self.addresses if address.version == version), None)


def _of(version: int, prefixes: Sequence[Prefix]) -> list[Prefix]:
    return sorted({each for each in prefixes if each.version == version}, key=lambda each: each.prefixlen)


def check_name(name: str) -> None:
    """Raises UsageError where no interface can be called `name`."""
    if name in _RESERVED:
        raise UsageError(f"{name!r} cannot be the name of an interface here: the kernel uses it itself")
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be the name of an interface: 1 to 15 letters, digits, '.', '_' or '-'"
        )


def host_interface(address: Address) -> Interface:
    """`address` alone: /32 or /128."""
    return IPv4Interface(address) if isinstance(address, IPv4Address) else IPv6Interface(address)
