"""A private internet: every server that the demo's clients talk to, on addresses of one namespace.

    192.0.2.80     www.demo.example     web
    2001:db8::80   six.demo.example     the same, IPv6 only
    192.0.2.7      echo.demo.example    UDP echo
    192.0.2.53                          DNS: the names above, and no others
    198.51.100.1                        SOCKS5 proxy
    203.0.113.80   vault.demo.example   web; only the proxy knows this name

All of them are addresses and names reserved for documentation (RFC 5737, RFC 3849, RFC 2606).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from ipaddress import IPv4Address, IPv6Address, ip_address

from tunsmith.demo.nameserver import NameServer
from tunsmith.demo.web import WebServer
from tunsmith.testing.socks_server import SocksServer

WWW = "www.demo.example"
SIX = "six.demo.example"
ECHO = "echo.demo.example"
VAULT = "vault.demo.example"
ECHO_PORT = 7
RESOLVER = "192.0.2.53"
PROXY, PROXY_PORT = "198.51.100.1", 1080

PUBLIC = {WWW: "192.0.2.80", SIX: "2001:db8::80", ECHO: "192.0.2.7"}
"""What the DNS server knows."""
BEHIND_PROXY = {VAULT: "203.0.113.80", ECHO: PUBLIC[ECHO]}
"""What the proxy knows."""


def addresses() -> list[IPv4Address | IPv6Address]:
    """Every address of the servers."""
    texts = {RESOLVER, PROXY, *PUBLIC.values(), *BEHIND_PROXY.values()}
    return [ip_address(text) for text in sorted(texts)]


def has_ipv6() -> bool:
    """Whether the IPv6 ones among `addresses` are this machine's: kernels without IPv6 leave them out."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind((PUBLIC[SIX], 0))
    except OSError:
        return False
    return True


def name_of(address: str) -> str | None:
    """The name whose address this is."""
    for name, known in {**PUBLIC, **BEHIND_PROXY}.items():
        if known == address:
            return name
    return None


class Internet:
    """The servers, as long as the context lasts; to be entered where `addresses` are this machine's."""

    def __init__(self) -> None:
        web = [PUBLIC[WWW], BEHIND_PROXY[VAULT], *([PUBLIC[SIX]] if has_ipv6() else [])]
        self.web = WebServer(web)
        self.names = NameServer(PUBLIC)
        self.proxy = SocksServer(PROXY, PROXY_PORT, hosts=BEHIND_PROXY)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Internet:
        async with AsyncExitStack() as stack:
            for service in (
                self.web.serve(),
                _answer_datagrams((RESOLVER, 53), self.names.answer),
                _answer_datagrams((PUBLIC[ECHO], ECHO_PORT), lambda data: data),
            ):
                stack.callback(asyncio.ensure_future(service).cancel)
            await stack.enter_async_context(self.proxy)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()


async def _answer_datagrams(address: tuple[str, int], answer: Callable[[bytes], bytes | None]) -> None:
    """A UDP server at `address`, until cancelled."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.setblocking(False)
        server.bind(address)
        while True:
            data, client = await loop.sock_recvfrom(server, 65535)
            reply = answer(data)
            if reply is not None:
                await loop.sock_sendto(server, reply, client)
