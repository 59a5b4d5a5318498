"""UDP through SOCKS5 proxies, well-behaved and not."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dial.scripted import (
    Client,
    Script,
    arrived,
    at,
    datagrams_of,
    put_elsewhere,
    readable,
    received,
    scripted,
    udp_socket,
)
from tunsmith.dial.base import Datagrams
from tunsmith.dial.socks import SocksDialer
from tunsmith.dial.socks_udp import SocksDatagrams
from tunsmith.dial.udp import MAX_SEGMENTS, UDP_SEGMENT
from tunsmith.errors import DialError, DialProhibited, DialUnsupported, ProxyError, ProxySilent
from tunsmith.flow import Target
from tunsmith.testing.socks_server import SocksServer
from tunsmith.wire import socks5
from tunsmith.wire.socks5 import Reply

ASSOCIATE = b"\x05\x03\x00\x01" + bytes(6)
V4 = socket.AF_INET


@asynccontextmanager
async def associated(
    bound: Target | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[tuple[SocksDatagrams, socket.socket, asyncio.Event]]:
    """An association whose relay is the socket yielded; setting the event ends it. `bound`: what the proxy
    claims to have bound, with port 0 standing for the relay's."""
    over = asyncio.Event()
    with udp_socket(host) as relay:

        async def script(client: Client) -> None:
            await client.expect(b"\x05\x01\x00")
            await client.say(b"\x05\x00")
            await client.expect(ASSOCIATE)
            claim = bound or at(relay)
            await client.say(socks5.reply(Reply.SUCCEEDED, claim.host, claim.port or at(relay).port))
            await over.wait()

        async with scripted(script, host) as proxy:
            datagrams = await SocksDialer(proxy).open_datagrams(V4)
            assert isinstance(datagrams, SocksDatagrams)
            try:
                yield datagrams, relay, over
            finally:
                over.set()
                datagrams.close()


async def greeted(datagrams: Datagrams, relay: socket.socket) -> tuple[str, int]:
    """Where the relay sees the client."""
    datagrams.send([b"hello"], 0, Target("192.0.2.9", 9))
    data, client = await arrived(relay)
    assert data == socks5.datagram_header("192.0.2.9", 9) + b"hello"
    return client.host, client.port


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_one_association_reaches_both_families_and_names(host: str) -> None:
    async with SocksServer(host, hosts={"name.test": "127.0.0.1"}) as server:
        dialer = SocksDialer(Target(server.host, server.port))
        await dialer.start()
        datagrams = await dialer.open_datagrams(V4)
        assert dialer.carries_udp
        with udp_socket("127.0.0.1") as four, udp_socket("::1") as six, udp_socket("127.0.0.1") as named:
            name = Target("name.test", at(named).port)
            for peer, target in ((four, at(four)), (six, at(six)), (named, name)):
                datagrams.send([b"to ", target.host.encode()], 0, target)
                data, relay = await arrived(peer)
                assert data == b"to " + target.host.encode()
                peer.sendto(b"answer", (relay.host, relay.port))
                assert await received(datagrams) == (b"answer", 0, at(peer))
        assert server.names == ["name.test"]
        datagrams.close()
        datagrams.close()


async def test_peers_see_one_port_and_anyone_may_answer__rfc4787_4_1() -> None:
    async with SocksServer() as server:
        datagrams = await SocksDialer(Target(server.host, server.port)).open_datagrams(V4)
        with udp_socket() as one, udp_socket() as other, udp_socket() as stranger:
            datagrams.send([b"?"], 0, at(one))
            datagrams.send([b"?"], 0, at(other))
            _, seen = await arrived(one)
            assert (await arrived(other))[1] == seen
            stranger.sendto(b"psst", (seen.host, seen.port))
            assert await received(datagrams) == (b"psst", 0, at(stranger))
        datagrams.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "127.0.0.1", "localhost", "::ffff:127.0.0.1"])
async def test_bound_address_in_every_dress(host: str) -> None:
    """0.0.0.0 and :: mean the proxy's own address."""
    async with associated(Target(host, 0)) as (datagrams, relay, _):
        await greeted(datagrams, relay)


async def test_ipv6_proxy_that_binds_any_address() -> None:
    async with associated(Target("::", 0), "::1") as (datagrams, relay, _):
        await greeted(datagrams, relay)


async def test_datagram_carries_its_header_and_so_does_every_segment() -> None:
    async with associated() as (datagrams, relay, _):
        header = socks5.datagram_header("192.0.2.1", 53)
        datagrams.send([memoryview(b"a"), memoryview(b"b")], 0, Target("192.0.2.1", 53))
        assert (await arrived(relay))[0] == header + b"ab"
        datagrams.send([b"x" * 150, b"y" * 60], 100, Target("192.0.2.1", 53))
        whole = b"x" * 150 + b"y" * 60
        for start in (0, 100, 200):
            assert (await arrived(relay))[0] == header + whole[start : start + 100]


@pytest.mark.parametrize(("size", "count"), [(1, MAX_SEGMENTS * 2 + 1), (1200, 54), (1400, 46), (9000, 7)])
async def test_batch_of_any_shape_is_sent_whole(size: int, count: int) -> None:
    name = "n" * 200 + ".test"
    header = socks5.datagram_header(name, 53)
    async with associated() as (datagrams, relay, _):
        relay.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 21)
        whole = bytes(index % 251 for index in range(size * count - size // 2))
        datagrams.send([whole], size, Target(name, 53))
        got = b""
        for _ in range(count):
            data, _ = await arrived(relay)
            assert data.startswith(header)
            got += data[len(header) :]
        assert got == whole


peers = st.sampled_from(["192.0.2.1", "2001:db8::1", "a.test"])


@given(st.lists(st.tuples(peers, st.integers(0, 255)), min_size=1, max_size=MAX_SEGMENTS))
def test_coalesced_datagrams_are_freed_of_their_headers_peer_by_peer(sent: list[tuple[str, int]]) -> None:
    """Whatever the kernel coalesces (equal sizes but for the last), each payload comes out once, in order."""
    size = 60
    messages = [socks5.datagram_header(host, 53).ljust(size, bytes((payload,))) for host, payload in sent]
    expected = [
        (Target(host, 53), message[len(socks5.datagram_header(host, 53)) :])
        for (host, _), message in zip(sent, messages, strict=True)
    ]

    async def run() -> list[tuple[Target, bytes]]:
        async with associated() as (datagrams, relay, _):
            client = await greeted(datagrams, relay)
            relay.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, size)
            relay.sendto(b"".join(messages), client)
            got: list[tuple[Target, bytes]] = []
            while len(got) < len(messages):
                batch = await received(datagrams)
                got += [(batch[2], datagram) for datagram in datagrams_of(batch)]
            return got

    assert asyncio.run(run()) == expected


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (b"\0\0\x01\x01\xc0\0\x02\x01\0\x35fragment", "fragment"),
        (b"\0\0\0\x02\xc0\0\x02\x01\0\x35what", "address type"),
        (b"\0\0\0\x01\xc0\0\x02", "short"),
        (b"\0\0\0\x03\xffa.test\0\x35", "short"),
        (b"\0\0\0\x03\x02\xc3\xbc\0\x35x", "name"),
        (b"", "short"),
    ],
)
async def test_malformed_datagram_is_dropped_and_counted_and_ends_nothing(message: bytes, cause: str) -> None:
    async with associated() as (datagrams, relay, _):
        client = await greeted(datagrams, relay)
        relay.sendto(message, client)
        relay.sendto(socks5.datagram_header("192.0.2.9", 9) + b"still here", client)
        assert await received(datagrams) == (b"still here", 0, Target("192.0.2.9", 9))
        assert datagrams.dropped == {cause: 1}


async def test_datagram_from_elsewhere_is_not_the_proxys() -> None:
    async with associated() as (datagrams, relay, _):
        client = await greeted(datagrams, relay)
        with udp_socket() as stranger:
            stranger.sendto(socks5.datagram_header("192.0.2.9", 9) + b"forged", client)
        relay.sendto(socks5.datagram_header("192.0.2.9", 9) + b"true", client)
        assert (await received(datagrams))[0] == b"true"


async def test_empty_datagram_is_a_datagram() -> None:
    async with associated() as (datagrams, relay, _):
        client = await greeted(datagrams, relay)
        relay.sendto(socks5.datagram_header("192.0.2.9", 9), client)
        assert await received(datagrams) == (b"", 0, Target("192.0.2.9", 9))


async def test_peer_is_whom_the_proxy_names__also_where_a_name_was_asked() -> None:
    async with associated() as (datagrams, relay, _):
        client = await greeted(datagrams, relay)
        name = Target("name.test", 443)
        datagrams.send([b"?"], 0, name)
        await arrived(relay)
        for peer in (Target("198.51.100.7", 443), name, Target("2001:db8::7", 443)):
            relay.sendto(socks5.datagram_header(peer.host, peer.port) + b"!", client)
            assert await received(datagrams) == (b"!", 0, peer)


async def test_one_peer_is_one_object() -> None:
    """The relay gathers by identity."""
    async with associated() as (datagrams, relay, _):
        client = await greeted(datagrams, relay)
        target = Target("192.0.2.1", 53)
        datagrams.send([b"?"], 0, target)
        await arrived(relay)
        for _ in range(2):
            relay.sendto(socks5.datagram_header("192.0.2.1", 53) + b"!", client)
            assert (await received(datagrams))[2] is target


@pytest.mark.parametrize("ending", ["close", "reset"])
async def test_association_dies_with_its_connection__rfc1928_7(ending: str) -> None:
    over = asyncio.Event()
    with udp_socket() as relay:

        async def script(client: Client) -> None:
            await client.expect(b"\x05\x01\x00")
            await client.say(b"\x05\x00")
            await client.expect(ASSOCIATE)
            await client.say(socks5.reply(Reply.SUCCEEDED, *relay.getsockname()))
            await over.wait()
            if ending == "reset":
                client.reset()

        async with scripted(script) as proxy:
            datagrams = await SocksDialer(proxy).open_datagrams(V4)
            client = await greeted(datagrams, relay)
            relay.sendto(socks5.datagram_header("192.0.2.9", 9) + b"last words", client)
            await readable(datagrams.fileno())
            over.set()
            assert await received(datagrams) == (b"last words", 0, Target("192.0.2.9", 9))
            with pytest.raises(EOFError):
                await received(datagrams)
            with pytest.raises(EOFError):
                datagrams.receive()
            datagrams.close()


async def test_relay_port_that_closes_does_not_end_the_association() -> None:
    """Its ICMP error says little; the TCP connection decides."""
    async with associated() as (datagrams, relay, over):
        await greeted(datagrams, relay)
        relay.close()
        for _ in range(3):
            datagrams.send([b"?"], 0, Target("192.0.2.9", 9))
        with pytest.raises(BlockingIOError):
            datagrams.receive()
        assert list(datagrams.faults()) == []
        over.set()
        with pytest.raises(EOFError):
            await received(datagrams)


async def test_socket_that_fails_for_good_is_given_up() -> None:
    async with associated() as (datagrams, _, _):
        put_elsewhere(datagrams.fileno())
        with pytest.raises(OSError, match="Socket operation on non-socket"):
            datagrams.receive()


async def test_peers_without_number_are_forgotten_not_kept() -> None:
    async with associated() as (datagrams, relay, _):
        client = await greeted(datagrams, relay)
        for number in range(3000):
            peer = Target(f"10.0.{number >> 8}.{number & 255}", 7)
            datagrams.send([b"?"], 0, peer)
            assert (await arrived(relay))[0].endswith(b"?")
            relay.sendto(socks5.datagram_header(peer.host, peer.port) + b"!", client)
            assert (await received(datagrams))[2] == peer
        assert len(datagrams._headers) <= 1024
        assert len(datagrams._peers) <= 1024


async def test_name_that_socks_cannot_carry_is_unreachable() -> None:
    async with associated() as (datagrams, _, _):
        with pytest.raises(OSError, match="cannot be a SOCKS5 domain name"):
            datagrams.send([b"?"], 0, Target("a" * 256, 1))


def refusing(code: int) -> Script:
    async def script(client: Client) -> None:
        await client.expect(b"\x05\x01\x00")
        await client.say(b"\x05\x00")
        await client.expect(ASSOCIATE)
        await client.say(bytes((5, code, 0, 1)) + bytes(6))

    return script


async def hang_up(client: Client) -> None:
    await client.expect(b"\x05\x01\x00")
    await client.say(b"\x05\x00")
    await client.expect(ASSOCIATE)


async def stay_silent(client: Client) -> None:
    await hang_up(client)
    await client.until_end()


@pytest.mark.parametrize("script", [refusing(7), refusing(2), refusing(1), hang_up])
async def test_proxy_without_udp_is_found_out_before_the_first_datagram(script: Script) -> None:
    async with scripted(script) as proxy:
        dialer = SocksDialer(proxy)
        await dialer.start()
        with pytest.raises(DialUnsupported, match="carries no UDP"):
            await dialer.open_datagrams(V4)
        assert not dialer.carries_udp


async def test_proxy_that_is_silent_about_udp_holds_up_udp_alone_and_is_blamed_for_it() -> None:
    async with scripted(stay_silent) as proxy:
        dialer = SocksDialer(proxy, handshake_timeout=0.2)
        await dialer.start()
        assert dialer.carries_udp, "nobody knows yet, and nobody waits"
        for _ in range(2):
            with pytest.raises(ProxySilent, match=r"no answer to UDP ASSOCIATE within 0\.2 s"):
                await dialer.open_datagrams(V4)
        assert not dialer.carries_udp


async def test_question_about_udp_ends_with_the_dialer() -> None:
    """Also where it has not even been asked yet."""
    hung_up = asyncio.Event()

    async def script(client: Client) -> None:
        await client.expect(b"\x05\x01\x00")
        await client.say(b"\x05\x00")
        await client.until_end()
        hung_up.set()

    async with scripted(script) as proxy:
        dialer = SocksDialer(proxy)
        await dialer.start()
        dialer.close()
        await hung_up.wait()


@pytest.mark.parametrize(("code", "kind"), [(7, DialUnsupported), (2, DialProhibited), (0, ProxyError)])
async def test_association_refused_later_is_the_flows_matter(code: int, kind: type[DialError]) -> None:
    """Code 0 with port 0: an association without a relay."""
    async with scripted(refusing(code)) as proxy:
        with pytest.raises(kind):
            await SocksDialer(proxy).open_datagrams(V4)


async def test_well_behaved_server_without_udp() -> None:
    async with SocksServer(udp=False) as server:
        dialer = SocksDialer(Target(server.host, server.port))
        await dialer.start()
        with pytest.raises(DialUnsupported):
            await dialer.open_datagrams(V4)
        assert not dialer.carries_udp
