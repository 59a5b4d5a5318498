"""The upstream that is no proxy: this machine's own network."""

from __future__ import annotations

import socket
from collections.abc import Awaitable

from tunsmith.dial.base import Datagrams, Pings, Stream
from tunsmith.dial.escape import Escape
from tunsmith.dial.ping import DirectPings
from tunsmith.dial.resolve import Resolver
from tunsmith.dial.tcp import Connector
from tunsmith.dial.udp import DirectDatagrams
from tunsmith.errors import DialProhibited
from tunsmith.flow import Target


class DirectDialer:
    """Connects from this machine, the way `escape` says where one is given."""

    __slots__ = ("_connector", "_escape", "_resolver", "label")

    wants_names = False
    carries_udp = True
    carries_ping = True

    def __init__(self, escape: Escape | None = None, resolver: Resolver | None = None) -> None:
        self.label = f"direct by {escape.interface}" if escape and escape.interface else "direct"
        self._escape = escape
        self._resolver = resolver or Resolver()
        self._connector = Connector(escape, self._resolver)

    async def start(self) -> None:
        """Nothing to learn."""

    async def open_stream(self, target: Target) -> Stream:
        """See `Dialer.open_stream`."""
        return Stream(await self._connector.connect(target))

    def begin(self, target: Target) -> Stream | Awaitable[Stream]:
        """See `Dialer.begin`."""
        opening = self._connector.begin(target)
        return Stream(opening) if isinstance(opening, socket.socket) else _stream(opening)

    async def open_datagrams(self, family: int) -> Datagrams:
        """See `Dialer.open_datagrams`."""
        return DirectDatagrams(family, self._escape, self._resolver)

    def open_pings(self, family: int) -> Pings:
        """See `Dialer.open_pings`."""
        try:
            return DirectPings(family, self._escape)
        except DialProhibited:
            from tunsmith.dial.ping_program import ProgramPings, privileged_ping

            program = privileged_ping()
            if program is None:
                raise
            return ProgramPings(program, family, self._escape)

    def close(self) -> None:
        """Nothing to release."""


async def _stream(opening: Awaitable[socket.socket]) -> Stream:
    return Stream(await opening)
