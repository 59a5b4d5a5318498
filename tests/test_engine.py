"""The engine between an application and an upstream that are both scripted."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

import tunsmith.engine
from tests.inside import GATEWAY, HERE, Inside, Upstream, heard, until
from tunsmith.config import Limits, Publish, Settings
from tunsmith.device.memory import MemoryDevice
from tunsmith.engine import Engine
from tunsmith.errors import (
    DialError,
    DialRefused,
    DialUnreachable,
    ProxyAuthFailed,
    ProxyError,
    Reach,
    UsageError,
)
from tunsmith.relay.report import FlowRecord
from tunsmith.stack.events import DatagramError, Established, PeerClosed
from tunsmith.stack.tcp.segments import bare_segment
from tunsmith.stack.tcp.state import State
from tunsmith.wire.dns_stream import frame
from tunsmith.wire.icmp import IcmpError
from tunsmith.wire.ip import IPV4
from tunsmith.wire.tcp import RST

QUERY = bytes.fromhex("123401000001000000000000") + b"\3www\7example\4test\0" + bytes((0, 1, 0, 1))


class Clock:
    """The engine's time: the real one, moved on by the test."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


class Notes:
    """What was reported."""

    def __init__(self) -> None:
        self.flows: list[FlowRecord] = []
        self.notices: list[str] = []

    def flow_ended(self, record: FlowRecord) -> None:
        self.flows.append(record)

    def notice(self, text: str) -> None:
        self.notices.append(text)

    @property
    def outcomes(self) -> list[str]:
        return [record.outcome for record in self.flows]


@dataclass
class Bench:
    engine: Engine
    inside: Inside
    upstream: Upstream
    notes: Notes
    clock: Clock
    device: MemoryDevice


@pytest_asyncio.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    """An engine at work. Afterwards it has left nothing in the event loop, and no descriptor."""
    before = descriptors()
    clock, notes, upstream = Clock(), Notes(), Upstream()
    monkeypatch.setattr(tunsmith.engine, "SWEEP", 0.001)
    ours, theirs = MemoryDevice.pair()
    engine = Engine(
        ours, upstream, Settings(limits=Limits(flows=8), resolvers=("192.0.2.53",)), notes, clock=clock
    )
    await engine.start()
    inside = Inside(theirs)
    yield Bench(engine, inside, upstream, notes, clock, ours)
    engine.close()
    inside.close()
    upstream.close()
    await until(lambda: asyncio.all_tasks() == {asyncio.current_task()}, "the end of all tasks")
    assert descriptors() == before


def descriptors() -> list[str]:
    """What the open descriptors of this process lead to."""
    places = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    return sorted(os.readlink(place) for place in places if os.path.islink(place))


async def swept(bench: Bench, ahead: float) -> None:
    """Move time on and wait until the sweeper has seen it."""
    bench.clock.ahead += ahead
    handle = bench.engine._sweeper
    await until(lambda: bench.engine._sweeper is not handle)
    handle = bench.engine._sweeper
    await until(lambda: bench.engine._sweeper is not handle)


async def test_connection_is_established_only_after_the_upstream(bench: Bench) -> None:
    bench.upstream.silent = True
    connection = bench.inside.connect()
    await until(lambda: bench.engine.dials.waiting)
    assert not bench.inside.events
    assert not bench.inside.closed(connection)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (DialRefused("no"), errno.ECONNREFUSED),
        (DialUnreachable("no", Reach.HOST), errno.EHOSTUNREACH),
        (DialUnreachable("no", Reach.NETWORK), errno.ENETUNREACH),
        (ProxyError("no"), errno.EHOSTUNREACH),
    ],
)
async def test_failed_dial_is_told_as_the_error_it_was(bench: Bench, error: DialError, told: int) -> None:
    bench.upstream.fail = error
    connection = bench.inside.connect()
    await until(lambda: bench.inside.closed(connection))
    assert bench.inside.closed(connection) == [told]


async def test_refused_by_rule_is_told_as_any_flow(bench: Bench) -> None:
    """Datagrams to one place are told of once."""
    connection = bench.inside.connect(port=1234, host=GATEWAY)
    await until(lambda: bench.inside.closed(connection))
    bench.upstream.carries_udp = False
    for _ in range(3):
        bench.inside.send_datagram(b"?", 443)
    bench.inside.send_datagram(b"?", 8443)
    await until(lambda: bench.engine.drops["udp_refused"] == 4)
    told = [(record.protocol, record.destination.port, record.rule) for record in bench.notes.flows]
    assert told == [("tcp", 1234, "gateway"), ("udp", 443, "via"), ("udp", 8443, "via")]
    assert set(bench.notes.outcomes) == {"refused"}


async def test_dial_is_given_up_with_the_application(bench: Bench) -> None:
    """By RST before there is an answer."""
    bench.upstream.silent = True
    connection = bench.inside.connect()
    await until(lambda: bench.engine.dials.waiting)
    [request] = bench.engine.dials.waiting
    reset = bare_segment(IPV4, request.key, (request.isn + 1) & 0xFFFFFFFF, 0, RST)
    bench.inside.emit(reset)
    await until(lambda: bench.upstream.given_up)
    assert bench.notes.outcomes == ["given up"]
    assert not bench.engine.dials.waiting
    assert not bench.inside.closed(connection)


async def test_dial_without_an_answer_ends_after_its_limit(bench: Bench) -> None:
    bench.upstream.silent = True
    connection = bench.inside.connect()
    await until(lambda: bench.engine.dials.waiting)
    await swept(bench, Limits().dial - 1)
    assert not bench.notes.flows
    await swept(bench, 2)
    await until(lambda: bench.inside.closed(connection))
    assert bench.inside.closed(connection) == [errno.EHOSTUNREACH]
    assert bench.upstream.given_up == 1
    assert bench.notes.outcomes == ["timeout"]
    assert not bench.engine.dials.waiting


async def test_idle_connection_lives_two_hours(bench: Bench) -> None:
    connection = bench.inside.connect()
    await until(lambda: bench.upstream.streams)
    await until(lambda: bench.engine.relays)
    await swept(bench, 7190)
    assert not bench.inside.closed(connection)
    await swept(bench, 20)
    await until(lambda: bench.inside.closed(connection))
    assert bench.inside.closed(connection) == [errno.ECONNRESET]
    assert bench.notes.outcomes == ["idle"]


@pytest.mark.parametrize(
    ("port", "answered", "limit"),
    [(9, False, 30), (443, False, 30), (9, True, 120), (443, True, 180)],
    ids=["one-shot", "quic unanswered", "two-way", "quic"],
)
async def test_idle_datagram_flow_lives_as_long_as_its_kind(
    bench: Bench, port: int, answered: bool, limit: float
) -> None:
    bench.inside.send_datagram(b"?", port)
    [upstream] = await until(lambda: bench.upstream.ports)
    await until(lambda: upstream.sent)
    if answered:
        upstream.answer(b"!")
        await until(bench.inside.datagrams)
    await swept(bench, limit - 5)
    assert not bench.notes.flows
    await swept(bench, 10)
    assert upstream.closed
    assert bench.notes.outcomes == ["idle"]
    assert not bench.engine.udp.flows
    assert not bench.engine.udp.mappings


@pytest.mark.parametrize(
    ("error", "ends"), [(IcmpError.PORT, True), (IcmpError.TOO_BIG, False), (None, False)]
)
async def test_only_a_closed_port_of_the_application_ends_its_flow(
    bench: Bench, error: IcmpError | None, ends: bool
) -> None:
    bench.inside.send_datagram(b"?", 1000)
    [upstream] = await until(lambda: bench.upstream.ports)
    [flow] = bench.engine.udp.flows.values()
    source, source_port, destination, destination_port = flow.mapping.family.split(flow.key)
    bench.engine.on_datagram_error(
        DatagramError(flow.mapping.family, destination, destination_port, source, source_port, error)
    )
    assert (upstream.closed, not bench.engine.udp.flows) == (ends, ends)


async def test_datagram_flow_ends_alone_while_its_port_is_in_use(bench: Bench) -> None:
    bench.inside.send_datagram(b"?", 1000)
    [upstream] = await until(lambda: bench.upstream.ports)
    bench.clock.ahead = 25
    bench.inside.send_datagram(b"?", 1001)
    await until(lambda: len(upstream.sent) == 2)
    await swept(bench, 10)
    assert [record.target.port for record in bench.notes.flows] == [1000]
    assert bench.engine.udp.mappings
    await swept(bench, 25)
    assert upstream.closed


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


async def test_broken_upstream_is_told_of_once_a_minute_and_kind(bench: Bench) -> None:
    """A scan would else fill the terminal. What one destination does is nobody's business."""

    async def try_with(error: DialError) -> None:
        bench.upstream.fail = error
        ended = len(bench.notes.flows)
        bench.inside.connect(source_port=50000 + ended)
        await until(lambda: len(bench.notes.flows) > ended)

    await try_with(ProxyError("the proxy is down"))
    await try_with(ProxyError("the proxy is down"))
    await try_with(DialRefused("192.0.2.7 refuses"))
    assert bench.notes.notices == ["the proxy is down"]
    await try_with(ProxyAuthFailed("wrong password"))
    await try_with(DialError("out of file descriptors"))
    assert bench.notes.notices == ["the proxy is down", "wrong password", "out of file descriptors"]
    bench.clock.ahead += 61
    await try_with(ProxyError("the proxy is down again"))
    assert bench.notes.notices[3:] == ["the proxy is down again"]


async def test_broken_upstream_is_told_of_for_datagrams_too(bench: Bench) -> None:
    bench.upstream.fail = DialError("out of file descriptors")
    bench.inside.send_datagram(b"?", 1000)
    await until(lambda: bench.notes.notices)
    assert bench.notes.notices == ["out of file descriptors"]
    assert not bench.engine.udp.mappings


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


async def test_streams_to_port_53_make_room_too(bench: Bench) -> None:
    streams = []
    for number in range(9):
        streams.append(bench.inside.connect(53, 50000 + number, GATEWAY))
        await until(lambda: Established(streams[-1]) in bench.inside.events)
    await until(lambda: bench.inside.closed(streams[0]))
    assert bench.inside.closed(streams[0]) == [errno.ECONNRESET]
    assert bench.notes.outcomes == ["evicted"]
    assert len(bench.engine.relays) == 8


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


async def test_device_that_goes_away_is_told_of_once(bench: Bench) -> None:
    bench.inside.connect()
    await until(lambda: bench.upstream.streams)

    def gone(buffer: memoryview) -> int:
        raise OSError(errno.EBADFD, "File descriptor in bad state")

    bench.device.read = gone  # type: ignore[method-assign]
    bench.inside.send_datagram(b"?", 1000)
    await until(lambda: bench.notes.notices)
    assert not await bench.engine.drain(1.0, 1.0)
    bench.engine.close()
    bench.engine.close()
    assert bench.notes.notices == ["the TUN device is gone: File descriptor in bad state"]
    assert bench.notes.outcomes == ["stopped"]


@pytest.mark.parametrize("first", ["upstream", "application"])
async def test_text_the_upstream_has_no_room_for_outlives_the_connection(bench: Bench, first: str) -> None:
    """Both sides have said FIN, and the stack is done, before the upstream begins to read."""
    connection = bench.inside.connect()
    [far] = await until(lambda: bench.upstream.streams)
    await until(lambda: Established(connection) in bench.inside.events)
    if first == "upstream":
        far.shutdown(socket.SHUT_WR)
        await until(lambda: PeerClosed(connection) in bench.inside.events)
    said = bytes(range(256)) * 4000
    assert connection.send(said, time.monotonic()) == len(said)
    connection.shutdown(time.monotonic())
    if first == "application":
        await until(lambda: connection.state is State.FIN_WAIT_2)
        far.shutdown(socket.SHUT_WR)
    await until(lambda: bench.inside.closed(connection) and not bench.engine.stack.connections)
    arrived = bytearray()

    def all_read() -> bool:
        if data := heard(far):
            arrived.extend(data)
        return data == b""

    await until(all_read)
    assert arrived == said
    assert not bench.engine.relays
    assert bench.notes.outcomes == ["closed"]


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


def caught(loop: asyncio.AbstractEventLoop) -> list[str]:
    """What is raised into `loop` from now on."""
    errors: list[str] = []
    loop.set_exception_handler(lambda _, context: errors.append(repr(context.get("exception"))))
    return errors


async def test_reporter_that_raises_ends_neither_the_engine_nor_other_flows(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(record: FlowRecord) -> None:
        bench.notes.flows.append(record)
        raise BrokenPipeError("nobody reads any more")

    monkeypatch.setattr(bench.notes, "flow_ended", broken)
    first = bench.inside.connect(source_port=50000)
    await until(lambda: Established(first) in bench.inside.events)
    first.abort(time.monotonic())
    bench.inside.send_datagram(b"?", 1000)
    await until(lambda: bench.engine.udp.flows)
    await swept(bench, 31)
    assert len(bench.notes.flows) == 2
    assert bench.upstream.ports[0].closed
    second = bench.inside.connect(source_port=50001)
    await until(lambda: Established(second) in bench.inside.events)
    assert bench.engine.drops["report_failed"] == 2


async def test_fault_in_a_handler_costs_its_packet_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An OSError from the middle of a packet is not one of the device."""
    errors = caught(asyncio.get_running_loop())

    def broken(*_: object) -> None:
        monkeypatch.undo()
        raise OSError("a fault")

    monkeypatch.setattr(bench.engine.book, "enter", broken)
    bench.inside.connect(source_port=50000)
    second = bench.inside.connect(source_port=50001)
    await until(lambda: Established(second) in bench.inside.events)
    assert errors == ["OSError('a fault')"]
    assert not bench.notes.notices


async def test_however_many_packets_fail_the_device_is_read_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = caught(asyncio.get_running_loop())

    def broken(*_: object) -> None:
        raise ValueError("a fault")

    with monkeypatch.context() as broken_for_now:
        broken_for_now.setattr(bench.engine.book, "enter", broken)
        for port in range(100):
            bench.inside.connect(source_port=50000 + port)
        await until(lambda: len(errors) >= 100)
    connection = bench.inside.connect(source_port=40000)
    await until(lambda: Established(connection) in bench.inside.events)


@pytest.mark.parametrize("at_once", [True, False])
async def test_dialer_that_breaks_its_contract_is_a_failed_dial(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    async def fail(*_: object) -> None:
        raise ValueError("oops")

    def fail_at_once(*_: object) -> None:
        raise ValueError("oops")

    monkeypatch.setattr(bench.upstream, "begin", fail_at_once if at_once else fail)
    monkeypatch.setattr(bench.upstream, "open_datagrams", fail)
    connection = bench.inside.connect()
    await until(lambda: bench.inside.closed(connection))
    assert bench.inside.closed(connection) == [errno.EHOSTUNREACH]
    bench.inside.send_datagram(b"?", 1000)
    await until(lambda: len(bench.notes.flows) == 2)
    assert bench.notes.outcomes == ["error", "host unreachable"]
    assert bench.notes.notices == ["192.0.2.7:80: the upstream failed: ValueError('oops')"]


async def test_timers_go_on_after_a_handler_has_raised(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = caught(asyncio.get_running_loop())
    connection = bench.inside.connect()
    await until(lambda: Established(connection) in bench.inside.events)
    handle_timeout = bench.engine.stack.handle_timeout

    def raise_once(now: float) -> None:
        monkeypatch.setattr(bench.engine.stack, "handle_timeout", handle_timeout)
        raise ValueError("a fault")

    monkeypatch.setattr(bench.engine.stack, "handle_timeout", raise_once)
    connection.send(b"to be acknowledged", time.monotonic())
    await until(lambda: not connection.unacknowledged)
    assert errors == ["ValueError('a fault')"]


@pytest.mark.parametrize("publish", [(), (Publish("192.0.2.1", 1, 1),)], ids=["upstream", "published port"])
async def test_engine_that_cannot_start_is_closed(
    monkeypatch: pytest.MonkeyPatch, publish: tuple[Publish, ...]
) -> None:
    class Broken(Upstream):
        closed = 0

        async def start(self) -> None:
            if not publish:
                raise ProxyError("the proxy is down")

        def close(self) -> None:
            self.closed += 1

    upstream = Broken()
    ours, theirs = MemoryDevice.pair()
    engine = Engine(ours, upstream, Settings(publish=publish))
    with pytest.raises((ProxyError, UsageError)):
        await engine.start()
    assert upstream.closed == 1
    assert ours.fileno() == -1
    engine.close()
    theirs.close()
