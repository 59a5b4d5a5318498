"""Policy rules over netlink: RTM_GETRULE, RTM_NEWRULE, RTM_DELRULE (linux/fib_rules.h)."""

from __future__ import annotations

import errno
import socket
import struct
from ipaddress import ip_network

from tunsmith.host.netlink.attributes import as_number, as_text, attribute, attributes, number, text
from tunsmith.host.netlink.channel import CREATE, EXCLUSIVE, Netlink
from tunsmith.route.facts import Prefix, Rule

NEW, DELETE, GET = 32, 33, 34
_DST, _SRC, _IIF, _GOTO, _PRIORITY, _MARK = 1, 2, 3, 4, 6, 10
_SUPPRESS_PREFIX, _TABLE, _MASK, _OIF, _PAD = 14, 15, 16, 17, 18
_PROTOCOL, _IP_PROTOCOL, _SPORT, _DPORT, _SPORT_MASK, _DPORT_MASK = 21, 22, 23, 24, 28, 29
_TOLD = {_DST, _SRC, _IIF, _GOTO, _PRIORITY, _MARK, _SUPPRESS_PREFIX, _TABLE, _MASK, _OIF, _PAD} | {
    _PROTOCOL, _IP_PROTOCOL, _SPORT, _DPORT, _SPORT_MASK, _DPORT_MASK
}  # fmt: skip
_ALL_BITS = b"\xff\xff"
"""Linux 6.15 tells how much of a port is compared."""
_INVERT = 0x2
_UNTOLD_NONE = 0xFFFFFFFF

_COMPARED = (
    *("table", "fwmark", "fwmask", "iif", "oif", "source", "destination"),
    *("ip_protocol", "ports", "source_ports", "suppress_prefixlength", "protocol"),
)
_UNSAID = (0, "", None, (0, 0), -1)

_ACTIONS = {1: "lookup", 2: "goto", 3: "nop", 6: "blackhole", 7: "unreachable", 8: "prohibit"}
_CODES = {word: code for code, word in _ACTIONS.items()}

_INFO = struct.Struct("=BBBBBxxBI")
"""Family, lengths of destination and source prefix, TOS, table, action, flags."""
_PORTS = struct.Struct("=HH")


def read_rules(netlink: Netlink) -> list[Rule]:
    """The rules of both families, in the order in which the kernel tries them."""
    found = []
    for family in (socket.AF_INET, socket.AF_INET6):
        request = _INFO.pack(family, 0, 0, 0, 0, 0, 0)
        found += [read_rule(each) for each in netlink.dump(GET, request) if each[0] == family]
    return found


def read_rule(message: bytes) -> Rule:
    """The rule that `message` tells."""
    family, dst_length, src_length, tos, table, action, flags = _INFO.unpack_from(message)
    found = attributes(message, _INFO.size)
    suppressed = as_number(found.get(_SUPPRESS_PREFIX), _UNTOLD_NONE)
    masks = {found.get(_SPORT_MASK, _ALL_BITS), found.get(_DPORT_MASK, _ALL_BITS)}
    return Rule(
        4 if family == socket.AF_INET else 6,
        as_number(found.get(_PRIORITY)),
        as_number(found.get(_TABLE), table),
        _ACTIONS.get(action, str(action)),
        bool(flags & _INVERT),
        as_number(found.get(_MARK)),
        as_number(found.get(_MASK)),
        as_text(found.get(_IIF)),
        as_text(found.get(_OIF)),
        _prefix(found.get(_SRC), src_length),
        _prefix(found.get(_DST), dst_length),
        found.get(_IP_PROTOCOL, b"\0")[0],
        _ports(found.get(_DPORT)),
        -1 if suppressed == _UNTOLD_NONE else suppressed,
        as_number(found.get(_GOTO)),
        found.get(_PROTOCOL, b"\0")[0],
        bool(tos) or not found.keys() <= _TOLD or masks != {_ALL_BITS},
        _ports(found.get(_SPORT)),
    )


def add_rule(netlink: Netlink, rule: Rule) -> None:
    """Add `rule`; EEXIST where there is one like it."""
    netlink.change(NEW, CREATE | EXCLUSIVE, pack_rule(rule))


def delete_rule(netlink: Netlink, rule: Rule) -> None:
    """Delete the rule that is equal to `rule` in everything; ESRCH where there is none.

    The kernel deletes the first that has what a request says, and does not compare what it does not say. Where
    that would be another: EBUSY, and nothing is deleted."""
    alike = [each for each in read_rules(netlink) if _has_all_of(rule, each)]
    if rule not in alike:
        raise OSError(errno.ESRCH, "there is no such rule")
    if alike[0] != rule:
        raise OSError(
            errno.EBUSY, "another rule of the same priority stands before it, and would be deleted instead"
        )
    netlink.change(DELETE, 0, pack_rule(rule))


def _has_all_of(rule: Rule, other: Rule) -> bool:
    """Whether the kernel would take `other` for `rule` when it is told to delete that."""
    if (rule.version, rule.priority, rule.action) != (other.version, other.priority, other.action):
        return False
    said = ((getattr(rule, name), getattr(other, name)) for name in _COMPARED)
    return all(mine in _UNSAID or mine == its for mine, its in said)


def pack_rule(rule: Rule) -> bytes:
    """The body of a request about `rule`."""
    family = socket.AF_INET if rule.version == 4 else socket.AF_INET6
    source, destination = rule.source, rule.destination
    body = _INFO.pack(
        family,
        destination.prefixlen if destination is not None else 0,
        source.prefixlen if source is not None else 0,
        0,
        rule.table if rule.table < 256 else 0,
        _CODES[rule.action],
        _INVERT if rule.inverted else 0,
    )
    if destination is not None:
        body += attribute(_DST, destination.network_address.packed)
    if source is not None:
        body += attribute(_SRC, source.network_address.packed)
    body += number(_PRIORITY, rule.priority)
    if rule.table:
        body += number(_TABLE, rule.table)
    if rule.fwmask:
        body += number(_MARK, rule.fwmark) + number(_MASK, rule.fwmask)
    for kind, name in ((_IIF, rule.iif), (_OIF, rule.oif)):
        body += text(kind, name) if name else b""
    if rule.action == "goto":
        body += number(_GOTO, rule.goto)
    if rule.suppress_prefixlength >= 0:
        body += number(_SUPPRESS_PREFIX, rule.suppress_prefixlength)
    if rule.ip_protocol:
        body += attribute(_IP_PROTOCOL, bytes([rule.ip_protocol]))
    for kind, ports in ((_SPORT, rule.source_ports), (_DPORT, rule.ports)):
        body += attribute(kind, _PORTS.pack(*ports)) if ports != (0, 0) else b""
    return body + attribute(_PROTOCOL, bytes([rule.protocol]))


def _ports(packed: bytes | None) -> tuple[int, int]:
    if packed is None:
        return 0, 0
    first, last = _PORTS.unpack(packed)
    return first, last


def _prefix(packed: bytes | None, length: int) -> Prefix | None:
    return None if packed is None or not length else ip_network((packed, length))
