"""The upstream that refuses everything: programs behind it see a machine with every port closed."""

from __future__ import annotations

from collections.abc import Awaitable

from tunsmith.dial.base import Datagrams, Pings, Stream
from tunsmith.errors import DialRefused, DialUnsupported
from tunsmith.flow import Target


class BlockDialer:
    """Refuses. `wants_names`, so that names are answered (with fake addresses) and then refused, at once."""

    label = "block"
    wants_names = True
    carries_udp = False
    carries_ping = False

    async def start(self) -> None:
        """Nothing to learn."""

    async def open_stream(self, target: Target) -> Stream:
        """Raises DialRefused."""
        raise DialRefused(f"{target}: blocked")

    def begin(self, target: Target) -> Awaitable[Stream]:
        """See `Dialer.begin`."""
        return self.open_stream(target)

    async def open_datagrams(self, family: int) -> Datagrams:
        """Raises DialUnsupported."""
        raise DialUnsupported("blocked")

    def open_pings(self, family: int) -> Pings:
        """Raises DialUnsupported."""
        raise DialUnsupported("blocked")

    def close(self) -> None:
        """Nothing to release."""
