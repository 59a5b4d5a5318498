"""A second opinion on SOCKS5: microsocks, which Debian ships, was written without ours."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.dial.scripted import Client, closed_port, scripted
from tunsmith.dial.base import Stream
from tunsmith.dial.credentials import Credentials
from tunsmith.dial.socks import SocksDialer
from tunsmith.errors import DialRefused, DialUnsupported, ProxyAuthFailed
from tunsmith.flow import Target

pytestmark = pytest.mark.skipif(not shutil.which("microsocks"), reason="needs microsocks")


@asynccontextmanager
async def microsocks(*options: str) -> AsyncIterator[Target]:
    with closed_port() as address:
        pass
    process = await asyncio.create_subprocess_exec(
        "microsocks", "-i", address.host, "-p", str(address.port), *options, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                _, writer = await asyncio.open_connection(address.host, address.port)
                break
        writer.close()
        yield address
    finally:
        process.terminate()
        await process.wait()


async def answer(client: Client) -> None:
    await client.expect(b"abc")
    await client.say(b"cba")


async def ask(stream: Stream) -> bytes:
    """Without an end of our own: microsocks takes the end of one direction for that of both."""
    loop = asyncio.get_running_loop()
    with stream.sock:
        await loop.sock_sendall(stream.sock, b"abc")
        return await loop.sock_recv(stream.sock, 100)


async def test_connect_by_address_and_by_name() -> None:
    async with microsocks() as proxy, scripted(answer) as target:
        dialer = SocksDialer(proxy)
        await dialer.start()
        with pytest.raises(DialUnsupported):
            await dialer.open_datagrams(socket.AF_INET)
        assert not dialer.carries_udp
        assert await ask(await dialer.open_stream(target)) == b"cba"
        by_name = await dialer.open_stream(Target("localhost", target.port))
        assert await ask(by_name) == b"cba"
        with closed_port() as closed, pytest.raises(DialRefused):
            await dialer.open_stream(closed)


async def test_password() -> None:
    async with microsocks("-u", "joe", "-P", "hunter2") as proxy, scripted(answer) as target:
        dialer = SocksDialer(proxy, Credentials(b"joe", b"hunter2"))
        await dialer.start()
        assert await ask(await dialer.open_stream(target)) == b"cba"
        for known in (None, Credentials(b"joe", b"wrong")):
            with pytest.raises(ProxyAuthFailed):
                await SocksDialer(proxy, known).start()
