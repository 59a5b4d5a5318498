"""DNS for the application: asked of the caller's own resolvers, or answered with fake addresses.

Direct, queries go unchanged to the caller's resolvers over the transport they came by, and answers come back
unchanged, truncation included: the application sees what it would see without tunsmith. A resolver that stays
silent is joined by the next one after two seconds (a late answer still counts), one that fails is replaced
at once; after ten seconds the application is told SERVFAIL.

Through a proxy no query may touch this machine's network. `dns.answer` answers what connects (A, AAAA, PTR,
HTTPS); the rest (MX, TXT, ...) is asked through the proxy, over TCP because every proxy carries that, of the
server the application chose, or of the first resolver of the caller that is not private to this machine or
its network.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from ipaddress import ip_address
from itertools import cycle, islice
from typing import Any

from tunsmith.config import Settings
from tunsmith.dial.base import Dialer
from tunsmith.dial.escape import Escape
from tunsmith.dns.answer import answer
from tunsmith.dns.fakeip import FakeIpPool
from tunsmith.dns.seen import SeenNames
from tunsmith.errors import DialError, WireError
from tunsmith.flow import Target
from tunsmith.relay.dns_exchange import PORT, Server, ask_stream, ask_tcp, ask_udp
from tunsmith.wire import dns

AT_ONCE = 64
"""Queries under way at the same time, hence at most thrice as many sockets."""
QUEUED = 1024
"""Queries that may wait for their turn; further ones are dropped, and clients ask again."""
SERVERS = 3
"""Resolvers asked, as in glibc (MAXNS)."""
PATIENCE = 2.0
"""Seconds a resolver may stay silent before the next is asked as well."""
DEADLINE = 10.0
"""Seconds after which a query has failed."""
GRUDGE = 30.0
"""Seconds for which a resolver that stayed silent is asked last."""
REPEAT = 60.0
"""Seconds before an outage is told again."""

_TRY_NEXT = frozenset((dns.SERVFAIL, dns.NOTIMP, dns.REFUSED))

Ask = Callable[[Dialer, Server, dns.Query], Coroutine[Any, Any, bytes]]


class Resolver:
    """Answers the DNS queries of one engine: with a `pool` for a proxy, without one for a direct path."""

    def __init__(
        self,
        dialer: Dialer,
        settings: Settings,
        pool: FakeIpPool | None = None,
        *,
        counts: Counter[str] | None = None,
        on_name: Callable[[bytes, str], None] | None = None,
        patience: float = PATIENCE,
        deadline: float = DEADLINE,
        port: int = PORT,
        escape: Escape | None = None,
    ) -> None:
        """`counts` is told of queries that went wrong, by cause, and `on_name` what a packed address is called
        when an answer says so for the first time in a while; `patience` and `deadline` are in seconds;
        `port` is where the caller's resolvers listen, `escape` the way out for what no dialer opens."""
        self.counts: Counter[str] = Counter() if counts is None else counts
        self._seen = SeenNames()
        self._on_name = on_name
        self._dialer = dialer
        self._pool = pool
        self._patience = patience
        self._deadline = deadline
        self._servers = _usable(settings.resolvers, port, escape) if pool is None else []
        self._remote = _first_global(settings.resolvers, port)
        self._resented: dict[Server, float] = {}
        self.on_outage: Callable[[str], None] | None = None
        """Told in one line that none of the caller's resolvers answers anything, at most every REPEAT seconds."""
        self._heard = self._told = float("-inf")
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._present = 0

    async def resolve(self, wire: bytes, *, tcp: bool, server: Target | None = None) -> bytes | None:
        """The reply to the message `wire`, sized for the transport it came by, or None where none is due:
        not a query, or too many at once. `server` is whom the application asked, None for our gateway."""
        try:
            query = dns.parse_query(wire)
        except WireError as error:
            self.counts[error.reason] += 1
            return dns.error_reply(wire, dns.FORMERR)
        if self._pool is not None:
            made = answer(query, self._pool, asyncio.get_running_loop().time())
            if made is not None:
                self._learn(query, made)
                return made
        if self._present >= AT_ONCE + QUEUED:
            self.counts["dns_overload"] += 1
            return None
        self._present += 1
        began = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self._deadline), self._turns:
                if self._pool is None:
                    reply = await self._ask_own(query, ask_tcp if tcp else ask_udp)
                    self._learn(query, reply)
                    return reply
                reply = await self._ask_through_proxy(query, server)
                return reply if tcp else dns.fit_udp(query, reply)
        except TimeoutError:
            self.counts["dns_timeout"] += 1
            why = f"no resolver answered in {self._deadline:g} s"
        except (DialError, OSError) as error:
            self.counts["dns_failed"] += 1
            why = str(error)
        finally:
            self._present -= 1
        if self._pool is None:
            self._tell_outage(began)
        return dns.reply(query, dns.SERVFAIL, why=why)

    def name_of(self, packed: bytes) -> str | None:
        """The name that the application knows this address by, as far as its queries tell. For people;
        what is dialed is up to the pool alone."""
        if self._pool is not None:
            return self._pool.name_of(packed)
        return self._seen.name_of(packed)

    def _learn(self, query: dns.Query, reply: bytes) -> None:
        """Remember what `reply` calls its addresses; the pool needs no help with its own."""
        if self._pool is not None and self._on_name is None:
            return
        addresses = dns.addresses_in(reply)
        if self._on_name is not None:
            for address in addresses:
                if self._seen.name_of(address) != query.name:
                    self._on_name(address, query.name)
        self._seen.learn(query.name, addresses)

    async def _ask_through_proxy(self, query: dns.Query, server: Target | None) -> bytes:
        target = self._server_behind_proxy(server)
        if target is None:
            self.counts["dns_no_remote_resolver"] += 1
            why = "no public resolver in resolv.conf that could be asked through the proxy"
            return dns.reply(query, dns.SERVFAIL, why=why)
        return await ask_stream(await self._dialer.open_stream(target), query)

    def _server_behind_proxy(self, asked: Target | None) -> Target | None:
        if asked is None or asked.is_name:
            return asked or self._remote
        packed = ip_address(asked.host).packed
        if self._pool is None or not self._pool.contains(packed):
            return asked
        name = self._pool.name_of(packed)
        return self._remote if name is None else Target(name, asked.port)

    async def _ask_own(self, query: dns.Query, ask: Ask) -> bytes:
        """Race the caller's resolvers, each joining when those before it stay silent or fail."""
        best: bytes | None = None
        waiting = deque(islice(cycle(self._by_merit()), SERVERS))
        lost: set[Server] = set()
        racing: dict[asyncio.Task[bytes], Server] = {}
        try:
            while waiting or racing:
                if waiting and (server := waiting.popleft()) not in lost:
                    racing[asyncio.create_task(ask(self._dialer, server, query))] = server
                if not racing:
                    continue
                patience = self._patience if waiting else None
                done, _ = await asyncio.wait(racing, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    self._resent(racing.values())
                for attempt in done:
                    server = racing.pop(attempt)
                    if isinstance(attempt.exception(), (DialError, OSError)):
                        self._resent([server])
                        lost.add(server)
                        continue
                    self._heard = asyncio.get_running_loop().time()
                    if dns.rcode_of(reply := attempt.result()) not in _TRY_NEXT:
                        self._resented.pop(server, None)
                        return reply
                    best = reply
                    lost.add(server)
            if best is None:
                raise DialError("no resolver of this machine answers")
            return best
        finally:
            for attempt in racing:
                attempt.cancel()
            await asyncio.gather(*racing, return_exceptions=True)

    def _tell_outage(self, began: float) -> None:
        """A query of `began` has failed: it is not worth a line where others were answered meanwhile."""
        now = asyncio.get_running_loop().time()
        if self.on_outage is None or self._heard >= began or now - self._told < REPEAT:
            return
        self._told = now
        hosts = ", ".join(server.target.host for server in self._servers) or "none"
        self.on_outage(f"DNS: no answer from the resolvers of this machine ({hosts})")

    def _resent(self, servers: Iterable[Server]) -> None:
        until = asyncio.get_running_loop().time() + GRUDGE
        for server in servers:
            self._resented[server] = until

    def _by_merit(self) -> list[Server]:
        """The resolvers in the caller's order, those that lately failed last."""
        now = asyncio.get_running_loop().time()
        return sorted(self._servers, key=lambda server: self._resented.get(server, 0.0) > now)


def _usable(resolvers: Sequence[str], port: int, escape: Escape | None) -> list[Server]:
    servers = []
    for address in resolvers:
        try:
            servers.append(Server.of(address, port, escape))
        except (ValueError, OSError):  # not an address, or on an interface that is gone
            continue
    return servers[:SERVERS]


def _first_global(resolvers: Sequence[str], port: int) -> Target | None:
    for address in resolvers:
        try:
            ip = ip_address(address)
        except ValueError:
            continue
        if ip.is_global and not ip.is_multicast:
            return Target(address, port)
    return None
