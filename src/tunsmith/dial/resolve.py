"""Names to addresses, off the event loop, for the few names a dialer meets: proxies and direct names.

They are looked up as this machine does (hosts file, DNS, ...) unless somebody knows a better way (relay/lookup.py).
`getaddrinfo` can block for as long as a dead resolver likes, so it runs on daemon threads of its own:
an executor's threads are joined at exit, which would hold a stopping tunsmith for that long.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable
from itertools import chain, zip_longest

from tunsmith.errors import DialTimeout, DialUnreachable, Reach

AT_ONCE = 16
"""Lookups under way at the same time, hence threads; the rest queue."""
KEPT_FOR = 60.0
"""Seconds an answer is good for; `getaddrinfo` does not tell the TTL. A proxy is dialed once a flow."""
KEPT = 1024

Address = tuple[int, str]
"""Address family and IP literal."""


def family_of(host: str) -> int | None:
    """AF_INET or AF_INET6 for an IP literal, None for anything that needs looking up."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.inet_pton(family, host)
    except OSError:
        return None
    return family


class Resolver:
    """Looks names up and remembers them for KEPT_FOR seconds."""

    __slots__ = ("_known", "_look", "_turns", "_under_way")

    def __init__(self, look_up: Callable[[str], Awaitable[list[Address]]] | None = None) -> None:
        """`look_up` gives the addresses of a name, best first; it raises OSError (gaierror) or DialError."""
        self._look = look_up or system_look_up
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._known: dict[str, tuple[float, list[Address]]] = {}
        self._under_way: dict[str, asyncio.Task[list[Address]]] = {}

    async def addresses(self, host: str) -> list[Address]:
        """`(family, address)` of `host`, at least one, families alternating from the preferred one
        (RFC 6724 picks it, RFC 8305 §4 interleaves). Raises DialUnreachable or DialTimeout."""
        until, known = self._known.get(host, (0.0, []))
        if asyncio.get_running_loop().time() < until:
            return known
        lookup = self._under_way.get(host)
        if lookup is None:
            lookup = asyncio.ensure_future(self._look_up(host))
            self._under_way[host] = lookup
            lookup.add_done_callback(lambda done: self._learn(host, done))
        return await asyncio.shield(lookup)  # others may wait for it as well

    def prefer(self, host: str, address: str) -> None:
        """`address` worked: give it first from now on (RFC 8305 §4 speaks of historical data)."""
        until, known = self._known.get(host, (0.0, []))
        if known and known[0][1] != address:
            self._known[host] = until, sorted(known, key=lambda entry: entry[1] != address)

    def forget(self, host: str) -> None:
        """None of its addresses worked: look again next time."""
        self._known.pop(host, None)

    async def _look_up(self, host: str) -> list[Address]:
        async with self._turns:
            try:
                return interleave(await self._look(host))
            except socket.gaierror as error:
                if error.errno == socket.EAI_AGAIN:
                    raise DialTimeout(f"{host}: the resolvers of this machine do not answer") from None
                raise DialUnreachable(f"{host}: no such name ({error.strerror})", Reach.HOST) from None
            except (OSError, UnicodeError) as error:
                raise DialUnreachable(f"{host}: cannot be looked up ({error})", Reach.HOST) from None

    def _learn(self, host: str, lookup: asyncio.Task[list[Address]]) -> None:
        del self._under_way[host]
        if lookup.cancelled() or lookup.exception() is not None:
            return
        if len(self._known) >= KEPT:
            self._known.clear()
        self._known[host] = lookup.get_loop().time() + KEPT_FOR, lookup.result()


async def system_look_up(host: str) -> list[Address]:
    """What getaddrinfo(3) says, on a thread. Raises gaierror, OSError or UnicodeError."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[Address]] = loop.create_future()

    def settle(found: list[Address], error: Exception | None) -> None:
        if answer.done():
            return
        if error is None:
            answer.set_result(found)
        else:
            answer.set_exception(error)

    def look_up() -> None:
        found: list[Address] = []
        failure: Exception | None = None
        try:
            for family, _, _, _, address in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM):
                found.append((family, str(address[0])))
        except (OSError, UnicodeError) as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop may be gone by now, and nobody waits then
            loop.call_soon_threadsafe(settle, found, failure)

    threading.Thread(target=look_up, name=f"resolve {host}", daemon=True).start()
    return await answer


def interleave(found: list[Address]) -> list[Address]:
    """Alternate the families, starting with that of the first (RFC 8305 §4); order within each is kept."""
    first = [entry for entry in found if entry[0] == found[0][0]]
    second = [entry for entry in found if entry[0] != found[0][0]]
    return [entry for entry in chain.from_iterable(zip_longest(first, second)) if entry is not None]
