"""The SOCKS5 server of the tests and the demo, asked by curl and by hand."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator

import pytest

from tests.dial.scripted import Client, arrived, at, closed_port, scripted, udp_socket
from tunsmith.flow import Target
from tunsmith.testing.socks_server import SocksServer
from tunsmith.wire import socks5
from tunsmith.wire.socks5 import Command, Method, Reply

PAGE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"


@pytest.fixture
async def web() -> AsyncIterator[Target]:
    async def script(client: Client) -> None:
        await client.head()
        await client.say(PAGE)

    async with scripted(script) as target:
        yield target


async def curl(*arguments: str) -> tuple[int, str]:
    if not shutil.which("curl"):
        pytest.skip("needs curl")
    process = await asyncio.create_subprocess_exec(
        "curl",
        "-sS",
        "-m",
        "10",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_curl_gets_a_page_by_name(web: Target, host: str) -> None:
    async with SocksServer(host, hosts={"page.test": web.host}) as server:
        proxy = str(Target(server.host, server.port))
        assert await curl("--socks5-hostname", proxy, f"http://page.test:{web.port}/") == (0, "hello")
        assert server.names == ["page.test"]


async def test_curl_must_know_the_password(web: Target) -> None:
    async with SocksServer(credentials=(b"joe", b"p")) as server:
        for user, code in (("joe:p", 0), ("joe:q", 97), ("", 97)):
            options = ("--proxy-user", user) if user else ()
            got, _ = await curl("--socks5", f"127.0.0.1:{server.port}", *options, f"http://{web}/")
            assert got == code


async def test_curl_is_told_why(web: Target) -> None:
    async with SocksServer() as server:
        with closed_port() as target:
            code, output = await curl("--socks5", f"127.0.0.1:{server.port}", f"http://{target}/")
        assert code == 97
        assert "(5)" in output


async def exchange(server: SocksServer, *messages: bytes) -> bytes:
    """Say `messages` one after the other; all the server says until it hangs up."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    for message in messages:
        writer.write(message)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


HELLO = socks5.greeting(Method.NONE)
WELCOME = socks5.choice(Method.NONE)


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (socks5.request(Command.BIND, "127.0.0.1", 1), Reply.COMMAND_UNSUPPORTED),
        (b"\x05\x01\x00\x02", Reply.ADDRESS_TYPE_UNSUPPORTED),
        (socks5.request(Command.CONNECT, "255.255.255.255", 1), Reply.NETWORK_UNREACHABLE),
        (socks5.request(Command.CONNECT, "no-such.invalid", 1), Reply.HOST_UNREACHABLE),
    ],
)
async def test_refusals_bear_their_code(request_: bytes, reply: Reply) -> None:
    async with SocksServer() as server:
        assert await exchange(server, HELLO, request_) == WELCOME + socks5.reply(reply)


@pytest.mark.parametrize("nonsense", [b"", b"GET / HTTP/1.1\r\n\r\n", HELLO + b"\x04", HELLO[:1]])
async def test_nonsense_ends_the_conversation_and_nothing_else(nonsense: bytes, web: Target) -> None:
    async with SocksServer() as server:
        assert await exchange(server, nonsense) in (b"", WELCOME)
        assert await curl("--socks5", f"127.0.0.1:{server.port}", f"http://{web}/") == (0, "hello")


async def test_clients_beyond_the_limit_are_turned_away(web: Target) -> None:
    async with SocksServer(limit=1) as server:
        _, holder = await asyncio.open_connection(server.host, server.port)
        assert await exchange(server) == b""
        holder.close()
        await holder.wait_closed()


async def test_reset_of_the_destination_reaches_the_client() -> None:
    async def reset(client: Client) -> None:
        await client.expect(b"go")
        client.reset()

    async with scripted(reset) as target, SocksServer() as server:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(HELLO + socks5.request(Command.CONNECT, target.host, target.port) + b"go")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


async def test_datagrams_of_other_clients_are_not_forwarded() -> None:
    async with SocksServer() as server:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(HELLO + socks5.request(Command.UDP_ASSOCIATE, "0.0.0.0", 0))
        await reader.readexactly(len(WELCOME))
        parsed = socks5.parse_reply(await reader.readexactly(10))
        assert parsed is not None
        relay = parsed[0][1]
        with udp_socket() as peer, udp_socket() as client, udp_socket("127.0.0.2") as stranger:
            header = socks5.datagram_header(at(peer).host, at(peer).port)
            stranger.sendto(header + b"forged", relay)
            client.sendto(header + b"true", relay)
            assert (await arrived(peer))[0] == b"true"
        writer.close()
        await writer.wait_closed()
