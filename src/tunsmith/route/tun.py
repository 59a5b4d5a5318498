"""The TUN interface itself: its address, its switches. All of it goes when the interface goes."""

from __future__ import annotations

from tunsmith.route.change import AddAddress, Change, SetLink, SetSysctl
from tunsmith.route.draft import Draft
from tunsmith.route.site import Site
from tunsmith.route.wish import host_interface


def set_up(site: Site, draft: Draft) -> None:
    """Addresses stand alone (/32, /128): that of its network into the TUN is a matter of the strategy, so that our
    own sockets do not find it."""
    read = site.snapshot.settings.get
    changes: list[Change] = []

    def switch(key: str, value: str, usual: str) -> None:
        path = f"net/{key.format(site.tun)}"
        changes.append(SetSysctl(path, value, read(path, usual), transient=site.transient))

    if 6 in site.versions and read("net/ipv6/conf/default/disable_ipv6") == "1":
        switch("ipv6/conf/{}/disable_ipv6", "0", "1")
    if site.wish.gateway:
        switch("ipv4/conf/{}/forwarding", "1", "0")
    if "1" in (read("net/ipv4/conf/all/rp_filter"), read("net/ipv4/conf/default/rp_filter")):
        switch("ipv4/conf/{}/rp_filter", "2", "1")  # answers of a resolver in the LAN come out of the TUN
    before = site.snapshot.link(site.tun)
    was_up, was_mtu = (before.up, before.mtu) if before is not None else (False, 0)
    changes.append(
        SetLink(site.tun, True, site.wish.mtu, was_up=was_up, was_mtu=was_mtu, transient=site.transient)
    )
    known = {each.address for each in site.snapshot.addresses if each.device == site.tun}
    for version in site.versions:
        address = site.wish.address(version)
        if address is not None and (alone := host_interface(address.ip)) not in known:
            changes.append(AddAddress(site.tun, alone, transient=site.transient))
    draft.add(f"the TUN interface {site.tun} has addresses of its own", changes)
