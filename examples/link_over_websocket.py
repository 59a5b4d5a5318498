"""A network whose wire is a WebSocket: two hosts with nothing but HTTP between them. Wants aiohttp.

`serve` and `connect` know of each other only the URL: they may as well run on two machines.
"""

from __future__ import annotations

import asyncio

import aiohttp
from aiohttp import web

import tunsmith


class WebSocketLink:
    """`device`, whose frames, super-segments included, are the messages of `socket` while `run` runs."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse | web.WebSocketResponse) -> None:
        self._socket = socket
        self._leaving: asyncio.Queue[bytes] = asyncio.Queue(256)
        self.device = tunsmith.ObjectDevice(self._send, vnet_header=True)

    def _send(self, frame: bytes) -> None:
        if self._leaving.full():
            raise BlockingIOError  # counted as lost; TCP slows down, as on any link
        self._leaving.put_nowait(frame)

    async def run(self) -> None:
        """Until the other end hangs up: then the device has gone."""
        sending = asyncio.create_task(self._send_all())
        async for message in self._socket:
            self.device.deliver(message.data)
        sending.cancel()
        self.device.end()

    async def _send_all(self) -> None:
        while True:
            await self._socket.send_bytes(await self._leaving.get())


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write((await reader.read()).upper())
    writer.close()


async def serve(request: web.BaseRequest) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    link = WebSocketLink(socket)
    async with tunsmith.Stack(link.device, ["10.7.0.1/24"]) as stack:
        await stack.start_server(shout, "10.7.0.1", 7)
        await link.run()
    return socket


async def connect(url: str) -> None:
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
        link = WebSocketLink(socket)
        running = asyncio.create_task(link.run())
        async with tunsmith.Stack(link.device, ["10.7.0.2/24"]) as stack:
            reader, writer = await stack.open_connection("10.7.0.1", 7)
            writer.write(b"hello" * 1_000_000)
            writer.write_eof()
            print("five megabytes went there and back:", await reader.read() == b"HELLO" * 1_000_000)
            writer.close()
        await socket.close()
        await running


async def main() -> None:
    runner = web.ServerRunner(web.Server(serve))
    await runner.setup()
    await web.TCPSite(runner, "localhost", 0).start()
    await connect(f"http://localhost:{runner.addresses[0][1]}")
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
