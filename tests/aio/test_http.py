"""HTTP servers and clients of others, unmodified, on a stack: no socket of the kernel is bound or connected."""

from __future__ import annotations

import asyncio
import hashlib
import io
import random
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
import uvicorn
from aiohttp import web

import tunsmith
from tests.aio.pair import RIGHT, Pair, two_stacks
from tunsmith.aio.loop import StackEventLoop, instead_of_sockets

BODY = random.Random(1).randbytes(2_000_000)
families = pytest.mark.parametrize("family", [4, 6])


def url(family: int, path: str = "/") -> str:
    host = RIGHT[family]
    return f"http://[{host}]{path}" if family == 6 else f"http://{host}{path}"


@pytest.fixture(autouse=True)
def no_kernel_sockets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whoever binds or connects a socket of the kernel's fails."""

    def refuse(*_: object) -> None:
        raise AssertionError("a socket of the kernel's")

    with monkeypatch.context() as patched:
        for method in ("bind", "connect", "connect_ex", "listen"):
            patched.setattr(socket.socket, method, refuse)
        yield


async def echo(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"peer": str(request.remote)})
    await response.prepare(request)
    async for piece in request.content.iter_any():
        await response.write(piece)
    return response


def web_application(directory: Path) -> web.Application:
    application = web.Application()
    application.router.add_post("/echo", echo)
    application.router.add_static("/files", directory)
    return application


class Connector(aiohttp.BaseConnector):
    """aiohttp's way of connecting differently: the one abstract method of its connectors."""

    def __init__(self, stack: tunsmith.Stack) -> None:
        super().__init__()
        self._stack = stack

    async def _create_connection(self, req: Any, traces: Any, timeout: Any) -> Any:
        _, protocol = await self._stack.create_connection(self._factory, req.url.host, req.url.port)
        return protocol


@families
async def test_aiohttp_serves_and_fetches(pair: Pair, family: int, tmp_path: Path) -> None:
    left, right = pair
    (tmp_path / "file").write_bytes(BODY)
    runner = web.AppRunner(web_application(tmp_path))
    await runner.setup()
    assert runner.server is not None
    await right.create_server(runner.server, None, 80)
    async with aiohttp.ClientSession(connector=Connector(left)) as session:
        async with session.post(url(family, "/echo"), data=io.BytesIO(BODY)) as response:
            assert await response.read() == BODY
            assert response.headers["peer"] in {"10.7.0.1", "fd07::1"}
        async with session.get(url(family, "/files/file")) as response:  # loop.sendfile
            assert await response.read() == BODY
        async with session.get(url(family, "/nothing")) as response:
            assert response.status == 404
    await runner.cleanup()


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=StackEventLoop) as runner:
        runner.run(main())


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """ASGI: answers with the digest of what it got, in pieces."""
    if scope["type"] != "http":
        return
    digest, more = hashlib.sha256(), True
    while more:
        message = await receive()
        digest.update(message.get("body", b""))
        more = message.get("more_body", False)
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"x-client", scope["client"][0].encode())],
        }
    )
    for byte in digest.digest():
        await send({"type": "http.response.body", "body": bytes([byte]), "more_body": True})
    await send({"type": "http.response.body", "body": b""})


@families
def test_uvicorn_and_httpx_do_not_notice(family: int) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(BODY), 100_000):
            yield BODY[at : at + 100_000]

    async def main() -> None:
        async with two_stacks() as (left, right):
            config = uvicorn.Config(application, host=RIGHT[family], port=80, log_config=None, lifespan="off")
            server = uvicorn.Server(config)
            with instead_of_sockets(right):
                serving = asyncio.create_task(server.serve())
                while not server.started:  # noqa: ASYNC110 - it has no event to wait for
                    await asyncio.sleep(0)
            with instead_of_sockets(left):
                async with httpx.AsyncClient(trust_env=False) as client:
                    for _ in range(3):
                        response = await client.post(url(family), content=pieces())
                        assert response.content == hashlib.sha256(BODY).digest()
                        assert response.headers["x-client"] in {"10.7.0.1", "fd07::1"}
            server.should_exit = True
            await serving

    run(main)


def test_streams_and_datagrams_of_asyncio_do_not_notice() -> None:
    class Echo(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport: asyncio.DatagramTransport = transport  # type: ignore[assignment]

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.transport.sendto(data, addr)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with two_stacks() as (left, right):
            with instead_of_sockets(right):
                await asyncio.start_server(lambda _, writer: writer.close(), RIGHT[4], 80)
                await loop.create_datagram_endpoint(Echo, local_addr=(RIGHT[4], 7))
                with pytest.raises(socket.gaierror):
                    await loop.getaddrinfo("example.com", 80)
                ((family, *_, address),) = await loop.getaddrinfo(RIGHT[6], 80)
                assert (family, address) == (socket.AF_INET6, (RIGHT[6], 80, 0, 0))
            with instead_of_sockets(left):
                reader, writer = await asyncio.open_connection(RIGHT[4], 80)
                assert await reader.read() == b""
                writer.close()
            async with left.open_datagram_endpoint(remote=(RIGHT[4], 7)) as endpoint:
                endpoint.send(b"x")
                assert (await endpoint.receive()).data == b"x"

    run(main)


def test_without_a_stack_the_loop_is_asyncios_own() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(AssertionError, match="of the kernel"):
            await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        with pytest.raises(AssertionError, match="of the kernel"):
            await asyncio.open_connection("127.0.0.1", 1)
        with pytest.raises(AssertionError, match="of the kernel"):
            await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
        assert await loop.getaddrinfo("127.0.0.1", 80)

    run(main)


async def test_another_loop_has_only_sockets(pair: Pair) -> None:
    with pytest.raises(RuntimeError, match="has only sockets"), instead_of_sockets(pair[0]):
        pass
