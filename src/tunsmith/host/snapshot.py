"""One moment of this network namespace: what a plan is made from, and what a watcher compares.

The kernel gives no moment: links, addresses, routes and rules are asked for one after the other, and may change in
between. That does no harm: a change that does not fit any more fails when it is made, and a watcher sees the event.
"""

from __future__ import annotations

from collections.abc import Iterable

from tunsmith.host import nft
from tunsmith.host.marks import used_marks
from tunsmith.host.netlink.addresses import read_addresses
from tunsmith.host.netlink.channel import Netlink
from tunsmith.host.netlink.links import read_links
from tunsmith.host.netlink.routes import read_routes, read_way
from tunsmith.host.netlink.rules import read_rules
from tunsmith.host.served import served_ports
from tunsmith.host.sysctl import read_sysctls
from tunsmith.route.facts import Address, Snapshot


def take_snapshot(settings: Iterable[str] = (), towards: Iterable[Address] = ()) -> Snapshot:
    """The network of this process's namespace, with the sysctls `settings` that exist.

    `routes` is without table local, and short where there are very many: read_routes tells which are there in any
    case. Those by which the machine sends to the addresses `towards` now are among them always."""
    with Netlink() as netlink:
        links = read_links(netlink)
        names = {link.index: link.name for link in links}

        def name_of(index: int) -> str:
            return names.get(index, "")

        routes = dict.fromkeys(read_routes(netlink, name_of))
        for address in towards:
            way = read_way(netlink, address, name_of)
            if way is not None:
                routes[way] = None
        ruleset = nft.ruleset()
        return Snapshot(
            tuple(links),
            tuple(read_addresses(netlink, name_of)),
            tuple(routes),
            tuple(read_rules(netlink)),
            read_sysctls(settings),
            used_marks(ruleset),
            served_ports(),
            nft.tables_in(ruleset),
        )
