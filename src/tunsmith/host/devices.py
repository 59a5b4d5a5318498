"""The TUN and TAP interfaces of this network namespace, and all that can be seen of them from outside."""

from __future__ import annotations

from dataclasses import dataclass

from tunsmith.host.holders import Holder, holders
from tunsmith.host.netlink.addresses import read_addresses
from tunsmith.host.netlink.channel import Netlink
from tunsmith.host.netlink.links import read_links, read_tun
from tunsmith.host.offloads import offloads
from tunsmith.route.change import AddLink
from tunsmith.route.facts import Interface, Link, LinkAddress


@dataclass(frozen=True, slots=True)
class Device:
    """`made` is how it was made. `persistent`: it stays when nobody has it open. `queues` is how many are open, where
    it may have many. `holders` are those that we may see; there are others where it `is_open` and there are none."""

    link: Link
    made: AddLink
    addresses: tuple[Interface, ...]
    persistent: bool
    is_open: bool
    queues: int
    vnet_header: bool
    offloads: list[str]
    holders: list[Holder]


def look_at(name: str) -> Device | None:
    """The TUN or TAP interface `name`, None where there is none."""
    return next(iter(look_at_all(name)), None)


def look_at_all(name: str = "") -> list[Device]:
    """All of them, or the one called `name`."""
    with Netlink() as netlink:
        links = read_links(netlink)
        names = {link.index: link.name for link in links}
        addresses = read_addresses(netlink, lambda index: names.get(index, ""))
        wanted = (link for link in links if link.kind == "tun" and name in ("", link.name))
        found = (_look_at(netlink, link, addresses) for link in wanted)
        return [device for device in found if device is not None]


def _look_at(netlink: Netlink, link: Link, addresses: list[LinkAddress]) -> Device | None:
    try:
        tun = read_tun(netlink, link.name)
    except OSError:  # it has just gone
        return None
    if tun is None:
        return None
    return Device(
        link,
        AddLink(link.name, tun.tap, tun.owner, tun.many_queues, tun.group),
        tuple(each.address for each in addresses if each.device == link.name),
        tun.persistent,
        tun.is_open,
        tun.queues + tun.idle_queues,
        tun.vnet_header,
        offloads(link.name),
        holders(link.name) if tun.is_open else [],
    )
