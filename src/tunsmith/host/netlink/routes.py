"""Routes over netlink: RTM_GETROUTE, RTM_NEWROUTE, RTM_DELROUTE (rtnetlink(7)).

A router may have a million of them, and Python needs a microsecond for a glance and ten for an object. So the
kernel is asked for a part where a part will do, and `Glance` looks at the fixed head of a message to say whether
the rest is worth it.

A route has attributes that route/facts.py does not name (metrics, encapsulations, the next hops of a multipath
route). They are kept as bytes, in `Route.rest`: so that a route put back is what it was, and one that differs
in them from ours is not taken for ours.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address, ip_network

from tunsmith.host.netlink.attributes import as_number, as_text, attribute, attributes, number, text
from tunsmith.host.netlink.channel import CREATE, EXCLUSIVE, REPLACE, Netlink
from tunsmith.route.facts import KERNEL, LOCAL, OURS, Address, Route

NEW, DELETE, GET = 24, 25, 26
MOST_OTHERS = 1000
"""Routes of a table that `read_routes` tells, beside those that matter."""

_DST, _OIF, _GATEWAY, _PRIORITY, _SOURCE, _MULTIPATH = 1, 4, 5, 6, 7, 9
_CACHEINFO, _TABLE, _MARK, _VIA, _PREF, _EXPIRES, _PAD, _UID, _NEXT_HOP_ID = (
    12,
    15,
    16,
    18,
    20,
    23,
    24,
    25,
    30,
)
_METRICS, _CC_ALGO = 8, 16
_TOLD = frozenset((_DST, _OIF, _GATEWAY, _PRIORITY, _SOURCE, _TABLE, _CACHEINFO, _EXPIRES, _PAD, _MARK, _UID))
_ONLINK = 0x4
_CLONED, _FIB_MATCH = 0x200, 0x2000
_SCOPE_LINK, _SCOPE_HOST = 253, 254
_USUAL_METRIC6 = 1024
_NEXT_HOP = struct.Struct("=HBBi")
_COMPAT_TABLE = 252

_KINDS = {
    1: "unicast",
    2: "local",
    3: "broadcast",
    4: "anycast",
    5: "multicast",
    6: "blackhole",
    7: "unreachable",
    8: "prohibit",
    9: "throw",
    10: "nat",
}
_CODES = {word: code for code, word in _KINDS.items()}
_REFUSING = ("blackhole", "unreachable", "prohibit", "throw")

_INFO = struct.Struct("=BBBBBBBBI")
"""Family, lengths of destination and source prefix, TOS, table, protocol, scope, kind, flags."""
_GLANCE = struct.Struct("=BBBBBBBBIHHI")
"""The same and the first attribute, which is the table where that is above 255."""
_SECOND = _INFO.size + 8
"""Where the attribute after the table begins: the network, unless it is a default route."""

Names = Callable[[int], str]
"""Tells an interface by its index, "" for 0."""
Indexes = Callable[[str], int]
"""The other way round. Raises OSError where there is none."""


def read_routes(netlink: Netlink, name_of: Names) -> list[Route]:
    """The routes of all tables but `local`. Of a table with more than MOST_OTHERS the default routes, the
    kernel's and ours are told, and of the rest that many."""
    found = []
    for family in (socket.AF_INET, socket.AF_INET6):
        seen: Counter[int] = Counter()

        def matters(buffer: bytearray, at: int, family: int = family, seen: Counter[int] = seen) -> bool:
            of, length, _, _, table, protocol, _, _, flags, _, kind, table32 = _GLANCE.unpack_from(buffer, at)
            if table == LOCAL or of != family or flags & _CLONED:
                return False
            if not length or protocol in (KERNEL, OURS):
                return True
            if table == _COMPAT_TABLE and kind == _TABLE:
                table = table32
            seen[table] += 1
            return seen[table] <= MOST_OTHERS

        request = _INFO.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
        found += [read_route(each, name_of) for each in netlink.dump(GET, request, matters)]
    return found


def read_like(netlink: Netlink, route: Route, name_of: Names) -> list[Route]:
    """The routes of the same prefix, table, protocol and kind."""
    family = _family(route.prefix.version)
    wanted = family, route.prefix.prefixlen, route.protocol, _CODES[route.kind]
    network = attribute(_DST, route.prefix.network_address.packed)

    def matters(buffer: bytearray, at: int) -> bool:
        of, length, _, _, _, protocol, _, kind, flags = _INFO.unpack_from(buffer, at)
        if (of, length, protocol, kind) != wanted or flags & _CLONED:
            return False
        is_second = buffer[at + _SECOND + 2] == _DST
        return not is_second or buffer.startswith(network, at + _SECOND)

    small = route.table if route.table < 256 else 0
    request = _INFO.pack(family, 0, 0, 0, small, route.protocol, 0, _CODES[route.kind], 0)
    messages = netlink.dump(GET, request + number(_TABLE, route.table), matters)
    found = (read_route(message, name_of) for message in messages)
    return [each for each in found if each.prefix == route.prefix and each.table == route.table]


def read_way(netlink: Netlink, to: Address, name_of: Names, mark: int = 0) -> Route | None:
    """The route by which this machine would send to `to` now, as its table has it; None where there is none."""
    request = _INFO.pack(_family(to.version), to.max_prefixlen, 0, 0, 0, 0, 0, 0, _FIB_MATCH)
    request += attribute(_DST, to.packed)
    if mark:
        request += number(_MARK, mark)
    try:
        return read_route(netlink.ask(GET, request), name_of)
    except OSError:
        return None


def read_route(message: bytes, name_of: Names) -> Route:
    """The route that `message` tells."""
    family, length, _, tos, table, protocol, scope, code, flags = _INFO.unpack_from(message)
    found = attributes(message, _INFO.size)
    version = 4 if family == socket.AF_INET else 6
    kind = _KINDS.get(code, str(code))
    index, gateway = as_number(found.get(_OIF)), found.get(_GATEWAY)
    via = found.get(_VIA)
    if via is not None:
        gateway = via[2:]
    if _MULTIPATH in found:
        index, gateway, flags = _first_hop(found[_MULTIPATH])
    source = found.get(_SOURCE)
    congctl = _take_congctl(found)
    return Route(
        ip_network((found.get(_DST, bytes(4 if version == 4 else 16)), length)),
        "" if kind in _REFUSING else name_of(index),
        ip_address(gateway) if gateway else None,
        as_number(found.get(_TABLE), table),
        as_number(found.get(_PRIORITY)),
        kind,
        protocol,
        scope,
        ip_address(source) if source else None,
        bool(flags & _ONLINK),
        _MULTIPATH in found,
        tos,
        _rest(found),
        congctl,
    )


def settled(route: Route) -> Route:
    """`route` as the kernel tells it once it is made: with the metric and the scope it has by default."""
    if route.prefix.version == 6:
        metric = route.metric or _USUAL_METRIC6
        return replace(route, metric=metric, scope=0, device="" if route.kind in _REFUSING else route.device)
    return replace(route, scope=_scope(route))


def add_route(netlink: Netlink, route: Route, index_of: Indexes) -> None:
    """Add `route`; EEXIST where its table has one of the same prefix, TOS and metric."""
    netlink.change(NEW, CREATE | EXCLUSIVE, pack_route(route, index_of))


def replace_route(netlink: Netlink, route: Route, index_of: Indexes) -> None:
    """Put `route` in the place of the one of the same table, prefix, TOS and metric, in one step. ENOENT where there
    is none."""
    netlink.change(NEW, REPLACE, pack_route(route, index_of))


def delete_route(netlink: Netlink, route: Route, name_of: Names, index_of: Indexes) -> None:
    """Delete the route that is equal to `route` in everything; ESRCH where there is none.

    The kernel deletes the first that has what a request says, and does not compare what it does not say (a source,
    metrics). Where that would be another: EBUSY, and nothing is deleted."""
    route = settled(route)
    key = (route.metric, route.tos, route.device, route.gateway)
    like = read_like(netlink, route, name_of)
    alike = [each for each in like if (each.metric, each.tos, each.device, each.gateway) == key]
    if route not in alike:
        raise OSError(errno.ESRCH, "there is no such route")
    if alike[0] != route:
        raise OSError(
            errno.EBUSY, "another route of the same prefix stands before it, and would be deleted instead"
        )
    netlink.change(DELETE, 0, pack_route(route, index_of))


def pack_route(route: Route, index_of: Indexes) -> bytes:
    """The body of a request about `route`."""
    route = settled(route)
    family = _family(route.prefix.version)
    body = _INFO.pack(
        family,
        route.prefix.prefixlen,
        0,
        route.tos,
        route.table if route.table < 256 else 0,
        route.protocol,
        route.scope,
        _CODES[route.kind],
        _ONLINK if route.onlink and not route.multipath else 0,
    )
    body += number(_TABLE, route.table) + attribute(_DST, route.prefix.network_address.packed)
    if route.metric:
        body += number(_PRIORITY, route.metric)
    if route.source is not None:
        body += attribute(_SOURCE, route.source.packed)
    rest = bytes.fromhex(route.rest)
    if not route.multipath and _NEXT_HOP_ID not in attributes(rest):
        if route.device:
            body += number(_OIF, index_of(route.device))
        if route.gateway is not None:
            body += _gateway(route.gateway, route.prefix.version)
    if route.congctl:
        body += attribute(_METRICS, text(_CC_ALGO, route.congctl))
    return body + rest


def _gateway(gateway: Address, version: int) -> bytes:
    if gateway.version == version:
        return attribute(_GATEWAY, gateway.packed)
    return attribute(_VIA, struct.pack("=H", _family(gateway.version)) + gateway.packed)


def _scope(route: Route) -> int:
    """As ip-route(8) has it: a network without a gateway is on the link."""
    if route.scope or route.kind in _REFUSING:
        return route.scope
    if route.kind == "local":
        return _SCOPE_HOST
    is_on_link = route.gateway is None and not route.multipath
    return _SCOPE_LINK if is_on_link or route.kind != "unicast" else 0


def _first_hop(hops: bytes) -> tuple[int, bytes | None, int]:
    """Interface, gateway and flags of the first of several next hops."""
    if len(hops) < _NEXT_HOP.size:
        return 0, None, 0
    length, flags, _, index = _NEXT_HOP.unpack_from(hops)
    found = attributes(hops[:length], _NEXT_HOP.size)
    via = found.get(_VIA)
    return index, via[2:] if via is not None else found.get(_GATEWAY), flags


def _take_congctl(found: dict[int, bytes]) -> str:
    """The congestion control of a route that has no other metric, out of `found`."""
    metrics = attributes(found.get(_METRICS, b""))
    if set(metrics) != {_CC_ALGO}:
        return ""
    del found[_METRICS]
    return as_text(metrics[_CC_ALGO])


def _rest(found: dict[int, bytes]) -> str:
    """The attributes that have no name of their own, as a request wants them."""
    packed = b""
    for kind, value in found.items():
        if kind in _TOLD or kind == _VIA or (kind == _PREF and value == b"\0"):
            continue
        packed += attribute(kind, value)
    return packed.hex()


def _family(version: int) -> int:
    return socket.AF_INET if version == 4 else socket.AF_INET6
