"""Names to addresses, off the event loop, for the few names a dialer meets: proxies and direct names.

`getaddrinfo` can block for as long as a dead resolver likes, so it runs on daemon threads of its own:
an executor's threads are joined at exit, which would hold a stopping tunsmith for that long.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from itertools import chain, zip_longest

from tunsmith.errors import DialTimeout, DialUnreachable, Reach

AT_ONCE = 16
"""Lookups under way at the same time, hence threads; the rest queue."""


def family_of(host: str) -> int | None:
    """AF_INET or AF_INET6 for an IP literal, None for anything that needs looking up."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.inet_pton(family, host)
    except OSError:
        return None
    return family


class Resolver:
    """Looks names up as this machine does (hosts file, DNS, ...). Keeps no answers."""

    __slots__ = ("_turns",)

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def addresses(self, host: str) -> list[tuple[int, str]]:
        """`(family, address)` of `host`, at least one, families alternating from the preferred one
        (RFC 6724 picks it, RFC 8305 §4 interleaves). Raises DialUnreachable or DialTimeout."""
        async with self._turns:
            try:
                found = await _in_thread(host)
            except socket.gaierror as error:
                if error.errno == socket.EAI_AGAIN:
                    raise DialTimeout(f"{host}: the resolvers of this machine do not answer") from None
                raise DialUnreachable(f"{host}: no such name ({error.strerror})", Reach.HOST) from None
            except (OSError, UnicodeError) as error:
                raise DialUnreachable(f"{host}: cannot be looked up ({error})", Reach.HOST) from None
        return interleave(found)


async def _in_thread(host: str) -> list[tuple[int, str]]:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[tuple[int, str]]] = loop.create_future()

    def settle(found: list[tuple[int, str]], error: Exception | None) -> None:
        if answer.done():
            return
        if error is None:
            answer.set_result(found)
        else:
            answer.set_exception(error)

    def look_up() -> None:
        found: list[tuple[int, str]] = []
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


def interleave(found: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """Alternate the families, starting with that of the first (RFC 8305 §4); order within each is kept."""
    first = [entry for entry in found if entry[0] == found[0][0]]
    second = [entry for entry in found if entry[0] != found[0][0]]
    return [entry for entry in chain.from_iterable(zip_longest(first, second)) if entry is not None]
