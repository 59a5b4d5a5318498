"""What an application leaves behind when it ends."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from tests.engine.bench import Bench
from tests.inside import heard, until
from tunsmith.stack.events import Established


async def test_drain_waits_for_the_end_of_what_was_sent(bench: Bench) -> None:
    connection = bench.inside.connect()
    await until(lambda: bench.engine.relays)
    [far] = bench.upstream.streams
    now = time.monotonic()
    connection.send(b"last words", now)
    connection.shutdown(now)
    assert not await bench.engine.drain(5.0, 5.0)
    assert heard(far) == b"last words"
    assert heard(far) == b""


async def left_behind(bench: Bench) -> socket.socket:
    """A megabyte and FIN, for an upstream that does not read."""
    connection = bench.inside.connect()
    [far] = await until(lambda: bench.upstream.streams)
    await until(lambda: Established(connection) in bench.inside.events)
    connection.send(bytes(1 << 20), time.monotonic())
    connection.shutdown(time.monotonic())
    await until(lambda: any(relay.blocked for relay in bench.engine.relays))
    return far


async def test_drain_gives_up_on_an_upstream_that_takes_nothing(bench: Bench) -> None:
    await left_behind(bench)
    draining = asyncio.ensure_future(bench.engine.drain(1000.0, 100.0))
    await asyncio.sleep(0)
    bench.clock.ahead += 100.0
    assert not await draining
    assert [relay.blocked for relay in bench.engine.relays] == [True]


@pytest.mark.parametrize("reads", [False, True])
async def test_drain_that_has_no_more_time_says_whether_it_was_worth_while(bench: Bench, reads: bool) -> None:
    far = await left_behind(bench)
    [relay] = bench.engine.relays
    before = relay.record.up
    draining = asyncio.ensure_future(bench.engine.drain(1000.0, 10_000.0))
    await asyncio.sleep(0)
    bench.clock.ahead += 1.0  # what moves at first only fills buffers
    while reads and relay.record.up == before:
        heard(far)
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.01)  # twice the time in which it looks again
    bench.clock.ahead += 1000.0
    assert await draining is reads


async def test_drain_of_an_upstream_that_reads_on_is_complete(bench: Bench) -> None:
    far = await left_behind(bench)
    draining = asyncio.ensure_future(bench.engine.drain(1000.0, 1000.0))
    arrived = 0

    def all_read() -> bool:
        nonlocal arrived
        data = heard(far)
        arrived += len(data or b"")
        return data == b""

    await until(all_read)
    assert arrived == 1 << 20
    assert not await draining
