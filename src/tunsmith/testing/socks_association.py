"""The UDP side of one association of a SOCKS5 server (RFC 1928 §7)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable

from tunsmith.dial.resolve import Resolver, family_of
from tunsmith.dial.udp import DirectDatagrams
from tunsmith.errors import DialError, WireError
from tunsmith.flow import Target
from tunsmith.wire import socks5

REMEMBERED = 4096
"""Requests kept in `asked`."""
BURST = 64
"""Datagrams moved, or clients admitted, per wake-up, so that nobody can keep the loop."""


class Association:
    """An inner port at `host` for `client`, an outer one per family for the rest. New destinations are noted in
    `asked`, as the client wrote them; `known` is who is meant."""

    def __init__(
        self,
        host: str,
        client: str,
        resolver: Resolver,
        known: Callable[[Target], Target],
        asked: deque[Target],
    ) -> None:
        self._resolver = resolver
        self._known = known
        self._asked = asked
        self._client_host = client
        self._client = (client, 0)
        self._inner = socket.socket(family_of(host) or socket.AF_INET, socket.SOCK_DGRAM)
        self._inner.setblocking(False)
        self._inner.bind((host, 0))
        self.port: int = self._inner.getsockname()[1]
        self._outer: dict[int, DirectDatagrams] = {}
        self._met: set[Target] = set()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._inner.fileno(), self._outbound)

    def close(self) -> None:
        """Give the ports back."""
        self._loop.remove_reader(self._inner.fileno())
        self._inner.close()
        for outer in self._outer.values():
            self._loop.remove_reader(outer.fileno())
            outer.close()

    def _outbound(self) -> None:
        for _ in range(BURST):
            try:
                datagram, source = self._inner.recvfrom(65536)
            except OSError:
                return
            if source[0] != self._client_host:
                continue
            self._client = source[:2]
            with contextlib.suppress(WireError, DialError, OSError):
                self._forward(datagram)

    def _forward(self, datagram: bytes) -> None:
        size = socks5.datagram_header_size(datagram)
        target = Target(*socks5.parse_datagram_header(datagram[:size]))
        if target not in self._met and len(self._met) < REMEMBERED:
            self._met.add(target)
            self._asked.append(target)
        target = self._known(target)
        family = family_of(target.host) or socket.AF_INET
        if family not in self._outer:
            self._open(family)
        self._outer[family].send([datagram[size:]], 0, target)

    def _open(self, family: int) -> None:
        outer = DirectDatagrams(family, None, self._resolver)
        self._outer[family] = outer
        self._loop.add_reader(outer.fileno(), self._inbound, outer)

    def _inbound(self, outer: DirectDatagrams) -> None:
        for _ in outer.faults():
            pass  # SOCKS5 has no word for them
        for _ in range(BURST):
            try:
                data, size, peer = outer.receive()
            except OSError:
                return
            header = socks5.datagram_header(peer.host, peer.port)
            step = size or len(data) or 1
            for start in range(0, len(data) or 1, step):
                with contextlib.suppress(OSError):
                    self._inner.sendto(header + data[start : start + step], self._client)
