"""The DNS server of the private internet: knows a few names, and remembers what it was asked."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address

from tunsmith.errors import WireError
from tunsmith.wire import dns

TTL = 60
_RDTYPE = {4: dns.A, 6: dns.AAAA}


class NameServer:
    """Answers messages; `zone` maps names to one address each."""

    def __init__(self, zone: Mapping[str, str]) -> None:
        self.asked: list[str] = []
        """The names of all questions, oldest first."""
        self._zone = zone

    def answer(self, message: bytes) -> bytes | None:
        """The reply to `message`, where one is due."""
        try:
            query = dns.parse_query(message)
        except WireError:
            return None
        self.asked.append(query.name)
        if query.name not in self._zone:
            return dns.reply(query, dns.NXDOMAIN)
        address = ip_address(self._zone[query.name])
        rdtype = _RDTYPE[address.version]
        answers = [dns.record(rdtype, TTL, address.packed)] if query.rdtype == rdtype else []
        return dns.reply(query, answers=answers)
