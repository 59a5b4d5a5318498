"""open_connection and start_server: what asyncio's own do on sockets."""

from __future__ import annotations

import asyncio
import errno
import gc
import hashlib
import random
import socket

import pytest

import tunsmith
from tests.aio.pair import ELSEWHERE, LEFT, NOBODY, RIGHT, Pair, two_stacks
from tunsmith.stack.config import StackConfig

families = pytest.mark.parametrize("family", [4, 6])


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def turns() -> None:
    """Let everything happen that can happen now."""
    for _ in range(20):
        await asyncio.sleep(0)


async def talk(stack: tunsmith.Stack, host: str, port: int, data: bytes) -> bytes:
    """Send `data` and the end of it, and return all that comes back."""
    reader, writer = await stack.open_connection(host, port)

    async def send() -> None:
        writer.write(data)
        await writer.drain()
        writer.write_eof()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(send())
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


@families
@pytest.mark.parametrize("offload", [0x6F, 0])
async def test_megabytes_come_back_as_they_were(family: int, offload: int) -> None:
    async with two_stacks(offload=offload, limit=1 << 14) as (left, right):
        await right.start_server(echo, RIGHT[family], 7)
        data = random.Random(1).randbytes(3_000_000)
        assert await talk(left, RIGHT[family], 7, data) == data
        for drops in (left.drops, right.drops):
            assert set(drops) <= {"tcp_unacceptable"}  # a retransmission, where this machine is busy


async def test_fifty_clients_at_once_have_each_their_own_text(pair: Pair) -> None:
    left, right = pair
    await right.start_server(echo, None, 7)
    texts = [random.Random(seed).randbytes(100_000) for seed in range(50)]
    async with asyncio.TaskGroup() as tasks:
        calls = [
            tasks.create_task(talk(left, RIGHT[4 if number % 2 else 6], 7, text))
            for number, text in enumerate(texts)
        ]
    for call, text in zip(calls, texts, strict=True):
        assert hashlib.sha256(call.result()).digest() == hashlib.sha256(text).digest()


@families
async def test_end_of_one_half_leaves_the_other_open(pair: Pair, family: int) -> None:
    left, right = pair
    heard = asyncio.get_running_loop().create_future()

    async def answer_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.set_result(await reader.read())
        writer.write(b"still here")
        writer.close()

    await right.start_server(answer_late, RIGHT[family], 80)
    reader, writer = await left.open_connection(RIGHT[family], 80)
    writer.write(b"that is all")
    writer.write_eof()
    assert await heard == b"that is all"
    assert await reader.read() == b"still here"
    writer.close()
    await writer.wait_closed()


@families
async def test_nobody_listens_is_refused(pair: Pair, family: int) -> None:
    left, _ = pair
    with pytest.raises(ConnectionRefusedError) as raised:
        await left.open_connection(RIGHT[family], 81)
    assert raised.value.errno == errno.ECONNREFUSED


@families
async def test_nobody_answers_is_a_timeout_of_the_callers(pair: Pair, family: int) -> None:
    left, _ = pair
    with pytest.raises(TimeoutError) as raised:
        await left.open_connection(NOBODY[family], 80, timeout=0.01)
    assert raised.value.errno == errno.ETIMEDOUT
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await left.open_connection(NOBODY[family], 80)
    assert not left.pure.connections


async def test_nobody_answers_is_a_timeout_of_the_stack() -> None:
    async with two_stacks(StackConfig(initial_rto=0.001, min_rto=0.001, syn_retries=2)) as (left, _):
        with pytest.raises(TimeoutError) as raised:
            await left.open_connection(NOBODY[4], 80)
        assert raised.value.errno == errno.ETIMEDOUT


async def test_reset_is_a_connection_reset_error(pair: Pair) -> None:
    left, right = pair

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        writer.transport.abort()

    await right.start_server(reset, RIGHT[4], 80)
    reader, writer = await left.open_connection(RIGHT[4], 80)
    writer.write(b"x")
    with pytest.raises(ConnectionResetError) as raised:
        await reader.read()
    assert raised.value.errno == errno.ECONNRESET
    with pytest.raises(ConnectionResetError):
        await writer.wait_closed()


async def test_a_slow_reader_stops_the_writer() -> None:
    config = StackConfig(send_buffer=1 << 16, receive_buffer=1 << 16)
    async with two_stacks(config) as (left, right):
        taken = asyncio.Event()
        go_on = asyncio.Event()

        async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await go_on.wait()
            assert len(await reader.read(-1)) == total
            taken.set()
            writer.close()

        await right.start_server(wait, RIGHT[4], 80)
        _, writer = await left.open_connection(RIGHT[4], 80)
        total = 0
        while not writer.transport.get_write_buffer_size():
            writer.write(bytes(10_000))
            total += 10_000
            await turns()
        # What may be under way: both buffers, the transport's high-water mark and the reader's, twice its limit.
        assert total <= 2 * (1 << 16) + 2 * (1 << 16) + 2 * (1 << 16) + 20_000
        go_on.set()
        await writer.drain()
        writer.write_eof()
        await taken.wait()


@families
async def test_local_end_is_chosen(pair: Pair, family: int) -> None:
    left, right = pair
    ends = asyncio.get_running_loop().create_future()

    async def look(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends.set_result((writer.get_extra_info("peername"), writer.get_extra_info("sockname")))
        writer.close()

    server = await right.start_server(look, RIGHT[family])
    port = server.sockets[0].getsockname()[1]
    _, writer = await left.open_connection(RIGHT[family], port, local=(LEFT[family], 4321))
    rest = () if family == 4 else (0, 0)
    assert await ends == ((LEFT[family], 4321, *rest), (RIGHT[family], port, *rest))
    assert writer.get_extra_info("sockname") == (LEFT[family], 4321, *rest)
    with pytest.raises(OSError, match="in use") as raised:
        await left.open_connection(RIGHT[family], port, local=(LEFT[family], 4321))
    assert raised.value.errno == errno.EADDRINUSE
    writer.close()


@families
async def test_local_address_alone_is_with_any_port(pair: Pair, family: int) -> None:
    left, right = pair
    await right.start_server(echo, RIGHT[family], 7)
    _, writer = await left.open_connection(RIGHT[family], 7, local=LEFT[family])
    assert writer.get_extra_info("sockname")[0] == LEFT[family]
    writer.close()
    with pytest.raises(OSError, match="not an address of this stack") as raised:
        await left.open_connection(RIGHT[family], 7, local=ELSEWHERE[family])
    assert raised.value.errno == errno.EADDRNOTAVAIL


async def test_random_ports_differ__rfc6056_3_3(pair: Pair) -> None:
    left, right = pair
    await right.start_server(echo, RIGHT[4], 7)
    ports = set()
    for _ in range(8):
        _, writer = await left.open_connection(RIGHT[4], 7)
        ports.add(writer.get_extra_info("sockname")[1])
        writer.close()
    assert len(ports) == 8
    assert sorted(ports) != list(range(min(ports), min(ports) + 8))


async def test_names_are_not_resolved(pair: Pair) -> None:
    with pytest.raises(socket.gaierror):
        await pair[0].open_connection("example.com", 80)


async def test_ends_of_two_kinds_do_not_go_together(pair: Pair) -> None:
    with pytest.raises(OSError, match="family") as raised:
        await pair[0].open_connection(RIGHT[4], 80, local=(LEFT[6], 0))
    assert raised.value.errno == errno.EAFNOSUPPORT


async def test_no_address_of_that_kind() -> None:
    near, _ = tunsmith.MemoryDevice.pair()
    async with tunsmith.Stack(near, ["10.7.0.1/24"]) as stack:
        with pytest.raises(OSError, match="no IPv6 address") as raised:
            await stack.open_connection(ELSEWHERE[6], 80)
        assert raised.value.errno == errno.EADDRNOTAVAIL


async def test_what_cannot_begin_is_told_once_and_leaves_nothing_behind(pair: Pair) -> None:
    """A refusal at once reaches the caller, and no future that nobody asks."""
    told: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    with pytest.raises(OSError, match="port 0: nobody can listen there"):
        await pair[0].open_connection(RIGHT[4], 0)
    gc.collect()
    await asyncio.sleep(0)
    assert told == []
