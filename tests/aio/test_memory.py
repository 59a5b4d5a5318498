"""Streams of a stack leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
from weakref import ref

from tests.aio.pair import RIGHT, two_stacks
from tunsmith.stack.config import StackConfig


async def test_connections_are_freed_when_their_streams_are_closed() -> None:
    """At both ends, and at once: they do not wait for the collector of cycles."""

    accepted = asyncio.Event()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set()
        writer.write(await reader.read())
        writer.close()

    async with two_stacks(StackConfig(time_wait=0.0)) as (left, right):
        await right.start_server(echo, RIGHT[4], 80)
        stacks = left.router.stack, right.router.stack
        gc.collect()
        gc.disable()
        try:
            reader, writer = await left.open_connection(RIGHT[4], 80)
            writer.write(b"text")
            await accepted.wait()
            watched = [ref(each) for stack in stacks for each in stack.connections.values()]
            assert len(watched) == 2
            writer.write_eof()
            assert await reader.read() == b"text"
            writer.close()
            await writer.wait_closed()
            del reader, writer
            for _ in range(100):
                await asyncio.sleep(0)
            assert [each() for each in watched] == [None, None]
        finally:
            gc.enable()
