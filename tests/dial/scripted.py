"""Proxies that misbehave on purpose, and small servers to reach through them: real sockets on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from tunsmith.dial.base import Datagrams, Stream
from tunsmith.flow import Target


class Client:
    """One client of a scripted server, seen from the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def expect(self, message: bytes) -> None:
        """Read exactly `message`."""
        assert await self._reader.readexactly(len(message)) == message

    async def head(self) -> bytes:
        """Read an HTTP header block."""
        return await self._reader.readuntil(b"\r\n\r\n")

    async def say(self, message: bytes) -> None:
        self._writer.write(message)
        await self._writer.drain()

    async def trickle(self, message: bytes) -> None:
        """Say `message` byte by byte, each in a packet of its own."""
        for byte in message:
            await self.say(bytes((byte,)))
            await asyncio.sleep(0)

    def reset(self) -> None:
        """Hang up with RST."""
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def until_end(self) -> bytes:
        """Say nothing more; what the client says until it hangs up."""
        return await self._reader.read()


Script = Callable[[Client], Awaitable[object]]


@asynccontextmanager
async def scripted(script: Script, host: str = "127.0.0.1") -> AsyncIterator[Target]:
    """A server that plays `script` to every client and then hangs up. A client that hangs up first is fine;
    any other failure of a script is the test's."""
    failures: list[BaseException] = []
    tasks: set[asyncio.Task[object]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await script(Client(reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        except BaseException as error:
            failures.append(error)
        finally:
            tasks.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, host, 0)
    try:
        yield Target(host, server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if failures:
        raise failures[0]


async def echo(client: Client) -> None:
    """A script: what the client says until it ends, reversed."""
    await client.say((await client.until_end())[::-1])


async def converse(stream: Stream, message: bytes) -> bytes:
    """Say `message` and nothing more; all that comes back. Closes."""
    loop = asyncio.get_running_loop()
    with stream.sock:
        await loop.sock_sendall(stream.sock, message)
        stream.sock.shutdown(socket.SHUT_WR)
        answer = stream.early
        while chunk := await loop.sock_recv(stream.sock, 65536):
            answer += chunk
    return answer


@contextmanager
def closed_port(host: str = "127.0.0.1") -> Iterator[Target]:
    """A TCP port nobody listens on, and nobody will while the body runs."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        sock.bind((host, 0))
        yield Target(host, sock.getsockname()[1])


@contextmanager
def silent_port(host: str = "127.0.0.1") -> Iterator[Target]:
    """A TCP port that does not answer: its backlog is full, so the kernel drops every further SYN."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server((host, 0), backlog=0))
        address = listener.getsockname()
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(address)
        yield Target(host, address[1])


@contextmanager
def udp_socket(host: str = "127.0.0.1") -> Iterator[socket.socket]:
    """A non-blocking UDP socket on a port of its own."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        sock.setblocking(False)
        yield sock


def at(sock: socket.socket) -> Target:
    """Where `sock` is bound."""
    return Target(*sock.getsockname()[:2])


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until `condition` holds; the test's own timeout ends a wait in vain."""
    while not condition():  # noqa: ASYNC110 - there is no event for what the kernel does
        await asyncio.sleep(0)


async def readable(descriptor: int) -> None:
    """Wait until `descriptor` is readable."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await asyncio.wait_for(ready.wait(), 5)
    finally:
        loop.remove_reader(descriptor)


async def arrived(sock: socket.socket) -> tuple[bytes, Target]:
    """The next datagram at `sock` and where it came from."""
    await readable(sock.fileno())
    data, source = sock.recvfrom(65536)
    return data, Target(*source[:2])


async def received(datagrams: Datagrams) -> tuple[bytes, int, Target]:
    """What `receive` gives, once it gives something."""
    while True:
        try:
            return datagrams.receive()
        except BlockingIOError:
            await readable(datagrams.fileno())


def datagrams_of(batch: tuple[bytes, int, Target]) -> list[bytes]:
    """The single datagrams in what `receive` gave."""
    data, size, _ = batch
    return [data[at : at + size] for at in range(0, len(data), size)] if size else [data]


def put_elsewhere(descriptor: int) -> None:
    """From now on `descriptor` is no socket any more: whatever it is asked for fails, again and again."""
    with open("/dev/null") as nothing:
        os.dup2(nothing.fileno(), descriptor, inheritable=False)
