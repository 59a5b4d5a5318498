"""A stack that speaks to its own addresses, as every host can, and to those that are nobody's on a wire."""

from __future__ import annotations

import asyncio
import errno

import pytest

import tunsmith
from tests.aio.pair import LEFT, RIGHT, Pair

families = pytest.mark.parametrize("family", [4, 6])


@families
@pytest.mark.parametrize("local", [False, True])
async def test_a_client_of_our_own_server(pair: Pair, family: int, local: bool) -> None:
    left, _ = pair

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())
        writer.close()

    await left.start_server(echo, None, 80)
    ours = LEFT[family]
    reader, writer = await left.open_connection(ours, 80, local=ours if local else None)
    text = bytes(range(256)) * 2000
    writer.write(text)
    writer.write_eof()
    assert await reader.read() == text
    assert writer.get_extra_info("sockname")[0] == writer.get_extra_info("peername")[0] == ours
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await left.open_connection(ours, 81)


@families
async def test_datagrams_and_pings_to_ourselves(pair: Pair, family: int) -> None:
    left, right = pair
    ours = LEFT[family]
    async with left.open_datagram_endpoint(ours, 53) as server, left.open_datagram_endpoint() as client:
        client.send(b"?", (ours, 53))
        server.reply(await server.receive(), b"!")
        assert (await client.receive()).data == b"!"
    assert await left.ping(ours) < 1
    refused = left.open_datagram_endpoint(remote=(ours, 54))
    refused.send(b"?")
    with pytest.raises(ConnectionRefusedError):
        await refused.receive()
    assert await right.ping(ours) < 1  # and others reach it as before


@pytest.mark.parametrize("host", ["127.0.0.1", "127.255.0.9", "::1", "0.0.0.0", "::"])
async def test_addresses_of_no_wire_are_refused_at_once__rfc1122_3_2_1_3(pair: Pair, host: str) -> None:
    left, _ = pair
    async with left.open_datagram_endpoint() as endpoint:
        with pytest.raises(OSError, match=host) as unsent:
            endpoint.send(b"", (host, 5))
    with pytest.raises(OSError, match=host) as raised:
        await left.open_connection(host, 80)
    assert unsent.value.errno == raised.value.errno == errno.ENETUNREACH
    if host == "127.0.0.1":
        assert LEFT[4] in str(raised.value)


async def test_local_addresses_of_zeros_are_whatever_suits(pair: Pair) -> None:
    left, right = pair
    await right.start_server(lambda _, writer: writer.close(), None, 80)
    _, writer = await left.open_connection(RIGHT[4], 80, local=("0.0.0.0", 4321))
    assert writer.get_extra_info("sockname") == (LEFT[4], 4321)
    writer.close()
    transport, _ = await left.create_datagram_endpoint(asyncio.DatagramProtocol, ("::", 0), (RIGHT[6], 53))
    assert transport.get_extra_info("sockname")[0] == LEFT[6]
    with pytest.raises(OSError, match="from ::") as raised:
        await left.open_connection(RIGHT[4], 80, local="::")
    assert raised.value.errno == errno.EAFNOSUPPORT


async def test_a_gateway_must_be_on_a_network_of_ours() -> None:
    near, _ = tunsmith.MemoryDevice.pair()
    stack = tunsmith.Stack(near, ["10.7.0.1/24"])
    with pytest.raises(OSError, match=r"192\.0\.2\.1") as raised:
        stack.add_route("0.0.0.0/0", gateway="192.0.2.1")
    assert raised.value.errno == errno.ENETUNREACH
    await stack.close()


@pytest.mark.parametrize("host", ["224.0.0.1", "255.255.255.255", "10.7.0.255", "ff02::1"])
async def test_a_connection_is_with_one_host(pair: Pair, host: str) -> None:
    with pytest.raises(OSError, match="with one host") as raised:
        await pair[0].open_connection(host, 80)
    assert raised.value.errno == errno.ENETUNREACH


async def test_an_ipv4_address_in_the_clothes_of_ipv6_is_one__rfc4291_2_5_5_2(pair: Pair) -> None:
    left, right = pair
    await right.start_server(lambda _, writer: writer.close(), None, 80)
    reader, writer = await left.open_connection(f"::ffff:{RIGHT[4]}", 80)
    assert await reader.read() == b""
    assert writer.get_extra_info("peername") == (RIGHT[4], 80)
    writer.close()
