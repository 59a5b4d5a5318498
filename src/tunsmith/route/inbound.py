"""What comes from outside and goes back there: connections that begin elsewhere, and answers to our own sockets.

Packets that arrive by an uplink look, to a strict reverse path filter (rp_filter=1, RFC 3704 §2.2), as though they
should have come from the TUN: for the filter asks by which interface an unmarked packet to their source would leave.
With the firewall they bear our mark, and with src_valid_mark the filter looks at it. Without it, the filter is set
to loose (2) where it was strict.
"""

from __future__ import annotations

from tunsmith.route.change import AddFirewall, Change, SetSysctl
from tunsmith.route.draft import Draft
from tunsmith.route.firewall import sources_only, table
from tunsmith.route.site import Site


def admit(site: Site, draft: Draft) -> None:
    """The reverse path filter lets our packets in."""
    _loosen(site, draft, marked=site.has_firewall and not site.wish.gateway)


def loosen(site: Site, draft: Draft) -> None:
    """The same without a firewall, for sockets that are bound to the uplink."""
    _loosen(site, draft, marked=False)


def remember(site: Site, draft: Draft) -> None:
    """Connections from outside go on as they were."""
    wish, numbers = site.wish, site.numbers
    if site.has_firewall:
        text = table(
            numbers.firewall,
            site.tun,
            numbers.mark,
            served=site.snapshot.served,
            sockets_bear_it=draft.mark != 0,
            gateway=wish.gateway,
            hidden=[address.ip for address in wish.addresses if wish.strict],
        )
        reason = "connections that begin elsewhere go back where they came from"
        draft.add(reason, [AddFirewall(numbers.firewall, text)], blocks=True)
        return
    reason = "nft is not there" if not wish.nft else "no mark is free"
    draft.notes.append(
        f"{reason}: only replies of the TCP services that run now leave the way they came; not those of UDP services, "
        "of containers with published ports, and of services that start later"
    )


def keep_sources(site: Site, draft: Draft) -> None:
    """Other hosts are seen by their own addresses, and that is all the firewall is for."""
    name = site.numbers.firewall
    change = AddFirewall(name, sources_only(name, site.tun))
    draft.add("other hosts are seen by their own addresses", [change])


def _loosen(site: Site, draft: Draft, *, marked: bool) -> None:
    reason = "the reverse path filter lets answers in that come by the uplink"
    draft.add(reason, _filters(site, marked), blocks=True)


def _filters(site: Site, marked: bool) -> list[Change]:
    found: list[Change] = []
    for device in site.uplinks(4):
        if _highest(site, device, "rp_filter") != 1:
            continue
        key, value = ("src_valid_mark", "1") if marked else ("rp_filter", "2")
        if marked and _highest(site, device, key) == 1:
            continue
        path = f"net/ipv4/conf/{device}/{key}"
        found.append(SetSysctl(path, value, site.snapshot.settings.get(path, "0")))
    return found


def _highest(site: Site, device: str, key: str) -> int:
    """What holds for `device`: the kernel takes the greater of its own switch and that of all."""
    read = site.snapshot.settings.get
    return max(int(read(f"net/ipv4/conf/{name}/{key}", "0")) for name in ("all", device))
