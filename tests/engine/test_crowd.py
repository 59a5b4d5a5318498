"""More flows than there may be."""

from __future__ import annotations

import errno

from tests.engine.bench import Bench
from tests.inside import GATEWAY, until
from tunsmith.stack.events import Established


async def test_longest_idle_flow_makes_room_whatever_its_kind(bench: Bench) -> None:
    bench.inside.send_datagram(b"?", 1000)
    [first] = await until(lambda: bench.upstream.ports)
    connections = []
    for number in range(7):
        connections.append(bench.inside.connect(source_port=50000 + number))
        await until(lambda: len(bench.engine.relays) == len(connections))
    assert not bench.notes.flows
    bench.inside.connect(source_port=50007)
    await until(lambda: len(bench.engine.relays) == 8)
    assert first.closed
    assert bench.notes.outcomes == ["evicted"]
    bench.inside.send_datagram(b"?", 1000)
    await until(lambda: bench.inside.closed(connections[0]))
    assert bench.inside.closed(connections[0]) == [errno.ECONNRESET]


async def test_dials_that_wait_make_room_too(bench: Bench) -> None:
    bench.upstream.silent = True
    for number in range(12):
        bench.inside.connect(source_port=50000 + number)
    await until(lambda: bench.engine.drops["evicted"] == 4)
    assert len(bench.engine.dials.waiting) == 8
    assert bench.notes.outcomes == ["evicted"] * 4


async def test_streams_to_port_53_make_room_too(bench: Bench) -> None:
    streams = []
    for number in range(9):
        streams.append(bench.inside.connect(53, 50000 + number, GATEWAY))
        await until(lambda: Established(streams[-1]) in bench.inside.events)
    await until(lambda: bench.inside.closed(streams[0]))
    assert bench.inside.closed(streams[0]) == [errno.ECONNRESET]
    assert bench.notes.outcomes == ["evicted"]
    assert len(bench.engine.relays) == 8
