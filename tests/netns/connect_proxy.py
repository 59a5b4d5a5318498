"""A small HTTP proxy that knows CONNECT and nothing else, with or without a password."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
from collections.abc import Callable, Mapping

_STATUS = {
    errno.ECONNREFUSED: "502 Bad Gateway",
    errno.EHOSTUNREACH: "504 Gateway Timeout",
    errno.ENETUNREACH: "504 Gateway Timeout",
}


class ConnectProxy:
    """`hosts`: the names it knows; `say(server, **fields)` is told of each request."""

    def __init__(self, hosts: Mapping[str, str], say: Callable[..., None], credentials: str = "") -> None:
        self._hosts = hosts
        self._say = say
        self._token = base64.b64encode(credentials.encode()).decode() if credentials else ""
        self.server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> None:
        self.server = await asyncio.start_server(self._serve, host, port)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._answer(reader, writer)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        method, authority, _ = head.split("\r\n", 1)[0].split()
        if self._token and f"Proxy-Authorization: Basic {self._token}\r\n" not in head:
            writer.write(
                b'HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n'
            )
            return
        if method != "CONNECT":
            writer.write(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")
            return
        host, _, port = authority.rpartition(":")
        host = host.strip("[]")
        self._say("connect", target=authority)
        try:
            far_reader, far_writer = await asyncio.open_connection(self._hosts.get(host, host), int(port))
        except OSError as error:
            status = _STATUS.get(error.errno or 0, "502 Bad Gateway")
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
            return
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        finally:
            far_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 17):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
