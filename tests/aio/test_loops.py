"""The same on uvloop."""

from __future__ import annotations

import asyncio
import hashlib
import random

import pytest

from tests.aio.pair import RIGHT, two_stacks

uvloop = pytest.importorskip("uvloop")


@pytest.mark.parametrize("family", [4, 6])
def test_connections_datagrams_and_pings_on_uvloop(family: int) -> None:
    data = random.Random(family).randbytes(2_000_000)

    async def digest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(hashlib.sha256(await reader.read()).digest())
        writer.close()

    async def main() -> None:
        async with two_stacks() as (left, right):
            await right.start_server(digest, None, 80)
            reader, writer = await left.open_connection(RIGHT[family], 80)
            writer.write(data)
            await writer.drain()
            writer.write_eof()
            assert await reader.read() == hashlib.sha256(data).digest()
            writer.close()
            await writer.wait_closed()
            with pytest.raises(ConnectionRefusedError):
                await left.open_connection(RIGHT[family], 81)
            assert await left.ping(RIGHT[family])
            async with right.datagrams_any() as server, left.open_datagram_endpoint() as client:
                client.send(b"?", (RIGHT[family], 53))
                server.reply(await server.receive(), b"!")
                assert (await client.receive()).data == b"!"

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
