"""asyncio's streams over a transport of ours: the very classes, so programs cannot tell."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

LIMIT = 1 << 16
"""Of a StreamReader's buffer, as asyncio has it: reading pauses at twice that."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Client = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None]
Factory = Callable[[], asyncio.StreamReaderProtocol]
Opening = Callable[[Factory], Awaitable[tuple[asyncio.Transport, asyncio.StreamReaderProtocol]]]


async def open_streams(opening: Opening, limit: int) -> Streams:
    """Reader and writer of a connection that `opening` makes, given the factory of its protocol."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=limit, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await opening(lambda: protocol)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


def serving(client: Client, limit: int, loop: asyncio.AbstractEventLoop) -> Factory:
    """A factory of protocols that call `client` with a reader and a writer, and run it as a task where it is a
    coroutine function."""

    def factory() -> asyncio.StreamReaderProtocol:
        reader = asyncio.StreamReader(limit=limit, loop=loop)
        return asyncio.StreamReaderProtocol(reader, client, loop=loop)

    return factory
