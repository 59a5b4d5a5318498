"""What an application behind a proxy is told: every name exists, at a fake address of its own.

Whether it really exists only the proxy can tell, when it is asked to connect. So:

- A and AAAA: the fake address, TTL 1. ANY: both (a subset is allowed, RFC 8482 §4.1).
- HTTPS and SVCB: the name has none. Real ones carry address hints, keys and other target names, all of which
  would lead a browser past the fake address; without them it falls back to A and AAAA (RFC 9460 §3).
- PTR of a fake address: the name that owns it, or no such name. PTR of loopback: localhost.
- `localhost` and names under it are this machine (RFC 6761 §6.3), `invalid` does not exist (§6.4).
- A name that no host can have does not exist: labels with odd octets (which could smuggle bytes into a
  CONNECT header) and names that end in a number (which resolvers and proxies take for an address).
- `.local`, `.onion` and single labels are ordinary names: corporate networks and Tor behind the proxy
  know them.
- Everything else (MX, TXT, SRV, ...) has no fake form and is forwarded through the proxy.
"""

from __future__ import annotations

import re
from ipaddress import ip_address

from tunsmith.dns.fakeip import FakeIpPool
from tunsmith.dns.slots import TTL
from tunsmith.wire import dns

_HOST = re.compile(r"(?:[a-z0-9_-]+\.)*(?!(?:[0-9]+|0x[0-9a-f]*)$)[a-z0-9_-]+")
_VERSIONS = {dns.A: (4,), dns.AAAA: (6,), dns.ANY: (4, 6)}
_RDTYPE = {4: dns.A, 6: dns.AAAA}
_LOOPBACK = {4: b"\x7f\0\0\1", 6: bytes(15) + b"\1"}
_MAX_HOST = 253
_NEGATIVE = dns.record(
    dns.SOA,
    TTL,
    # Names of the root, serial 1, one hour of refresh and retry that nobody heeds, and the TTL of "no such".
    b"\0\0" + b"".join(n.to_bytes(4, "big") for n in (1, 3600, 3600, 3600, TTL)),
    owner=b"\0",
)
"""The SOA record that makes a negative answer cacheable, for as short as any (RFC 2308 §3)."""


def answer(query: dns.Query, pool: FakeIpPool, now: float) -> bytes | None:
    """The reply to `query`, or None where it must be forwarded. `now` is in seconds."""
    if query.edns is not None and query.edns.version:
        return dns.reply(query, dns.BADVERS)
    if query.opcode != dns.QUERY:
        return dns.reply(query, dns.NOTIMP)
    if query.rdclass != dns.IN:
        return dns.reply(query, dns.REFUSED)
    name = query.name
    if name == "invalid" or name.endswith(".invalid"):
        return _no_such_name(query)
    if query.rdtype == dns.PTR:
        return _reverse(query, pool)
    if query.rdtype in _VERSIONS:
        return _addresses(query, pool, now)
    if query.rdtype in (dns.HTTPS, dns.SVCB) or _is_local(name):
        return _no_data(query)
    return None


def _addresses(query: dns.Query, pool: FakeIpPool, now: float) -> bytes | None:
    name = query.name
    local = _is_local(name)
    if not local and (len(name) > _MAX_HOST or not _HOST.fullmatch(name)):
        # The root and its ANY are no host either, but do exist; no client needs the difference.
        return _no_such_name(query)
    records = []
    for version in _VERSIONS[query.rdtype]:
        if not pool.carries(version):
            continue
        address = _LOOPBACK[version] if local else pool.address_of(name, version, now)
        if address is None:
            return dns.reply(query, dns.SERVFAIL)
        records.append(dns.record(_RDTYPE[version], TTL, address))
    return dns.reply(query, answers=records) if records else _no_data(query)


def _reverse(query: dns.Query, pool: FakeIpPool) -> bytes | None:
    address = _reversed_address(query.name)
    if address is None:
        return None
    if address in _LOOPBACK.values():
        name: str | None = "localhost"
    elif pool.contains(address):
        name = pool.name_of(address)
    else:
        return None
    if name is None:
        return _no_such_name(query)
    return dns.reply(query, answers=[dns.record(dns.PTR, TTL, dns.encode_name(name))])


def _reversed_address(name: str) -> bytes | None:
    """The address that a name under in-addr.arpa or ip6.arpa means, if it means a whole one."""
    labels = name.split(".")
    match labels[-2:]:
        case ["in-addr", "arpa"]:
            text = ".".join(reversed(labels[:-2]))
        case ["ip6", "arpa"] if len(labels) == 34:
            digits = "".join(reversed(labels[:-2]))
            text = ":".join(digits[i : i + 4] for i in range(0, 32, 4))
        case _:
            return None
    try:
        return ip_address(text).packed
    except ValueError:
        return None


def _is_local(name: str) -> bool:
    return name == "localhost" or name.endswith(".localhost")


def _no_such_name(query: dns.Query) -> bytes:
    return dns.reply(query, dns.NXDOMAIN, authority=[_NEGATIVE])


def _no_data(query: dns.Query) -> bytes:
    return dns.reply(query, authority=[_NEGATIVE])
