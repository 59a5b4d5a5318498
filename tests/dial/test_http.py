"""TCP through HTTP proxies, well-behaved and not."""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.dial.scripted import Client, Script, closed_port, converse, echo, scripted, silent_port
from tunsmith.dial.credentials import Credentials
from tunsmith.dial.http import HttpDialer
from tunsmith.errors import (
    DialError,
    DialProhibited,
    DialRefused,
    DialTimeout,
    DialUnreachable,
    DialUnsupported,
    ProxyAuthFailed,
    ProxyError,
    Reach,
)
from tunsmith.flow import Target

SOMEWHERE = Target("somewhere.test", 443)
OK = b"HTTP/1.1 200 Connection established\r\n\r\n"
JOE = Credentials(b"joe", b"hunter2")


@asynccontextmanager
async def forwarding(target: Target, answer: bytes = OK) -> AsyncIterator[Target]:
    """A proxy that takes every CONNECT for one to `target`."""

    async def script(client: Client) -> None:
        await client.head()
        reader, writer = await asyncio.open_connection(target.host, target.port)
        await client.say(answer)
        writer.write(await client.until_end())
        writer.write_eof()
        await client.say(await reader.read())
        writer.close()

    async with scripted(script) as proxy:
        yield proxy


async def answer(response: bytes, known: Credentials | None = None) -> None:
    """Dial through a proxy that answers `response`."""

    async def script(client: Client) -> None:
        await client.head()
        await client.say(response)

    async with scripted(script) as proxy:
        (await HttpDialer(proxy, known).open_stream(SOMEWHERE)).sock.close()


async def test_connect() -> None:
    async with scripted(echo) as target, forwarding(target) as proxy:
        dialer = HttpDialer(proxy)
        await dialer.start()
        assert await converse(await dialer.open_stream(target), b"abc") == b"cba"


@pytest.mark.parametrize(
    ("target", "authority"),
    [
        (Target("a.test", 443), b"a.test:443"),
        (Target("192.0.2.1", 1), b"192.0.2.1:1"),
        (Target("::1", 2), b"[::1]:2"),
    ],
)
async def test_request_says_where_to_and_who_asks(target: Target, authority: bytes) -> None:
    async def script(client: Client) -> None:
        lines = (await client.head()).split(b"\r\n")
        assert lines[0] == b"CONNECT " + authority + b" HTTP/1.1"
        assert b"Host: " + authority in lines
        assert b"Proxy-Authorization: Basic " + base64.b64encode(b"joe:hunter2") in lines
        await client.say(OK)

    async with scripted(script) as proxy:
        (await HttpDialer(proxy, JOE).open_stream(target)).sock.close()


async def test_bytes_right_behind_the_answer_are_early() -> None:
    async def script(client: Client) -> None:
        await client.head()
        await client.say(OK + b"220 hello\r\n\r\n")
        await client.say(b"you")

    async with scripted(script) as proxy:
        stream = await HttpDialer(proxy).open_stream(SOMEWHERE)
        assert stream.early.startswith(b"220 hello\r\n\r\n")
        assert await converse(stream, b"") == b"220 hello\r\n\r\nyou"


async def test_answer_may_trickle_and_interim_answers_are_skipped() -> None:
    async def script(client: Client) -> None:
        await client.head()
        await client.trickle(b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"early")

    async with scripted(script) as proxy:
        assert await converse(await HttpDialer(proxy).open_stream(SOMEWHERE), b"") == b"early"


@pytest.mark.parametrize(
    ("status", "kind", "reach"),
    [
        (301, ProxyError, None),
        (400, ProxyError, None),
        (401, DialProhibited, None),
        (403, DialProhibited, None),
        (404, DialUnreachable, Reach.HOST),
        (405, DialProhibited, None),
        (408, DialTimeout, None),
        (429, ProxyError, None),
        (451, DialProhibited, None),
        (500, DialUnreachable, Reach.HOST),
        (502, DialUnreachable, Reach.HOST),
        (503, DialUnreachable, Reach.HOST),
        (504, DialTimeout, None),
    ],
)
async def test_every_status_has_its_meaning(status: int, kind: type[DialError], reach: Reach | None) -> None:
    with pytest.raises(kind, match=rf"^somewhere\.test:443: http://127.* says {status} Because$") as caught:
        await answer(b"HTTP/1.1 %d Because\r\nContent-Length: 4\r\n\r\nbody" % status)
    assert type(caught.value) is kind
    assert getattr(caught.value, "reach", None) is reach


@pytest.mark.parametrize(
    ("cause", "kind", "reach"),
    [
        (b"connection_refused", DialRefused, None),
        (b"connection_terminated", DialRefused, None),
        (b"connection_timeout", DialTimeout, None),
        (b"destination_ip_unroutable", DialUnreachable, Reach.NETWORK),
        (b"destination_ip_prohibited", DialProhibited, None),
        (b"dns_error", DialUnreachable, Reach.HOST),
        (b"something_new", DialUnreachable, Reach.HOST),
    ],
)
async def test_proxy_status_says_more_than_the_status__rfc9209(
    cause: bytes, kind: type[DialError], reach: Reach | None
) -> None:
    with pytest.raises(kind, match=cause.decode()) as caught:
        await answer(b"HTTP/1.1 502 Bad Gateway\r\nProxy-Status: edge; error=" + cause + b"\r\n\r\n")
    assert type(caught.value) is kind
    assert getattr(caught.value, "reach", None) is reach


@pytest.mark.parametrize(
    ("known", "complaint"),
    [
        (None, r"wants a user name and password: http://USER:PASSWORD@\.\.\."),
        (JOE, "does not accept this user name and password"),
    ],
)
async def test_wrong_password_is_one_clear_line(known: Credentials | None, complaint: str) -> None:
    with pytest.raises(ProxyAuthFailed, match=complaint) as caught:
        await answer(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", known)
    assert "joe" not in str(caught.value)


async def end_at_once(client: Client) -> None:
    await client.head()


async def end_in_the_head(client: Client) -> None:
    await client.head()
    await client.say(OK[:-2])


async def reset(client: Client) -> None:
    await client.head()
    client.reset()


async def wrong_protocol(client: Client) -> None:
    await client.say(b"\x05\xff")
    await client.until_end()


async def endless(client: Client) -> None:
    await client.head()
    while True:
        await client.say(b"HTTP/1.1 100 Continue\r\n\r\n")


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        (end_at_once, "hung up"),
        (end_in_the_head, "hung up"),
        (reset, "hung up"),
        (wrong_protocol, "does not speak its protocol: not an HTTP response"),
        (endless, "more than 16384 bytes"),
    ],
)
async def test_broken_proxy_is_a_proxy_error(script: Script, complaint: str) -> None:
    async with scripted(script) as proxy:
        with pytest.raises(ProxyError, match=complaint):
            await HttpDialer(proxy).open_stream(SOMEWHERE)


async def test_silent_proxy_is_a_timeout() -> None:
    async def script(client: Client) -> None:
        await client.until_end()

    async with scripted(script) as proxy:
        with pytest.raises(DialTimeout, match=r"did not reach somewhere\.test:443 within 0\.05 s"):
            await HttpDialer(proxy, answer_timeout=0.05).open_stream(SOMEWHERE)
    with silent_port() as proxy, pytest.raises(ProxyError, match="did not answer within"):
        await HttpDialer(proxy, handshake_timeout=0.05).start()


async def test_proxy_that_is_down_says_so_before_anything_starts() -> None:
    with closed_port() as proxy, pytest.raises(ProxyError, match="is it running"):
        await HttpDialer(proxy).start()


async def test_name_that_http_cannot_carry_is_unreachable() -> None:
    with closed_port() as proxy, pytest.raises(DialUnreachable):
        await HttpDialer(proxy).open_stream(Target("a\r\nb", 80))


async def test_no_udp() -> None:
    dialer = HttpDialer(SOMEWHERE)
    assert not dialer.carries_udp
    with pytest.raises(DialUnsupported):
        await dialer.open_datagrams(socket.AF_INET)
