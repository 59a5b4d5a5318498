"""Traffic of other hosts: what it takes to let it through.

IPv4 asks the interface by which a packet comes whether it forwards. IPv6 asks one switch for all interfaces, which
makes each of them a router: one that ignores the router advertisements by which the machine got its own addresses
and default route, unless accept_ra is 2. Linux 6.17 has a switch of each interface (force_forwarding), and with it
nothing else changes.
"""

from __future__ import annotations

from tunsmith.route.change import Change, SetSysctl
from tunsmith.route.draft import Draft
from tunsmith.route.site import Site


def forward(site: Site, draft: Draft) -> None:
    """Take packets of other hosts, and give them theirs."""
    for version in site.versions:
        hosts = _towards_hosts(site, version)
        if not hosts:
            draft.notes.append(f"no interface leads to other hosts by IPv{version}")
            continue
        draft.hosts += [name for name in hosts if name not in draft.hosts]
        changes = _forward4(site, hosts) if version == 4 else _forward6(site, hosts)
        draft.add(f"IPv{version} packets of hosts on {', '.join(hosts)} are forwarded", changes)
    if not site.wish.nft:
        draft.notes.append("nft is not there: hosts whose packets are masqueraded are seen as this machine")


def _towards_hosts(site: Site, version: int) -> list[str]:
    """The interfaces with a network of hosts: all but the uplinks, or those where there is nothing else."""
    ways_out = site.uplinks(version)
    known = {
        each.device for each in site.snapshot.addresses if each.address.version == version and not each.scope
    }
    names = [
        link.name
        for link in site.snapshot.links
        if link.name in known and not link.loopback and link.name != site.tun
    ]
    return [name for name in names if name not in ways_out] or names


def _forward4(site: Site, hosts: list[str]) -> list[Change]:
    return [
        _switch(site, f"net/ipv4/conf/{name}/forwarding", "1") for name in hosts if not _is_on(site, 4, name)
    ]


def _forward6(site: Site, hosts: list[str]) -> list[Change]:
    read = site.snapshot.settings.get
    if _is_on(site, 6, "all"):
        return []
    if read("net/ipv6/conf/all/force_forwarding") is not None:
        force = [f"net/ipv6/conf/{name}/force_forwarding" for name in hosts]
        ours = SetSysctl(f"net/ipv6/conf/{site.tun}/force_forwarding", "1", "0", transient=site.transient)
        return [ours, *(_switch(site, path, "1") for path in force if read(path) != "1")]
    names = [link.name for link in site.snapshot.links if link.name != site.tun]
    # The switch for all turns each on and, when it is taken back, off. What was on already is turned off before, so
    # that it is turned on again after.
    off = [
        _switch(site, f"net/ipv6/conf/{name}/forwarding", "0")
        for name in ["default", *names]
        if _is_on(site, 6, name)
    ]
    keep = [
        _switch(site, f"net/ipv6/conf/{name}/accept_ra", "2")
        for name in names
        if read(f"net/ipv6/conf/{name}/accept_ra") == "1" and not _is_on(site, 6, name)
    ]
    return [*keep, *off, _switch(site, "net/ipv6/conf/all/forwarding", "1")]


def _is_on(site: Site, version: int, name: str) -> bool:
    return site.snapshot.settings.get(f"net/ipv{version}/conf/{name}/forwarding") == "1"


def _switch(site: Site, path: str, value: str) -> SetSysctl:
    return SetSysctl(path, value, site.snapshot.settings.get(path, "0"))
