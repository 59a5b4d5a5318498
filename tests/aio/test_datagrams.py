from __future__ import annotations

import asyncio
import errno

import pytest

import tunsmith
from tests.aio.pair import ELSEWHERE, LEFT, NOBODY, RIGHT, Pair
from tunsmith.wire.ip import IPV4

families = pytest.mark.parametrize("family", [4, 6])


@families
async def test_a_datagram_arrives_whole_and_is_answered(pair: Pair, family: int) -> None:
    left, right = pair
    async with (
        right.open_datagram_endpoint(RIGHT[family], 53) as server,
        left.open_datagram_endpoint() as client,
    ):
        for size in (0, 1, 1400, 9000):
            client.send(bytes(size), (RIGHT[family], 53))
            request = await server.receive()
            assert request.data == bytes(size)
            assert request.destination[:2] == (RIGHT[family], 53)
            assert request.source[:2] == (LEFT[family], client.sockname[1])
            server.reply(request, b"answer")
            assert (await client.receive()).data == b"answer"


@families
async def test_any_destination_is_heard_and_answered_from(pair: Pair, family: int) -> None:
    left, right = pair
    async with right.datagrams_any() as server, left.open_datagram_endpoint() as client:
        client.send(b"who is there?", (ELSEWHERE[family], 5353))
        question = await server.receive()
        assert question.destination[:2] == (ELSEWHERE[family], 5353)
        server.reply(question, b"me")
        answer = await client.receive()
        assert (answer.data, answer.source[:2]) == (b"me", (ELSEWHERE[family], 5353))
        server.send(b"and me", question.source, source=(NOBODY[family], 1))
        assert (await client.receive()).source[:2] == (NOBODY[family], 1)
    assert right.pure.addresses is not None


async def test_the_most_particular_endpoint_gets_it(pair: Pair) -> None:
    left, right = pair
    any_port, one_port = right.datagrams_any(), right.datagrams_any(7)
    own = right.open_datagram_endpoint(RIGHT[4], 7)
    client = left.open_datagram_endpoint()
    for to in ((RIGHT[4], 7), (ELSEWHERE[4], 7), (ELSEWHERE[4], 8)):
        client.send(str(to).encode(), to)
    for endpoint, to in ((own, (RIGHT[4], 7)), (one_port, (ELSEWHERE[4], 7)), (any_port, (ELSEWHERE[4], 8))):
        assert (await endpoint.receive()).data == str(to).encode()


async def test_iteration_ends_with_the_endpoint(pair: Pair) -> None:
    left, right = pair
    server, client = right.open_datagram_endpoint(port=9), left.open_datagram_endpoint()
    for number in range(3):
        client.send(bytes([number]), (RIGHT[4], 9))
    seen = []
    async for datagram in server:
        seen.append(datagram.data)
        if len(seen) == 3:
            server.close()
    assert seen == [b"\0", b"\1", b"\2"]
    with pytest.raises(ConnectionAbortedError):
        await server.receive()
    with pytest.raises(OSError, match="closed") as raised:
        server.send(b"", (LEFT[4], 1))
    assert raised.value.errno == errno.EBADF


async def test_what_finds_the_queue_full_is_lost_and_counted(pair: Pair) -> None:
    left, right = pair
    server = right.open_datagram_endpoint(port=9, queue=2)
    client = left.open_datagram_endpoint()
    for number in range(5):
        client.send(bytes([number]), (RIGHT[4], 9))
    await left.ping(RIGHT[4])
    assert server.lost == 3
    assert [(await server.receive()).data for _ in range(2)] == [b"\0", b"\1"]


@families
async def test_a_connected_endpoint_is_told_that_nobody_listens(pair: Pair, family: int) -> None:
    left, right = pair
    async with left.open_datagram_endpoint(remote=(RIGHT[family], 9)) as client:
        client.send(b"?")
        with pytest.raises(ConnectionRefusedError):
            await client.receive()
        assert client.errors == 1
    assert right.drops["udp_no_port"] == 1


async def test_a_connected_endpoint_hears_nobody_else(pair: Pair) -> None:
    left, right = pair
    client = left.open_datagram_endpoint(remote=(RIGHT[4], 9))
    stranger, friend = right.open_datagram_endpoint(), right.open_datagram_endpoint(RIGHT[4], 9)
    stranger.send(b"psst", client.sockname)
    friend.send(b"hello", client.sockname)
    assert (await client.receive()).data == b"hello"
    assert left.drops["udp_no_port"] == 1


async def test_others_only_count_what_did_not_arrive(pair: Pair) -> None:
    left, _ = pair
    client = left.open_datagram_endpoint()
    client.send(b"?", (RIGHT[4], 9))
    await left.ping(RIGHT[4])
    assert client.errors == 1


async def test_what_cannot_be_sent(pair: Pair) -> None:
    left, _ = pair
    client = left.open_datagram_endpoint(LEFT[4])
    for data, to, source, code in (
        (bytes(65508), (RIGHT[4], 9), None, errno.EMSGSIZE),
        (b"", None, None, errno.EDESTADDRREQ),
        (b"", (RIGHT[4], 9), (LEFT[6], 9), errno.EAFNOSUPPORT),
    ):
        with pytest.raises(OSError, match=r".") as raised:
            client.send(data, to, source=source)
        assert raised.value.errno == code
    with pytest.raises(OverflowError):
        client.send(b"", (RIGHT[4], 65536))


async def test_a_place_is_taken_once(pair: Pair) -> None:
    left, _ = pair
    first = left.open_datagram_endpoint(port=9)
    with pytest.raises(OSError, match="in use") as raised:
        left.open_datagram_endpoint(LEFT[6], 9)
    assert raised.value.errno == errno.EADDRINUSE
    first.close()
    left.open_datagram_endpoint(LEFT[6], 9)
    with pytest.raises(OSError, match="no address of this stack") as raised:
        left.open_datagram_endpoint(RIGHT[4], 9)
    assert raised.value.errno == errno.EADDRNOTAVAIL


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.DatagramTransport = transport  # type: ignore[assignment]
        self.lost: list[Exception | None] = []

    def datagram_received(self, data: bytes, addr: tuple[str | object, int]) -> None:
        self.transport.sendto(data, addr)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)


@families
async def test_protocols_of_asyncio_work(pair: Pair, family: int) -> None:
    left, right = pair
    transport, protocol = await right.create_datagram_endpoint(Echo, local_addr=(RIGHT[family], 7))
    assert transport.get_extra_info("sockname")[:2] == (RIGHT[family], 7)
    async with left.open_datagram_endpoint(remote=(RIGHT[family], 7)) as client:
        client.send(b"x")
        assert (await client.receive()).data == b"x"
    transport.close()
    await asyncio.sleep(0)
    assert protocol.lost == [None]
    assert transport.is_closing()


async def test_super_datagrams_are_several(pair: Pair) -> None:
    left, right = pair
    server, client = right.open_datagram_endpoint(RIGHT[4], 9), left.open_datagram_endpoint(LEFT[4])
    key = IPV4.key(bytes((10, 7, 0, 1)), client.sockname[1], bytes((10, 7, 0, 2)), 9)
    left.pure.send_datagram(IPV4, key, b"aaabbbc", 3)
    assert [(await server.receive()).data for _ in range(3)] == [b"aaa", b"bbb", b"c"]


async def test_a_stack_that_ends_ends_its_endpoints() -> None:
    near, _ = tunsmith.MemoryDevice.pair()
    async with tunsmith.Stack(near, [LEFT[4]]) as stack:
        endpoint = stack.open_datagram_endpoint()
    with pytest.raises(ConnectionAbortedError):
        await endpoint.receive()


async def test_iteration_raises_what_a_connected_endpoint_is_told(pair: Pair) -> None:
    client = pair[0].open_datagram_endpoint(remote=(RIGHT[4], 9))
    client.send(b"?")
    with pytest.raises(ConnectionRefusedError):
        await anext(client)


async def test_a_protocol_is_told_what_cannot_be_sent(pair: Pair) -> None:
    class Deaf(asyncio.DatagramProtocol):
        error: Exception | None = None

        def error_received(self, exc: Exception) -> None:
            self.error = exc

    transport, protocol = await pair[0].create_datagram_endpoint(Deaf)
    assert transport.get_protocol() is protocol
    transport.sendto(bytes(70_000), (RIGHT[4], 9))
    assert isinstance(protocol.error, OSError)
    assert protocol.error.errno == errno.EMSGSIZE
    transport.close()
    transport.sendto(b"not any more", (RIGHT[4], 9))


async def test_without_addresses_there_is_nowhere_to_listen() -> None:
    near, _ = tunsmith.MemoryDevice.pair()
    async with tunsmith.Stack(near, []) as stack:
        with pytest.raises(OSError, match="assign") as raised:
            stack.open_datagram_endpoint()
        assert raised.value.errno == errno.EADDRNOTAVAIL


async def test_what_is_no_bytes_is_refused_in_words(pair: Pair) -> None:
    left, right = pair
    transport, _ = await left.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=(RIGHT[4], 9))
    async with left.open_datagram_endpoint() as endpoint:
        for send in (transport.sendto, lambda data: endpoint.send(data, (RIGHT[4], 9))):
            with pytest.raises(TypeError, match="expecting a bytes-like instance, got 'str'"):
                send("text")  # type: ignore[arg-type]
    async with right.open_datagram_endpoint(None, 9) as server:
        transport.sendto(memoryview(b"view"))
        assert (await server.receive()).data == b"view"
