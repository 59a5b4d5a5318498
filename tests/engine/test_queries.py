"""Queries to port 53 within the engine."""

from __future__ import annotations

import asyncio
import gc
import time

from tests.engine.bench import QUERY, Bench, swept
from tests.inside import GATEWAY, HERE, heard, until
from tunsmith.config import Limits
from tunsmith.stack.events import Established, PeerClosed
from tunsmith.wire.dns_stream import frame
from tunsmith.wire.ip import IPV4


async def test_empty_datagrams_do_not_vanish_among_others(bench: Bench) -> None:
    sent = [b"hello", b"", b"hello", b"hello", b"", b"", b"hi"]
    for data in sent:
        bench.inside.send_datagram(data, 1000)
    [upstream] = await until(lambda: bench.upstream.ports)

    def arrived() -> list[bytes]:
        cut = []
        for _, data, size in upstream.sent:
            cut += [data[at : at + size] for at in range(0, len(data), size)] if size else [data]
        return cut

    await until(lambda: len(arrived()) == len(sent))
    assert arrived() == sent
    for data in sent:
        upstream.answer(data)
    await until(lambda: sum(map(len, bench.inside.datagrams())) == sum(map(len, sent)))
    assert sum(not data for data in bench.inside.datagrams()) == 3


async def test_answer_for_a_stream_that_was_reset_meanwhile_is_nobodys(bench: Bench) -> None:
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
    stream = bench.inside.connect(53, host=GATEWAY)
    await until(lambda: Established(stream) in bench.inside.events)
    stream.send(frame(QUERY), time.monotonic())
    [far] = await until(lambda: bench.upstream.streams)
    asked = await until(lambda: heard(far))
    assert asked is not None
    assert asked.endswith(QUERY[2:])
    stream.abort(time.monotonic())
    await until(lambda: not bench.engine.relays)
    far.send(asked[:4] + bytes((0x81, 0x80)) + asked[6:])
    await until(lambda: not bench.engine._tasks)
    gc.collect()
    assert not faults
    assert bench.notes.outcomes == ["reset"]


async def test_idle_stream_of_queries_is_closed_in_order_after_half_a_minute__rfc7766_6_2_3(
    bench: Bench,
) -> None:
    stream = bench.inside.connect(53, host=GATEWAY)
    await until(lambda: bench.engine.relays)
    await swept(bench, Limits().dns_idle - 1)
    assert bench.engine.relays
    await swept(bench, 2)
    await until(lambda: PeerClosed(stream) in bench.inside.events)
    stream.close(time.monotonic())
    await until(lambda: not bench.engine.stack.connections)
    assert not bench.engine.relays
    assert bench.notes.outcomes == ["idle"]


async def test_query_without_an_answer_is_reported_when_the_engine_closes(bench: Bench) -> None:
    bench.inside.stack.send_datagram(IPV4, IPV4.key(HERE, 40000, GATEWAY, 53), QUERY)
    await until(lambda: bench.upstream.ports)
    bench.engine.close()
    await until(lambda: bench.notes.flows)
    assert bench.notes.outcomes == ["dropped"]
    assert bench.upstream.ports[0].closed


async def test_queries_in_one_super_datagram_are_all_asked(bench: Bench) -> None:
    queries = QUERY * 3
    bench.inside.stack.send_datagram(IPV4, IPV4.key(HERE, 40000, GATEWAY, 53), queries, len(QUERY))
    await until(lambda: sum(len(port.sent) for port in bench.upstream.ports) == 3)
    assert {data for port in bench.upstream.ports for _, data, _ in port.sent} == {QUERY}
