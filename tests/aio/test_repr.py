"""What a person sees who prints one of the library's objects."""

from __future__ import annotations

import asyncio
import os

import tunsmith
from tests.aio.pair import LEFT, RIGHT, Pair


async def test_a_stack_its_server_and_its_connections(pair: Pair) -> None:
    left, right = pair
    assert repr(left) == "<Stack 10.7.0.1/24 fd07::1/64, running, connections: 0>"
    server = await right.start_server(lambda *_: None, RIGHT[4], 80, start_serving=False)
    assert repr(server) == "<Server not listening yet>"
    await server.start_serving()
    assert repr(server) == "<Server ('10.7.0.2', 80)>"
    assert repr(server.sockets) == "(<ListeningSocket ('10.7.0.2', 80)>,)"
    _, writer = await left.open_connection(RIGHT[4], 80, local=(LEFT[4], 4000))
    ends = "('10.7.0.1', 4000) to ('10.7.0.2', 80)"
    assert repr(writer.transport) == f"<Transport {ends}, ESTABLISHED>"
    assert repr(writer.get_extra_info("socket")) == f"<ConnectedSocket {ends}>"
    assert repr(left) == "<Stack 10.7.0.1/24 fd07::1/64, running, connections: 1>"
    server.close()
    assert repr(server) == "<Server closed>"
    await left.close()
    assert "closed" in repr(left)


async def test_endpoints(pair: Pair) -> None:
    left, _ = pair
    endpoint = left.open_datagram_endpoint(LEFT[4], 53)
    assert repr(endpoint) == "<DatagramEndpoint ('10.7.0.1', 53)>"
    endpoint.close()
    assert repr(endpoint) == "<DatagramEndpoint ('10.7.0.1', 53), closed>"
    transport, _ = await left.create_datagram_endpoint(
        asyncio.DatagramProtocol, (LEFT[4], 54), (RIGHT[4], 53)
    )
    assert repr(transport) == "<DatagramTransport ('10.7.0.1', 54) to ('10.7.0.2', 53)>"
    flows, pings = left.listen_any(80), left.open_ping_endpoint()
    assert repr(flows) == "<Flows to any address, port 80, unanswered: 0>"
    assert repr(pings) == "<PingEndpoint for our addresses>"
    flows.close()
    pings.close()
    assert repr(flows) == "<Flows to any address, port 80, closed>"
    assert repr(pings) == "<PingEndpoint for our addresses, closed>"


async def test_devices() -> None:
    near, far = tunsmith.MemoryDevice.pair(mtu=1400, ethernet=True)
    assert repr(near) == "<MemoryDevice, Ethernet, mtu 1400, super-segments>"
    far.close()
    assert repr(far) == "<MemoryDevice, closed>"
    calls = tunsmith.ObjectDevice(print)
    assert repr(calls) == "<ObjectDevice to <built-in function print>, mtu 1500, packets>"
    stream = tunsmith.StreamDevice(*os.pipe())
    assert repr(stream) == "<StreamDevice, mtu 1500, packets>"
    packets = tunsmith.PacketDevice(os.eventfd(0), name="utun4")
    assert repr(packets) == "<PacketDevice utun4, mtu 1500, packets>"
    for device in (near, calls, stream, packets):
        device.close()
