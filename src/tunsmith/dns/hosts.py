"""hosts(5): an address and its names on each line."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address


def addresses_of(name: str, text: str) -> list[IPv4Address | IPv6Address]:
    """The addresses that the hosts file `text` gives `name`, in its order; names compare without case. What
    cannot be understood is skipped."""
    wanted = name.lower().removesuffix(".")
    found = []
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        if wanted in (name.lower() for name in names):
            try:
                found.append(ip_address(address))
            except ValueError:
                continue
    return found
