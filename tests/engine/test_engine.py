"""The engine between an application and an upstream that are both scripted."""

from __future__ import annotations

import errno
import socket
import time

import pytest

from tests.engine.bench import Bench, swept
from tests.inside import GATEWAY, heard, until
from tunsmith.config import Limits
from tunsmith.errors import (
    DialError,
    DialRefused,
    DialUnreachable,
    ProxyError,
    Reach,
)
from tunsmith.stack.events import DatagramError, Established, PeerClosed
from tunsmith.stack.tcp.segments import bare_segment
from tunsmith.stack.tcp.state import State
from tunsmith.wire.icmp import IcmpError
from tunsmith.wire.ip import IPV4
from tunsmith.wire.tcp import RST


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
