"""TCP through SOCKS5 proxies, well-behaved and not."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.dial.scripted import Client, Script, closed_port, converse, echo, scripted, silent_port
from tunsmith.dial.credentials import Credentials
from tunsmith.dial.socks import SocksDialer
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
from tunsmith.testing.socks_server import SocksServer

HOSTS = pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
SOMEWHERE = Target("192.0.2.1", 80)
CONNECT = b"\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x50"
SUCCESS = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x12\x34"
JOE = Credentials(b"joe", b"hunter2")


async def welcome(client: Client) -> None:
    await client.expect(b"\x05\x01\x00")
    await client.say(b"\x05\x00")


async def hang(client: Client) -> None:
    await client.until_end()


@HOSTS
async def test_connect_by_address(host: str) -> None:
    async with scripted(echo, host) as target, SocksServer(host) as server:
        dialer = SocksDialer(Target(server.host, server.port))
        await dialer.start()
        assert await converse(await dialer.open_stream(target), b"abc") == b"cba"
        assert list(server.asked) == [target]


async def test_name_reaches_the_proxy_as_a_name() -> None:
    async with scripted(echo) as target, SocksServer(hosts={"secret.test": target.host}) as server:
        stream = await SocksDialer(Target(server.host, server.port)).open_stream(
            Target("secret.test", target.port)
        )
        assert await converse(stream, b"abc") == b"cba"
        assert server.names == ["secret.test"]


async def test_megabytes_go_both_ways_and_each_end_is_its_own() -> None:
    message = bytes(range(256)) * 8192
    async with scripted(echo) as target, SocksServer() as server:
        stream = await SocksDialer(Target(server.host, server.port)).open_stream(target)
        loop = asyncio.get_running_loop()

        async def upload() -> None:
            await loop.sock_sendall(stream.sock, message)
            stream.sock.shutdown(socket.SHUT_WR)

        with stream.sock:
            uploading = asyncio.ensure_future(upload())
            answer = bytearray()
            while chunk := await loop.sock_recv(stream.sock, 1 << 16):
                answer += chunk
            await uploading
        assert answer == message[::-1]


async def test_password_is_accepted() -> None:
    async with scripted(echo) as target, SocksServer(credentials=(b"joe", b"hunter2")) as server:
        dialer = SocksDialer(Target(server.host, server.port), JOE)
        await dialer.start()
        assert await converse(await dialer.open_stream(target), b"abc") == b"cba"


async def test_password_is_not_shown_to_a_proxy_that_does_not_ask() -> None:
    async def script(client: Client) -> None:
        await client.expect(b"\x05\x02\x00\x02")
        await client.say(b"\x05\x00")
        await client.expect(CONNECT)
        await client.say(SUCCESS)

    async with scripted(script) as proxy:
        (await SocksDialer(proxy, JOE).open_stream(SOMEWHERE)).sock.close()


@pytest.mark.parametrize(
    ("known", "complaint"),
    [
        (None, r"the proxy wants a user name and password: socks5://USER:PASSWORD@\.\.\."),
        (Credentials(b"joe", b"wrong"), "the proxy does not accept this user name and password"),
    ],
)
async def test_wrong_password_is_one_clear_line(known: Credentials | None, complaint: str) -> None:
    async with SocksServer(credentials=(b"joe", b"hunter2")) as server:
        dialer = SocksDialer(Target(server.host, server.port), known)
        for attempt in (dialer.start(), dialer.open_stream(SOMEWHERE), dialer.open_datagrams(socket.AF_INET)):
            with pytest.raises(ProxyAuthFailed, match=complaint) as caught:
                await attempt
            assert "joe" not in str(caught.value)
            assert f"socks5://127.0.0.1:{server.port}: " in str(caught.value)


@pytest.mark.parametrize(
    ("code", "kind", "reach"),
    [
        (1, DialUnreachable, Reach.HOST),
        (2, DialProhibited, None),
        (3, DialUnreachable, Reach.NETWORK),
        (4, DialUnreachable, Reach.HOST),
        (5, DialRefused, None),
        (6, DialUnreachable, Reach.EXPIRED),
        (7, DialUnsupported, None),
        (8, DialUnsupported, None),
        (9, ProxyError, None),
        (255, ProxyError, None),
    ],
)
@pytest.mark.parametrize("rest", [b"", b"\x00\x01\x00\x00\x00\x00\x00\x00"])
async def test_every_reply_has_its_meaning__rfc1928_6(
    code: int, rest: bytes, kind: type[DialError], reach: Reach | None
) -> None:
    async def script(client: Client) -> None:
        await welcome(client)
        await client.expect(CONNECT)
        await client.say(bytes((5, code)) + rest)

    async with scripted(script) as proxy:
        with pytest.raises(kind) as caught:
            await SocksDialer(proxy).open_stream(SOMEWHERE)
    assert type(caught.value) is kind
    assert getattr(caught.value, "reach", None) is reach
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "reply",
    [
        SUCCESS,
        b"\x05\x00\x00\x04" + bytes(18),
        b"\x05\x00\x00\x03\x0bproxy.test.\x00\x50",
        b"\x05\x00\x00\x03\x00\x00\x00",
    ],
)
async def test_bytes_right_behind_any_reply_are_early(reply: bytes) -> None:
    async def script(client: Client) -> None:
        await welcome(client)
        await client.expect(CONNECT)
        await client.say(reply + b"\x05\x00 220 hello")
        await client.say(b", you")

    async with scripted(script) as proxy:
        stream = await SocksDialer(proxy).open_stream(SOMEWHERE)
        assert stream.early.startswith(b"\x05\x00 220 hello")
        assert await converse(stream, b"") == b"\x05\x00 220 hello, you"


async def test_reply_may_trickle() -> None:
    async def script(client: Client) -> None:
        await client.expect(b"\x05\x02\x00\x02")
        await client.trickle(b"\x05\x02")
        await client.expect(b"\x01\x03joe\x07hunter2")
        await client.trickle(b"\x01\x00")
        await client.expect(CONNECT)
        await client.trickle(SUCCESS + b"early")

    async with scripted(script) as proxy:
        assert await converse(await SocksDialer(proxy, JOE).open_stream(SOMEWHERE), b"") == b"early"


async def wrong_protocol(client: Client) -> None:
    await client.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")


async def method_not_offered(client: Client) -> None:
    await client.say(b"\x05\x01")
    await client.until_end()


async def end_at_once(client: Client) -> None:
    await client.expect(b"\x05\x01\x00")


async def end_in_the_reply(client: Client) -> None:
    await welcome(client)
    await client.expect(CONNECT)
    await client.say(SUCCESS[:7])


async def reset_at_once(client: Client) -> None:
    client.reset()


async def reset_in_the_reply(client: Client) -> None:
    await welcome(client)
    await client.expect(CONNECT)
    client.reset()


async def unknown_address_type(client: Client) -> None:
    await welcome(client)
    await client.expect(CONNECT)
    await client.say(b"\x05\x00\x00\x09")
    await client.until_end()


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        (wrong_protocol, "does not speak its protocol: the first byte is 72, not 5"),
        (method_not_offered, "chose method 1, which was not offered"),
        (end_at_once, "hung up"),
        (end_in_the_reply, "hung up"),
        (reset_at_once, "hung up"),
        (reset_in_the_reply, "hung up"),
        (unknown_address_type, "address type 9 is none of SOCKS5"),
    ],
)
async def test_broken_proxy_is_a_proxy_error(script: Script, complaint: str) -> None:
    async with scripted(script) as proxy:
        with pytest.raises(ProxyError, match=complaint) as caught:
            await SocksDialer(proxy).open_stream(SOMEWHERE)
        assert f"socks5://{proxy}" in str(caught.value)


async def hang_after_the_greeting(client: Client) -> None:
    await welcome(client)
    await client.until_end()


@pytest.mark.parametrize(("script", "kind"), [(hang, ProxyError), (hang_after_the_greeting, DialTimeout)])
async def test_silent_proxy_is_to_blame_until_it_has_to_reach_the_destination(
    script: Script, kind: type[Exception]
) -> None:
    async with scripted(script) as proxy:
        dialer = SocksDialer(proxy, handshake_timeout=0.05, answer_timeout=0.05)
        with pytest.raises(kind, match=r"within 0\.05 s"):
            await dialer.open_stream(SOMEWHERE)


async def test_proxy_whose_machine_is_silent_is_to_blame() -> None:
    with silent_port() as proxy, pytest.raises(ProxyError, match="did not answer within"):
        await SocksDialer(proxy, handshake_timeout=0.05).start()


async def test_proxy_that_is_down_says_so_before_anything_starts() -> None:
    with closed_port() as proxy:
        for attempt in (SocksDialer(proxy).start(), SocksDialer(proxy).open_stream(SOMEWHERE)):
            with pytest.raises(ProxyError, match="the proxy refuses connections; is it running"):
                await attempt


async def test_proxy_whose_name_is_unknown_says_so() -> None:
    with pytest.raises(ProxyError, match=r"cannot reach the proxy: no-such\.invalid: no such name"):
        await SocksDialer(Target("no-such.invalid", 1080)).start()


async def test_cancelling_hangs_up() -> None:
    asked, ended = asyncio.Event(), asyncio.Event()

    async def script(client: Client) -> None:
        await welcome(client)
        await client.expect(CONNECT)
        asked.set()
        assert await client.until_end() == b""
        ended.set()

    async with scripted(script) as proxy:
        dial = asyncio.ensure_future(SocksDialer(proxy).open_stream(SOMEWHERE))
        await asked.wait()
        dial.cancel()
        await ended.wait()
        with pytest.raises(asyncio.CancelledError):
            await dial


@pytest.mark.parametrize("name", ["a" * 256, "bücher.test", ""])
async def test_name_that_socks_cannot_carry_is_unreachable(name: str) -> None:
    with closed_port() as proxy, pytest.raises(DialUnreachable):
        await SocksDialer(proxy).open_stream(Target(name, 80))


async def test_errors_of_the_destination_come_through_a_real_proxy() -> None:
    async with SocksServer() as server:
        dialer = SocksDialer(Target(server.host, server.port))
        with closed_port() as target, pytest.raises(DialRefused):
            await dialer.open_stream(target)
        with pytest.raises(DialUnreachable) as caught:
            await dialer.open_stream(Target("255.255.255.255", 80))
        assert caught.value.reach is Reach.NETWORK
        with pytest.raises(DialUnreachable):
            await dialer.open_stream(Target("no-such.invalid", 80))
