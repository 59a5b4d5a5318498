"""The transport: what asyncio's protocols rely on."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import tunsmith
from tests.aio.pair import LEFT, RIGHT, Pair, two_stacks
from tunsmith.aio.statistics import ConnectionStatistics
from tunsmith.aio.transport import Transport
from tunsmith.stack.config import StackConfig
from tunsmith.stack.output import Parts, Segmenting
from tunsmith.stack.tcp.policy import Keepalive
from tunsmith.stack.tcp.state import State


class Recorder(asyncio.Protocol):
    """Remembers what it is told; `keep_open` is its answer to the end of what it receives."""

    keep_open = True

    def __init__(self) -> None:
        self.events: list[str] = []
        self.received = bytearray()
        self.ended = asyncio.Event()
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, Transport)
        self.transport = transport
        self.events.append("made")

    def data_received(self, data: bytes) -> None:
        self.received += data

    def eof_received(self) -> bool:
        self.events.append("eof")
        self.ended.set()
        return self.keep_open

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append("lost")
        self.lost.set_result(exc)


class Buffered(asyncio.BufferedProtocol):
    """Has a buffer of `size` bytes, and keeps what it reads."""

    def __init__(self, size: int) -> None:
        self._buffer = bytearray(size)
        self.received = bytearray()
        self.pieces = 0
        self.ended = asyncio.Event()

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.received += self._buffer[:nbytes]
        self.pieces += 1

    def eof_received(self) -> bool:
        self.ended.set()
        return False


async def joined(
    pair: Pair, factory: Callable[[], asyncio.BaseProtocol] = Recorder
) -> tuple[Recorder, asyncio.BaseProtocol]:
    """A connection: the client's protocol, and what `factory` made on the other side."""
    left, right = pair
    made: asyncio.Future[asyncio.BaseProtocol] = asyncio.get_running_loop().create_future()

    def make() -> asyncio.BaseProtocol:
        protocol = factory()
        made.set_result(protocol)
        return protocol

    server = await right.create_server(make, RIGHT[4])
    _, client = await left.create_connection(Recorder, *server.sockets[0].getsockname()[:2])
    return client, await made


async def recorders(pair: Pair) -> tuple[Recorder, Recorder]:
    client, server = await joined(pair)
    assert isinstance(server, Recorder)
    return client, server


async def test_life_of_a_connection(pair: Pair) -> None:
    client, server = await recorders(pair)
    client.transport.write(b"one")
    client.transport.writelines([b" two", bytearray(b" three"), memoryview(b" four")])
    client.transport.write(b"")
    client.transport.write_eof()
    client.transport.write_eof()
    await server.ended.wait()
    assert bytes(server.received) == b"one two three four"
    with pytest.raises(RuntimeError, match="write_eof"):
        client.transport.write(b"more")
    server.transport.close()
    server.transport.close()
    assert await server.lost is None
    await client.ended.wait()
    client.transport.close()
    assert await client.lost is None
    assert client.events == server.events == ["made", "eof", "lost"]


async def test_a_protocol_that_wants_no_half_is_closed_at_the_end(pair: Pair) -> None:
    client, server = await recorders(pair)
    server.keep_open = False
    client.transport.write_eof()
    assert await server.lost is None
    await client.ended.wait()


async def test_close_lets_what_was_written_leave() -> None:
    config = StackConfig(send_buffer=1 << 14, receive_buffer=1 << 14)
    async with two_stacks(config) as pair:
        client, server = await recorders(pair)
        client.transport.write(bytes(1_000_000))
        client.transport.close()
        client.transport.write(b"not this")
        assert client.transport.is_closing()
        assert await client.lost is None
        await server.ended.wait()
        assert len(server.received) == 1_000_000


async def test_abort_is_a_reset_for_the_peer(pair: Pair) -> None:
    client, server = await recorders(pair)
    client.transport.write(bytes(100))
    client.transport.abort()
    assert await client.lost is None
    error = await server.lost
    assert isinstance(error, ConnectionResetError)
    assert error.errno == errno.ECONNRESET
    assert server.events == ["made", "lost"]


async def test_write_eof_waits_for_what_waits() -> None:
    async with two_stacks(StackConfig(send_buffer=1 << 14)) as pair:
        client, server = await recorders(pair)
        client.transport.write(bytes(500_000))
        client.transport.write_eof()
        await server.ended.wait()
        assert len(server.received) == 500_000


async def test_limits_of_the_write_buffer() -> None:
    async with two_stacks(StackConfig(send_buffer=10_000, receive_buffer=10_000)) as pair:
        client, server = await recorders(pair)
        server.transport.pause_reading()
        transport = client.transport
        transport.set_write_buffer_limits(high=1000, low=100)
        assert transport.get_write_buffer_limits() == (100, 1000)
        transport.write(bytes(10_000))
        assert transport.get_write_buffer_size() == 0
        transport.write(bytes(1000))
        assert client.events == ["made"]
        transport.write(bytes(1))
        assert transport.get_write_buffer_size() == 1001
        assert client.events == ["made", "pause"]
        server.transport.resume_reading()
        transport.write_eof()
        await server.ended.wait()
        assert len(server.received) == 11_001
        assert client.events == ["made", "pause", "resume"]


async def test_paused_reading_closes_the_window() -> None:
    async with two_stacks(StackConfig(receive_buffer=10_000, send_buffer=1 << 20)) as pair:
        client, server = await recorders(pair)
        server.transport.pause_reading()
        assert not server.transport.is_reading()
        client.transport.write(bytes(100_000))
        await pair[0].ping(RIGHT[4])
        assert not server.received
        assert server.transport.get_extra_info("statistics").bytes_received == 0
        server.transport.resume_reading()
        server.transport.resume_reading()
        client.transport.write_eof()
        await server.ended.wait()
        assert len(server.received) == 100_000


async def test_text_and_end_that_came_while_paused_are_not_lost_when_both_have_closed(pair: Pair) -> None:
    client, server = await recorders(pair)
    server.transport.pause_reading()
    server.transport.write_eof()
    await client.ended.wait()
    client.transport.write(b"last words")
    client.transport.close()
    await client.lost
    await pair[0].ping(RIGHT[4])
    assert not server.received
    server.transport.resume_reading()
    assert await server.lost is None
    assert bytes(server.received) == b"last words"
    assert server.events == ["made", "eof", "lost"]


@pytest.mark.parametrize("size", [1000, 1 << 20])
async def test_buffered_protocols_get_all_of_it(pair: Pair, size: int) -> None:
    client, server = await joined(pair, lambda: Buffered(size))
    assert isinstance(server, Buffered)
    sent = bytes(range(256)) * 1000
    client.transport.write(sent)
    client.transport.write_eof()
    await server.ended.wait()
    assert server.received == sent
    if size == 1000:
        assert server.pieces >= 256
    assert await client.lost is None if client.lost.done() else True


class Sip(Buffered):
    """Pauses after each piece."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, Transport)
        self.transport = transport

    def buffer_updated(self, nbytes: int) -> None:
        super().buffer_updated(nbytes)
        self.transport.pause_reading()
        asyncio.get_running_loop().call_soon(self.transport.resume_reading)


async def test_buffered_protocols_may_pause_in_the_middle(pair: Pair) -> None:
    client, server = await joined(pair, lambda: Sip(700))
    assert isinstance(server, Sip)
    sent = bytes(range(256)) * 100
    client.transport.write(sent)
    client.transport.write_eof()
    await server.ended.wait()
    assert server.received == sent


class Broken(Recorder):
    def __init__(self, where: str) -> None:
        super().__init__()
        self._where = where

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self._where != "connection_made"

    def data_received(self, data: bytes) -> None:
        assert self._where != "data_received"

    def eof_received(self) -> bool:
        assert self._where != "eof_received"
        return super().eof_received()


@pytest.mark.parametrize("where", ["connection_made", "data_received", "eof_received"])
async def test_a_protocol_that_raises_loses_its_connection_and_no_other(pair: Pair, where: str) -> None:
    told: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    client, server = await joined(pair, lambda: Broken(where))
    assert isinstance(server, Broken)
    client.transport.write(b"x")
    client.transport.write_eof()
    assert isinstance(await client.lost, ConnectionResetError)
    await server.lost
    assert isinstance(told[0]["exception"], AssertionError)
    assert len(told) == 1
    asyncio.get_running_loop().set_exception_handler(None)
    await recorders(pair)


async def test_an_empty_buffer_is_a_fault_of_the_protocol(pair: Pair) -> None:
    told: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    client, _ = await joined(pair, lambda: Buffered(0))
    client.transport.write(b"x")
    assert isinstance(await client.lost, ConnectionResetError)
    assert isinstance(told[0]["exception"], RuntimeError)


async def test_a_factory_that_raises_is_the_callers_error(pair: Pair) -> None:
    left, right = pair
    await right.create_server(Recorder, RIGHT[4], 80)

    def factory() -> asyncio.Protocol:
        raise LookupError("no protocol today")

    with pytest.raises(LookupError):
        await left.create_connection(factory, RIGHT[4], 80)
    assert not left.pure.connections


async def test_a_mutable_buffer_may_be_changed_after_write(pair: Pair) -> None:
    client, server = await recorders(pair)
    data = bytearray(b"first")
    client.transport.write(data)
    data[:] = b"other"
    client.transport.write_eof()
    await server.ended.wait()
    assert bytes(server.received) == b"first"
    with pytest.raises(TypeError):
        client.transport.write(5)  # type: ignore[arg-type]


async def test_statistics_are_those_of_the_moment(pair: Pair) -> None:
    client, server = await recorders(pair)
    client.transport.write(bytes(100_000))
    client.transport.write_eof()
    await server.ended.wait()
    sent = client.transport.get_extra_info("statistics")
    assert isinstance(sent, ConnectionStatistics)
    assert (sent.state, sent.bytes_sent, sent.mss) == (State.FIN_WAIT_1.value, 100_000, 1448)
    await pair[0].ping(RIGHT[4])
    sent = client.transport.get_extra_info("statistics")
    assert (sent.state, sent.bytes_acked, sent.packets_out) == (State.FIN_WAIT_2.value, 100_000, 0)
    assert sent.srtt is not None
    assert 0 < sent.srtt < 1
    assert sent.cwnd > 10 * sent.mss
    assert (sent.sacked, sent.lost) == (0, 0)
    received = server.transport.get_extra_info("statistics")
    assert (received.state, received.bytes_received) == (State.CLOSE_WAIT.value, 100_000)
    assert client.transport.get_extra_info("no such thing", 5) == 5
    assert "FIN-WAIT-2" in repr(client.transport)


async def test_loop_sendfile_works(pair: Pair, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 1000)
    client, server = await recorders(pair)
    with path.open("rb") as file:
        await asyncio.get_running_loop().sendfile(client.transport, file)
    client.transport.close()
    await server.ended.wait()
    assert bytes(server.received) == path.read_bytes()


async def test_options_by_name_and_as_sockets_have_them(pair: Pair) -> None:
    client, _ = await recorders(pair)
    transport, sock = client.transport, client.transport.get_extra_info("socket")
    assert (sock.family, sock.type, sock.fileno()) == (socket.AF_INET, socket.SOCK_STREAM, -1)
    assert sock.getpeername() == transport.get_extra_info("peername")
    for level, option, value, name, seen in (
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 0, "nodelay", False),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1, "keepalive", Keepalive()),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 2500, "user_timeout", 2.5),
        (socket.IPPROTO_IP, socket.IP_TTL, 9, "ttl", 9),
    ):
        sock.setsockopt(level, option, value)
        assert transport.get_option(name) == seen
        assert sock.getsockopt(level, option) == value
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
    for wrong in (
        lambda: sock.setsockopt(socket.SOL_SOCKET, 12345, 1),
        lambda: transport.get_option("speed"),
    ):
        with pytest.raises(OSError, match=r".") as raised:
            wrong()
        assert raised.value.errno == errno.ENOPROTOOPT
    for name, nonsense in (("ttl", 1000), ("ttl", "long"), ("keepalive", True)):
        with pytest.raises(OSError, match=f"option {name} cannot be {nonsense!r}") as raised:
            transport.set_option(name, nonsense)
        assert raised.value.errno == errno.EINVAL


async def test_statistics_tell_what_is_missing() -> None:
    near, far = tunsmith.MemoryDevice.pair(offload=0)
    left, right = tunsmith.Stack(near, [LEFT[4]]), tunsmith.Stack(far, [RIGHT[4]])
    left.start()
    right.start()
    try:
        client, server = await recorders((left, right))
        hole = Hole(near)
        left.pure.set_wire(Segmenting(hole.write))
        client.transport.write(bytes(20_000))
        await left.ping(RIGHT[4])
        seen = client.transport.get_extra_info("statistics")
        assert seen.lost + seen.sacked + seen.retransmitted > 0
        assert hole.lost
        client.transport.write_eof()
        await server.ended.wait()
        assert len(server.received) == 20_000
    finally:
        await left.close(linger=0)
        await right.close(linger=0)


class Hole:
    """Loses the first segment that carries text."""

    def __init__(self, device: tunsmith.MemoryDevice) -> None:
        self._device = device
        self.lost = False

    def write(self, parts: Parts) -> None:
        if not self.lost and sum(map(len, parts)) > 1000:
            self.lost = True
        else:
            self._device.write(parts)


async def test_options_that_programs_set_on_their_sockets(pair: Pair) -> None:
    """As database drivers and HTTP clients do, in any order."""
    client, _ = await recorders(pair)
    transport, sock = client.transport, client.transport.get_extra_info("socket")
    keepalive = (socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    assert not sock.getsockopt(*keepalive)
    sock = transport.get_extra_info("socket")  # another look at the same socket
    sock.setsockopt(*keepalive, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    assert transport.get_option("keepalive") == Keepalive(30, 5, 3)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 3
    sock.setsockopt(*keepalive, 0)
    assert transport.get_option("keepalive") is None
    linger = (socket.SOL_SOCKET, socket.SO_LINGER)
    sock.setsockopt(*linger, struct.pack("ii", 1, 3))
    assert transport.get_option("linger") == 3
    assert sock.getsockopt(*linger, 8) == struct.pack("ii", 1, 3)
    sock.setsockopt(*linger, struct.pack("ii", 0, 3))
    assert transport.get_option("linger") is None
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # means nothing, and hurts nobody
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, (1).to_bytes(4, sys.byteorder))
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 4) == (1).to_bytes(4, sys.byteorder)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 0xB9)
    assert sock.getsockopt(socket.IPPROTO_IP, socket.IP_TOS) == 0xB8  # without ECN, RFC 3168 §5
    with pytest.raises(OSError, match="struct linger") as raised:
        sock.setsockopt(*linger, 1)
    assert raised.value.errno == errno.EINVAL
