"""A web server just large enough: one page, and bytes for as long as somebody measures."""

from __future__ import annotations

import asyncio
import socket

PORT = 80
STREAM = "/stream?seconds="
"""A request for this path and a number is answered with bytes until so many seconds have passed."""
LONGEST = 60.0

_CHUNK = memoryview(bytes(1 << 20))
_HEAD_LIMIT = 8192


class WebServer:
    """HTTP/1.1 on PORT of several addresses, one answer a connection."""

    def __init__(self, addresses: list[str]) -> None:
        """Listens at once: raises OSError where it cannot."""
        self.streamed = 0
        """Bytes of streams sent so far, for progress bars."""
        self._listeners = [_listen(address) for address in addresses]

    async def serve(self) -> None:
        """Answer until cancelled; then nobody listens any more."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for listener in self._listeners:
                    tasks.create_task(self._accept(listener, tasks))
        finally:
            for listener in self._listeners:
                listener.close()

    async def _accept(self, listener: socket.socket, tasks: asyncio.TaskGroup) -> None:
        while True:
            client, _ = await asyncio.get_running_loop().sock_accept(listener)
            tasks.create_task(self._answer(client))

    async def _answer(self, client: socket.socket) -> None:
        client.setblocking(False)
        with client:
            try:
                await self._answer_path(client, await _requested_path(client))
            except (OSError, ValueError):
                pass  # the client has gone, or speaks no HTTP

    async def _answer_path(self, client: socket.socket, path: str) -> None:
        if path.startswith(STREAM):
            await self._stream(client, min(float(path.removeprefix(STREAM)), LONGEST))
        else:
            page = f"Hello, you have reached {client.getsockname()[0]}\n"
            await _send(client, f"{_head('text/plain')}Content-Length: {len(page)}\r\n\r\n{page}".encode())

    async def _stream(self, client: socket.socket, seconds: float) -> None:
        await _send(client, f"{_head('application/octet-stream')}\r\n".encode())
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while loop.time() < end:
            await loop.sock_sendall(client, _CHUNK)
            self.streamed += len(_CHUNK)


def _listen(address: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.create_server((address, PORT), family=family, backlog=64)
    listener.setblocking(False)
    return listener


async def _requested_path(client: socket.socket) -> str:
    head = b""
    while b"\r\n\r\n" not in head:
        data = await asyncio.get_running_loop().sock_recv(client, _HEAD_LIMIT)
        head += data
        if not data or len(head) > _HEAD_LIMIT:
            raise ValueError("not a request")
    _, path, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
    return path


def _head(content_type: str) -> str:
    return f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nConnection: close\r\n"


async def _send(client: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(client, data)
