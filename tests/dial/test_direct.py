"""TCP straight from this machine, over the real loopback."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
from pathlib import Path

import pytest

from tests.dial.scripted import Client, closed_port, converse, echo, scripted, silent_port, until
from tunsmith.dial.base import Stream
from tunsmith.dial.direct import DirectDialer
from tunsmith.dial.errnos import dial_error
from tunsmith.dial.resolve import Resolver
from tunsmith.dial.tcp import Connector
from tunsmith.errors import (
    DialError,
    DialProhibited,
    DialRefused,
    DialTimeout,
    DialUnreachable,
    Reach,
)
from tunsmith.flow import Target


class Names(Resolver):
    """A resolver with one name of our own making; the system's files are not ours to change."""

    __slots__ = ("_found",)

    def __init__(self, *found: str) -> None:
        super().__init__()
        self._found = found

    async def addresses(self, host: str) -> list[tuple[int, str]]:
        return [(socket.AF_INET6 if ":" in a else socket.AF_INET, a) for a in self._found]


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_stream_is_connected_and_ours(host: str) -> None:
    async with scripted(echo, host) as target:
        stream = await DirectDialer().open_stream(target)
        assert stream.early == b""
        assert not stream.sock.getblocking()
        assert stream.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert stream.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert await converse(stream, b"abc") == b"cba"


async def test_stream_leaves_no_trace_in_the_loop() -> None:
    """The relay registers the socket itself; a watcher left behind would be its first surprise."""
    async with scripted(echo) as target:
        stream = await DirectDialer().open_stream(target)
        with stream.sock as sock:
            loop = asyncio.get_running_loop()
            assert not loop.remove_writer(sock.fileno())
            assert not loop.remove_reader(sock.fileno())


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_begin_comes_to_the_same(host: str) -> None:
    async with scripted(echo, "127.0.0.1" if host == "localhost" else host) as target:
        begun = DirectDialer().begin(Target(host, target.port))
        stream = begun if isinstance(begun, Stream) else await begun
        assert not stream.sock.getblocking()
        assert await converse(stream, b"abc") == b"cba"


async def test_begin_waits_where_nobody_answers() -> None:
    with silent_port() as target:
        before = descriptors()
        begun = DirectDialer().begin(target)
        assert not isinstance(begun, Stream)
        dial = asyncio.ensure_future(begun)
        await asyncio.sleep(0)
        dial.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dial
        assert descriptors() == before


async def test_begin_hears_a_refusal() -> None:
    with closed_port() as target, pytest.raises(DialRefused):
        DirectDialer().begin(target)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_closed_port_is_refused(host: str) -> None:
    with closed_port(host) as target, pytest.raises(DialRefused, match="refused"):
        await DirectDialer().open_stream(target)


async def test_address_without_a_route_is_unreachable() -> None:
    with pytest.raises(DialUnreachable) as caught:
        await DirectDialer().open_stream(Target("255.255.255.255", 80))
    assert caught.value.reach is Reach.NETWORK


async def test_cancelling_closes_the_socket() -> None:
    with silent_port() as target:
        before = descriptors()
        dial = asyncio.ensure_future(DirectDialer().open_stream(target))
        await asyncio.sleep(0)
        assert descriptors() == before + 1
        dial.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dial
        assert descriptors() == before


async def test_running_out_of_descriptors_is_said_so() -> None:
    asyncio.get_running_loop()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        with pytest.raises(DialError, match=r"out of file descriptors \(the limit is 3\).*ulimit -n"):
            await DirectDialer().open_stream(Target("127.0.0.1", 1))
        with pytest.raises(DialError, match="out of file descriptors"):
            await DirectDialer().open_datagrams(socket.AF_INET)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize(
    ("code", "kind", "reach"),
    [
        (errno.ECONNREFUSED, DialRefused, None),
        (errno.ECONNRESET, DialRefused, None),
        (errno.ENETUNREACH, DialUnreachable, Reach.NETWORK),
        (errno.EAFNOSUPPORT, DialUnreachable, Reach.NETWORK),
        (errno.EINVAL, DialUnreachable, Reach.NETWORK),
        (errno.EHOSTUNREACH, DialUnreachable, Reach.HOST),
        (errno.ETIMEDOUT, DialTimeout, None),
        (errno.EACCES, DialProhibited, None),
        (errno.EPERM, DialProhibited, None),
        (errno.EADDRNOTAVAIL, DialUnreachable, Reach.NETWORK),
        (errno.EMFILE, DialError, None),
        (errno.ENOBUFS, DialError, None),
        (0, DialError, None),
    ],
)
def test_every_errno_has_its_meaning(code: int, kind: type[DialError], reach: Reach | None) -> None:
    error = dial_error(code, Target("192.0.2.1", 80))
    assert type(error) is kind
    assert getattr(error, "reach", None) is reach
    assert str(error).startswith("192.0.2.1:80: ")
    assert "\n" not in str(error)


async def test_name_is_looked_up() -> None:
    async with scripted(echo) as target:
        stream = await DirectDialer().open_stream(Target("localhost", target.port))
        assert await converse(stream, b"abc") == b"cba"


async def test_unknown_name_is_unreachable() -> None:
    with pytest.raises(DialUnreachable, match="no such name"):
        await DirectDialer().open_stream(Target("no-such-name.invalid.", 80))


async def test_second_address_joins_while_the_first_is_silent__rfc8305_5() -> None:
    async with scripted(echo, "127.0.0.2") as target:
        with socket.create_server(("127.0.0.3", target.port), backlog=0) as listener:
            fillers = [socket.socket() for _ in range(4)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(listener.getsockname())
            connector = Connector(resolver=Names("127.0.0.3", "127.0.0.2"), attempt_delay=0.01)
            before = descriptors()
            sock = await connector.connect(Target("two.test", target.port))
            with sock:
                assert sock.getpeername()[0] == "127.0.0.2"
                await asyncio.sleep(0)
                assert descriptors() <= before + 2, "the loser is closed (the other one is the server's end)"
            for filler in fillers:
                filler.close()


async def test_second_address_is_tried_at_once_when_the_first_fails__rfc8305_5() -> None:
    async with scripted(echo, "127.0.0.2") as target:
        connector = Connector(resolver=Names("::1", "127.0.0.2"), attempt_delay=3600)
        with await connector.connect(Target("two.test", target.port)) as sock:
            assert sock.getpeername()[0] == "127.0.0.2"


async def test_refusal_says_more_than_a_missing_route() -> None:
    with closed_port("127.0.0.2") as target:
        connector = Connector(resolver=Names("255.255.255.255", "127.0.0.2"))
        with pytest.raises(DialRefused):
            await connector.connect(Target("two.test", target.port))


async def test_cancelled_race_closes_every_socket() -> None:
    with silent_port() as target:
        before = descriptors()
        connector = Connector(resolver=Names("127.0.0.1", "127.0.0.1"), attempt_delay=0)
        dial = asyncio.ensure_future(connector.connect(Target("two.test", target.port)))
        await until(lambda: descriptors() == before + 2)
        dial.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dial
        await until(lambda: descriptors() == before)


async def test_reset_after_connecting_is_the_relays_matter() -> None:
    async def reset(client: Client) -> None:
        client.reset()

    async with scripted(reset) as target:
        stream = await DirectDialer().open_stream(target)
        with stream.sock, pytest.raises(ConnectionResetError):
            await asyncio.get_running_loop().sock_recv(stream.sock, 1)
