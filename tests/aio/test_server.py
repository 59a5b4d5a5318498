from __future__ import annotations

import asyncio
import errno
import socket

import pytest

import tunsmith
from tests.aio.pair import NOBODY, RIGHT, Pair, two_stacks
from tunsmith.stack.config import StackConfig


def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def test_sockets_say_where_it_listens(pair: Pair) -> None:
    server = await pair[1].start_server(hang_up)
    four, six = server.sockets
    assert (four.family, six.family) == (socket.AF_INET, socket.AF_INET6)
    assert four.getsockname() == (RIGHT[4], six.getsockname()[1])
    assert (four.type, four.fileno()) == (socket.SOCK_STREAM, -1)
    assert RIGHT[4] in repr(server)
    server.close()
    assert server.sockets == ()


@pytest.mark.parametrize(
    ("host", "reached"),
    [("0.0.0.0", {4}), ("::", {6}), ("", {4, 6}), (RIGHT[6], {6}), ([RIGHT[4], RIGHT[6]], {4, 6})],
)
async def test_hosts_mean_what_they_mean_to_asyncio(
    pair: Pair, host: str | list[str], reached: set[int]
) -> None:
    left, right = pair
    await right.start_server(hang_up, host, 80)
    for family in (4, 6):
        try:
            _, writer = await left.open_connection(RIGHT[family], 80)
        except ConnectionRefusedError:
            assert family not in reached
        else:
            assert family in reached
            writer.close()


async def test_a_place_is_taken_once(pair: Pair) -> None:
    right = pair[1]
    first = await right.start_server(hang_up, RIGHT[4], 80)
    with pytest.raises(OSError, match="in use") as raised:
        await right.start_server(hang_up, None, 80)
    assert raised.value.errno == errno.EADDRINUSE
    await right.start_server(hang_up, RIGHT[6], 80)  # nothing of the failed one is left
    first.close()
    await right.start_server(hang_up, RIGHT[4], 80)


async def test_only_addresses_of_ours(pair: Pair) -> None:
    with pytest.raises(OSError, match="no address of this stack") as raised:
        await pair[1].start_server(hang_up, NOBODY[4], 80)
    assert raised.value.errno == errno.EADDRNOTAVAIL


async def test_serving_begins_when_told(pair: Pair) -> None:
    left, right = pair
    server = await right.start_server(hang_up, RIGHT[4], 80, start_serving=False)
    assert not server.is_serving()
    with pytest.raises(ConnectionRefusedError):
        await left.open_connection(RIGHT[4], 80)
    await server.start_serving()
    assert server.is_serving()
    assert server.get_loop() is asyncio.get_running_loop()
    _, writer = await left.open_connection(RIGHT[4], 80)
    writer.close()
    server.close()
    with pytest.raises(RuntimeError, match="closed"):
        await server.start_serving()


async def test_serve_forever_is_until_cancelled(pair: Pair) -> None:
    left, right = pair
    server = await right.start_server(hang_up, RIGHT[4], 80, start_serving=False)
    forever = asyncio.create_task(server.serve_forever())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="already"):
        await server.serve_forever()
    _, writer = await left.open_connection(RIGHT[4], 80)
    writer.close()
    forever.cancel()
    with pytest.raises(asyncio.CancelledError):
        await forever
    assert not server.is_serving()


async def test_closing_ends_serve_forever(pair: Pair) -> None:
    server = await pair[1].start_server(hang_up, RIGHT[4], 80)
    await server.start_serving()
    forever = asyncio.create_task(server.serve_forever())
    await asyncio.sleep(0)
    server.close()
    with pytest.raises(asyncio.CancelledError):
        await forever


async def test_wait_closed_waits_for_connections(pair: Pair) -> None:
    left, right = pair
    async with await right.start_server(lambda *_: None, RIGHT[4], 80) as server:
        reader, writer = await left.open_connection(RIGHT[4], 80)
        await left.ping(RIGHT[4])
        server.close()
        closed = asyncio.create_task(server.wait_closed())
        await left.ping(RIGHT[4])
        assert not closed.done()
        server.close_clients()
        await closed
        assert await reader.read() == b""
        writer.close()


async def test_abort_clients_resets_them(pair: Pair) -> None:
    left, right = pair
    server = await right.start_server(lambda *_: None, RIGHT[4], 80)
    reader, writer = await left.open_connection(RIGHT[4], 80)
    await left.ping(RIGHT[4])
    server.abort_clients()
    with pytest.raises(ConnectionResetError):
        await reader.read()
    with pytest.raises(ConnectionResetError):
        await writer.wait_closed()


async def test_handshakes_under_way_are_bounded__rfc4987_3() -> None:
    async with two_stacks(StackConfig(initial_rto=0.01, min_rto=0.01)) as (left, right):
        await right.start_server(hang_up, RIGHT[4], 80, backlog=1)
        for port in range(1000, 1010):  # SYNs of a peer that will not go on
            left.pure.connect(b"\x0a\x07\x00\x01", port, b"\x0a\x07\x00\x02", 80, 0.0).abort(0.0)
        _, writer = await left.open_connection(RIGHT[4], 80)
        writer.close()
        assert len(right.pure.connections) < 4


async def test_a_factory_that_raises_costs_one_connection(pair: Pair) -> None:
    left, right = pair
    told: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))

    def factory() -> asyncio.Protocol:
        raise LookupError("no protocol today")

    await right.create_server(factory, RIGHT[4], 80)
    reader, writer = await left.open_connection(RIGHT[4], 80)
    with pytest.raises(ConnectionResetError):
        await reader.read()
    with pytest.raises(ConnectionResetError):
        await writer.wait_closed()
    assert isinstance(told[0]["exception"], LookupError)


async def test_a_host_without_addresses_cannot_serve() -> None:
    near, _ = tunsmith.MemoryDevice.pair()
    async with tunsmith.Stack(near, ["10.7.0.2"]) as stack:
        with pytest.raises(OSError, match="assign") as raised:
            await stack.start_server(hang_up, "::", 80)
        assert raised.value.errno == errno.EADDRNOTAVAIL
