"""Stacks on Ethernet, and on several interfaces."""

from __future__ import annotations

import asyncio
import errno

import pytest

import tunsmith
from tests.aio.pair import LEFT, RIGHT
from tunsmith.errors import UsageError

families = pytest.mark.parametrize("family", [4, 6])
BOTH = {side: [f"{ends[4]}/24", f"{ends[6]}/64"] for side, ends in (("left", LEFT), ("right", RIGHT))}


def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"bye")
    writer.close()


async def fetch(stack: tunsmith.Stack, host: str) -> bytes:
    reader, writer = await stack.open_connection(host, 80)
    try:
        return await reader.read()
    finally:
        writer.close()


@families
async def test_ethernet_finds_its_neighbours(family: int) -> None:
    near, far = tunsmith.MemoryDevice.pair(ethernet=True)
    left = tunsmith.Stack([tunsmith.Nic(near, BOTH["left"], mac="02:00:00:00:00:01", probe=False)])
    right = tunsmith.Stack([tunsmith.Nic(far, BOTH["right"], mac="02:00:00:00:00:02", probe=False)])
    async with left, right:
        await right.start_server(hang_up, None, 80)
        assert await fetch(left, RIGHT[family]) == b"bye"
        assert await left.ping(RIGHT[family])
        async with right.datagrams_any() as server, left.open_datagram_endpoint() as client:
            client.send(b"?", (RIGHT[family], 53))
            server.reply(await server.receive(), b"!")
            assert (await client.receive()).data == b"!"


@pytest.mark.slow  # three questions, a second apart
async def test_a_neighbour_that_is_not_there_is_unreachable() -> None:
    near, _ = tunsmith.MemoryDevice.pair(ethernet=True)
    nic = tunsmith.Nic(near, BOTH["left"], mac="02:00:00:00:00:01", probe=False)
    async with tunsmith.Stack([nic]) as left:
        with pytest.raises(OSError, match="No route") as raised:
            await left.open_connection(RIGHT[4], 80)
        assert raised.value.errno == errno.EHOSTUNREACH


async def test_an_address_that_somebody_has_is_not_used__rfc4862_5_4() -> None:
    near, far = tunsmith.MemoryDevice.pair(ethernet=True)
    owner = tunsmith.Stack([tunsmith.Nic(far, ["10.7.0.1/24"], mac="02:00:00:00:00:02", probe=False)])
    async with owner:
        with pytest.raises(OSError, match=r"another station has 10\.7\.0\.1") as raised:
            async with tunsmith.Stack(near, ["10.7.0.1/24"]):
                pass
        assert raised.value.errno == errno.EADDRINUSE


async def test_a_mac_is_for_ethernet() -> None:
    near, _ = tunsmith.MemoryDevice.pair()
    with pytest.raises(UsageError, match="no Ethernet"):
        tunsmith.Stack(near, ["10.7.0.1/24"], mac="02:00:00:00:00:01")
    near.close()


@families
async def test_a_stack_between_two_networks_forwards_on_request(family: int) -> None:
    """client 10.1.0.2 -- 10.1.0.1 router 10.2.0.1 -- 10.2.0.2 server"""
    client_device, near = tunsmith.MemoryDevice.pair()
    far, server_device = tunsmith.MemoryDevice.pair()
    client = tunsmith.Stack(client_device, ["10.1.0.2/24", "fd01::2/64"])
    router = tunsmith.Stack(
        [
            tunsmith.Nic(near, ["10.1.0.1/24", "fd01::1/64"]),
            tunsmith.Nic(far, ["10.2.0.1/24", "fd02::1/64"]),
        ],
        forwarding=True,
    )
    server = tunsmith.Stack(server_device, ["10.2.0.2/24", "fd02::2/64"])
    there = {4: "10.2.0.2", 6: "fd02::2"}[family]
    async with client, router, server:
        everywhere = client.add_route("0.0.0.0/0", gateway="10.1.0.1")
        assert everywhere in client.router.routes
        client.router.remove_route(everywhere)
        await server.start_server(hang_up, None, 80)
        await router.start_server(hang_up, None, 80)
        assert await fetch(client, there) == b"bye"
        assert await fetch(client, {4: "10.2.0.1", 6: "fd02::1"}[family]) == b"bye"
        with pytest.raises(OSError, match=r"unreachable|No route"):
            await client.ping(there, ttl=1)
        assert await fetch(router, there) == b"bye"
