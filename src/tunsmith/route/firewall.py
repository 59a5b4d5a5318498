"""Our table of nftables: it remembers of each connection whether it belongs to the TUN.

A connection that is our own, or comes from elsewhere than the TUN to this machine, bears our mark from then on: in its
conntrack entry, and in each packet of it, before the route is looked up. So replies of services leave the way their
clients came, published ports of containers work, and the answers to our own sockets pass a strict reverse path filter
(with src_valid_mark). Only our bit is ever set or looked at.

Connections that began before us have no mark. Where conntrack knows them, they get it with the next packet from
elsewhere, for it knows who began. Where it does not, those to a port that was served at start are known by their
source port, and by not being a SYN.

What other hosts send into the TUN is to be seen by their own addresses: a binding to the address it has already comes
before whoever masquerades.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from tunsmith.route.facts import Address

_MANGLE = -150
_BEFORE_SOURCE_NAT = 90
"""srcnat is 100."""


def table(
    name: str,
    tun: str,
    mark: int,
    *,
    served: Collection[int] = (),
    sockets_bear_it: bool = True,
    gateway: bool = False,
    hidden: Iterable[Address] = (),
) -> str:
    """The text of the table. `sockets_bear_it`: our own sockets do; where not, they are known by leaving past the TUN,
    as does what others begin in the moment before the rules are there. `gateway`: traffic of other hosts goes into
    the TUN too, with their own addresses. `hidden` are addresses that nobody may speak to but through the TUN."""
    is_ours, remember, bear = (
        f"ct mark & {mark:#x} == {mark:#x}",
        f"ct mark set ct mark | {mark:#x}",
        f"meta mark set meta mark | {mark:#x}",
    )
    arriving = [
        f'iifname {{ "{tun}", "lo" }} return',
        *(f"{_family(address)} daddr {address} drop" for address in hidden),
        f"{is_ours} {bear} return",
        f"ct direction original fib daddr type local {remember} {bear}",
    ]
    passing = [f'iifname != "{tun}" oifname != "{tun}" ct direction original {remember}']
    leaving = ['oifname "lo" return', f"{is_ours} {bear} return"]
    if served:
        ports = ", ".join(str(port) for port in sorted(served))
        leaving.append(
            f'oifname "{tun}" tcp sport {{ {ports} }} tcp flags & (fin | syn | rst | ack) != syn {remember} {bear}'
        )
    own = f"meta mark & {mark:#x} == {mark:#x}" if sockets_bear_it else f'oifname != "{tun}"'
    leaving.append(f"{own} ct state new {remember}")
    if gateway:
        # A container may be the first to speak in a connection to its published port that is older than us.
        arriving.append(f"ct direction reply ct status dnat {remember} {bear}")
        passing.insert(0, f'iifname "{tun}" oifname "{tun}" drop')
    chains = [
        _chain("arriving", f"type filter hook prerouting priority {_MANGLE}", arriving),
        _chain("passing", f"type filter hook forward priority {_MANGLE}", passing),
        _chain("leaving", f"type route hook output priority {_MANGLE}", leaving),
    ]
    if gateway:
        chains.append(_sources(tun))
    return _table(name, chains)


def sources_only(name: str, tun: str) -> str:
    """The text of a table that does no more than keep the addresses of those who send into the TUN."""
    return _table(name, [_sources(tun)])


def _sources(tun: str) -> str:
    keep = [f'oifname "{tun}" snat {family} to {family} saddr' for family in ("ip", "ip6")]
    return _chain("source", f"type nat hook postrouting priority {_BEFORE_SOURCE_NAT}", keep)


def _table(name: str, chains: Iterable[str]) -> str:
    return f"table inet {name} {{\n" + "\n".join(chains) + "\n}\n"


def _family(address: Address) -> str:
    return "ip" if address.version == 4 else "ip6"


def _chain(name: str, hook: str, rules: list[str]) -> str:
    lines = "".join(f"    {rule}\n" for rule in rules)
    return f"  chain {name} {{\n    {hook}; policy accept;\n{lines}  }}"
