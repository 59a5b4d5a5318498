"""The same echo over every kind of link that needs no kernel (tests/links has those that do)."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import ExitStack, closing

import pytest

import tunsmith
from tunsmith.device.base import ALL_OFFLOADS, Device
from tunsmith.device.tun import TunDevice
from tunsmith.wire.packet_info import BSD4, LINUX4

TEXT = os.urandom(300_000)


def _sockets(kind: int) -> tuple[int, int]:
    pair = socket.socketpair(socket.AF_UNIX, kind)
    for end in pair:
        end.setblocking(False)
    return pair[0].detach(), pair[1].detach()


def memory() -> tuple[Device, Device]:
    return tunsmith.MemoryDevice.pair()


def memory_ethernet() -> tuple[Device, Device]:
    return tunsmith.MemoryDevice.pair(ethernet=True)


def calls() -> tuple[Device, Device]:
    far: tunsmith.ObjectDevice
    near = tunsmith.ObjectDevice(lambda packet: far.deliver(packet), packet_info=LINUX4)
    far = tunsmith.ObjectDevice(near.deliver, packet_info=LINUX4)
    return near, far


def frames() -> tuple[Device, Device]:
    near, far = _sockets(socket.SOCK_DGRAM)
    return TunDevice(near, ALL_OFFLOADS), TunDevice(far, ALL_OFFLOADS)


def packets() -> tuple[Device, Device]:
    near, far = _sockets(socket.SOCK_SEQPACKET)
    return tunsmith.PacketDevice(near, packet_info=BSD4), tunsmith.PacketDevice(far, packet_info=BSD4)


def stream() -> tuple[Device, Device]:
    near, far = _sockets(socket.SOCK_STREAM)
    return tunsmith.StreamDevice(near), tunsmith.StreamDevice(far)


def stream_of_frames() -> tuple[Device, Device]:
    near, far = _sockets(socket.SOCK_STREAM)
    return tunsmith.StreamDevice(near, vnet_header=True), tunsmith.StreamDevice(far, vnet_header=True)


def _stack(device: Device, number: int) -> tunsmith.Stack:
    mac = f"02:00:00:00:00:0{number}" if device.ethernet else None
    addresses = [f"10.7.0.{number}/24", f"fd07::{number}/64"]
    return tunsmith.Stack([tunsmith.Nic(device, addresses, mac=mac, probe=False)])


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while text := await reader.read(65536):
        writer.write(text)
        await writer.drain()
    writer.close()


@pytest.mark.parametrize("host", ["10.7.0.2", "fd07::2"])
@pytest.mark.parametrize(
    "link",
    [memory, memory_ethernet, calls, frames, packets, stream, stream_of_frames],
    ids=lambda link: link.__name__,
)
async def test_what_is_sent_comes_back(link, host: str) -> None:
    near, far = link()
    with ExitStack() as stack:
        stack.enter_context(closing(near))
        stack.enter_context(closing(far))
        client, server = (_stack(device, number) for number, device in enumerate((near, far), 1))
        async with server, client:
            await server.start_server(_echo, host, 7)
            reader, writer = await client.open_connection(host, 7, timeout=10)
            writer.write(TEXT)
            writer.write_eof()
            assert await reader.read(-1) == TEXT
            writer.close()
