"""What the kernel does to our sockets, in a network made for the purpose."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from ipaddress import ip_address

import pytest

from tests.dial.scripted import arrived, at, udp_socket
from tunsmith.dial.direct import DirectDialer
from tunsmith.dial.escape import Escape
from tunsmith.dial.socks import SocksDialer
from tunsmith.errors import DialError, DialProhibited, DialUnreachable, Reach
from tunsmith.flow import Target
from tunsmith.testing.socks_server import SocksServer

pytestmark = pytest.mark.netns

Ip = Callable[..., None]

FAR = {4: "198.51.100.1", 6: "2001:db8:100::1"}
VERSIONS = pytest.mark.parametrize("version", [4, 6])
_ETH_P_ALL = 3

FIRST_WAY = """\
link add d0 type veth peer name far0
link set far0 up
link set d0 arp off up
address add 192.0.2.1/25 dev d0
address add 2001:db8::1/64 dev d0 nodad
route add default dev d0 metric 100
route add ::/0 dev d0 metric 100
"""
SECOND_WAY = """\
link add d1 type veth peer name far1
link set far1 up
link set d1 arp off up
address add 192.0.2.129/25 dev d1
address add 2001:db8:1::1/64 dev d1 nodad
route add default dev d1 metric 200
route add ::/0 dev d1 metric 200
"""


class Watcher:
    """Sees the packets that leave by one interface."""

    def __init__(self, interface: str) -> None:
        self._sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL))
        self._sock.bind((interface, _ETH_P_ALL))
        self._sock.setblocking(False)

    def destinations(self) -> Iterator[str]:
        """Where the packets so far went."""
        with contextlib.suppress(BlockingIOError):
            while True:
                packet = self._sock.recv(65536)
                yield str(ip_address(packet[16:20] if packet[0] >> 4 == 4 else packet[24:40]))

    def close(self) -> None:
        self._sock.close()


@pytest.fixture
def ways(private_network: Ip) -> Iterator[tuple[Watcher, Watcher]]:
    """Two interfaces, d0 and d1, each with a default route; d0's is the better."""
    private_network(FIRST_WAY + SECOND_WAY)
    watchers = Watcher("d0"), Watcher("d1")
    yield watchers
    for watcher in watchers:
        watcher.close()


async def knock(dialer: DirectDialer, target: Target) -> None:
    """Send a SYN nobody answers."""
    dial = asyncio.ensure_future(dialer.open_stream(target))
    await asyncio.sleep(0)
    dial.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dial


async def shout(dialer: DirectDialer, target: Target) -> None:
    """Send a datagram nobody answers."""
    datagrams = await dialer.open_datagrams(socket.AF_INET6 if ":" in target.host else socket.AF_INET)
    datagrams.send([b"?"], 0, target)
    datagrams.close()


@VERSIONS
@pytest.mark.parametrize("send", [knock, shout])
async def test_pinned_sockets_leave_by_their_interface_whatever_the_routes_say(
    ways: tuple[Watcher, Watcher], version: int, send: Callable[[DirectDialer, Target], asyncio.Future[None]]
) -> None:
    await send(DirectDialer(), Target(FAR[version], 80))
    assert [FAR[version] in watcher.destinations() for watcher in ways] == [True, False]
    await send(DirectDialer(Escape("d1")), Target(FAR[version], 80))
    assert [FAR[version] in watcher.destinations() for watcher in ways] == [False, True]


@VERSIONS
@pytest.mark.parametrize("send", [knock, shout])
async def test_marked_sockets_go_where_the_rule_for_the_mark_says(
    ways: tuple[Watcher, Watcher],
    private_network: Ip,
    version: int,
    send: Callable[[DirectDialer, Target], asyncio.Future[None]],
) -> None:
    far = FAR[version]
    rule = f"rule add to {far} fwmark 0x40/0xc0 lookup 77"
    private_network(f"route add {far} dev d1 table 77\n{rule}", f"-{version}")
    await send(DirectDialer(Escape(mark=0x40)), Target(far, 80))
    assert [far in watcher.destinations() for watcher in ways] == [False, True]


async def test_interface_that_comes_back_is_used_again(
    ways: tuple[Watcher, Watcher], private_network: Ip
) -> None:
    dialer = DirectDialer(Escape("d1"))
    private_network("link del d1")
    with pytest.raises(DialUnreachable) as caught:
        await dialer.open_stream(Target(FAR[4], 80))
    assert caught.value.reach is Reach.NETWORK
    private_network(SECOND_WAY)
    again = Watcher("d1")
    await knock(dialer, Target(FAR[4], 80))
    assert FAR[4] in again.destinations()
    again.close()


async def test_proxy_on_this_machine_is_reached_in_spite_of_the_pin(ways: tuple[Watcher, Watcher]) -> None:
    async with SocksServer() as server:
        dialer = SocksDialer(Target(server.host, server.port), escape=Escape("d1"))
        await dialer.start()
        datagrams = await dialer.open_datagrams(socket.AF_INET)
        with udp_socket() as peer:
            datagrams.send([b"hello"], 0, at(peer))
            assert (await arrived(peer))[0] == b"hello"
        datagrams.close()


@VERSIONS
@pytest.mark.parametrize(
    ("route", "kind", "reach"),
    [
        ("unreachable", DialUnreachable, Reach.HOST),
        ("prohibit", DialProhibited, None),
        ("blackhole", DialUnreachable, Reach.NETWORK),
        (None, DialUnreachable, Reach.NETWORK),
    ],
)
async def test_route_that_says_no_is_heard(
    private_network: Ip, version: int, route: str | None, kind: type[DialError], reach: Reach | None
) -> None:
    if route:
        private_network(f"route add {route} {FAR[version]}")
    with pytest.raises(kind) as caught:
        await DirectDialer().open_stream(Target(FAR[version], 80))
    assert getattr(caught.value, "reach", None) is reach


@VERSIONS
async def test_segments_above_the_mtu_are_sent_in_fragments(private_network: Ip, version: int) -> None:
    """UDP_SEGMENT refuses them; a program without tunsmith would have sent them one by one."""
    private_network("link set lo mtu 1400")
    host = "127.0.0.1" if version == 4 else "::1"
    with udp_socket(host) as peer:
        datagrams = await DirectDialer().open_datagrams(peer.family)
        datagrams.send([b"a" * 2000, b"b" * 2000, b"c"], 2000, at(peer))
        assert [(await arrived(peer))[0] for _ in range(3)] == [b"a" * 2000, b"b" * 2000, b"c"]
        assert list(datagrams.faults()) == [], "a refusal that was dealt with is no fault"
        datagrams.close()
