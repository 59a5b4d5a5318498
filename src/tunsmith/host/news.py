"""Which of the kernel's events about the network matter to a plan.

Passed over are: routes and rules of our own that come; table local, which follows the addresses; the networks of
routing daemons, thousands an hour; and a link that says the same as before, as those of Wi-Fi do all the time.
"""

from __future__ import annotations

import socket
import struct

from tunsmith.host.netlink import addresses, links, routes, rules
from tunsmith.route.facts import LOCAL, OURS

_ROUTE_HEAD = struct.Struct("=xBxxBBxxxxxx")
"""Length of the prefix, table, protocol."""
_DAEMONS = frozenset((8, 10, 11, 12, 14, 15, 17, 42, *range(186, 193)))
"""RTPROT of gated, mrt, zebra, bird, xorp, ntk, mrouted, babel, bgp, isis, ospf, rip, eigrp."""
_LINK_TELLING = (3, 4, 10, 16)
"""IFLA_IFNAME, IFLA_MTU, IFLA_MASTER, IFLA_OPERSTATE."""


class News:
    """Remembers the links, to tell an event from an echo."""

    __slots__ = ("_links",)

    def __init__(self) -> None:
        self._links: dict[int, tuple[object, ...]] = {}

    def matters(self, kind: int, body: bytes) -> bool:
        """Whether the event `kind` (RTM_NEW* or RTM_DEL*) with that body matters."""
        if kind in (links.NEW, links.DELETE):
            return body[0] == socket.AF_UNSPEC and self._is_new_of_link(kind, body)
        if kind in (routes.NEW, routes.DELETE):
            length, table, protocol = _ROUTE_HEAD.unpack_from(body)
            if table == LOCAL or (length and protocol in _DAEMONS):
                return False
            return kind == routes.DELETE or protocol != OURS
        if kind == rules.NEW:
            return rules.read_rule(body).protocol != OURS
        return kind in (addresses.NEW, addresses.DELETE, rules.DELETE)

    def _is_new_of_link(self, kind: int, body: bytes) -> bool:
        index, flags, found = links.parse(body)
        if kind == links.DELETE:
            self._links.pop(index, None)
            return True
        told = (flags & links.UP, *(found.get(each) for each in _LINK_TELLING))
        before = self._links.get(index)
        self._links[index] = told
        return told != before
