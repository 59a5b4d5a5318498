"""The TUN interface itself: its address, its switches. All of it goes when the interface goes."""

from __future__ import annotations

from tunsmith.route.change import AddAddress, Change, SetLink, SetSysctl
from tunsmith.route.draft import Draft
from tunsmith.route.site import Site
from tunsmith.route.wish import host_interface


def set_up(site: Site, draft: Draft) -> None:
    """Addresses stand alone (/32, /128): that of its network into the TUN is a matter of the strategy, so that our
    own sockets do not find it."""
    switches: list[Change] = []
    read = site.snapshot.settings.get
    if 6 in site.versions and read("net/ipv6/conf/default/disable_ipv6") == "1":
        switches.append(SetSysctl(f"net/ipv6/conf/{site.tun}/disable_ipv6", "0", "1", transient=True))
    if site.wish.gateway:
        switches.append(SetSysctl(f"net/ipv4/conf/{site.tun}/forwarding", "1", "0", transient=True))
    if "1" in (read("net/ipv4/conf/all/rp_filter"), read("net/ipv4/conf/default/rp_filter")):
        # Answers of a resolver in the LAN come out of the TUN.
        switches.append(SetSysctl(f"net/ipv4/conf/{site.tun}/rp_filter", "2", "1", transient=True))
    addresses = [
        AddAddress(site.tun, host_interface(address.ip), transient=True)
        for version in site.versions
        if (address := site.wish.address(version)) is not None
    ]
    changes = [*switches, SetLink(site.tun, up=True, mtu=site.wish.mtu, transient=True), *addresses]
    draft.add(f"the TUN interface {site.tun} has addresses of its own", changes)
