"""UDP straight from this machine, over the real loopback."""

from __future__ import annotations

import errno
import socket

import pytest

from tests.dial.scripted import arrived, at, datagrams_of, put_elsewhere, readable, received, udp_socket
from tunsmith.dial.base import DatagramFault
from tunsmith.dial.direct import DirectDialer
from tunsmith.dial.udp import HELD, MAX_SEGMENTS, UDP_SEGMENT
from tunsmith.flow import Target

HOSTS = pytest.mark.parametrize("host", ["127.0.0.1", "::1"])


def family(host: str) -> int:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


@pytest.fixture
async def datagrams(host: str):
    opened = await DirectDialer().open_datagrams(family(host))
    yield opened
    opened.close()
    opened.close()


@pytest.fixture
def host() -> str:
    return "127.0.0.1"


@HOSTS
async def test_peers_see_one_port_whoever_they_are__rfc4787_4_1(host: str, datagrams) -> None:
    with udp_socket(host) as one, udp_socket(host) as other:
        for peer in (one, other, one):
            datagrams.send([b"hello ", b"you"], 0, at(peer))
        first, ours = await arrived(one)
        assert first == b"hello you"
        assert await arrived(other) == (b"hello you", ours)
        assert await arrived(one) == (b"hello you", ours)


@HOSTS
async def test_anyone_may_answer(host: str, datagrams) -> None:
    with udp_socket(host) as one, udp_socket(host) as stranger:
        datagrams.send([b"?"], 0, at(one))
        _, ours = await arrived(one)
        stranger.sendto(b"psst", (ours.host, ours.port))
        assert await received(datagrams) == (b"psst", 0, at(stranger))
        one.sendto(b"", (ours.host, ours.port))
        assert await received(datagrams) == (b"", 0, at(one))
        with pytest.raises(BlockingIOError):
            datagrams.receive()


@HOSTS
@pytest.mark.parametrize("sizes", [[1200], [1200, 1200], [1200, 1200, 7], [300, 500, 400, 1]])
async def test_batch_is_cut_every_segment_size(host: str, sizes: list[int], datagrams) -> None:
    parts = [bytes((i,)) * size for i, size in enumerate(sizes)]
    whole = b"".join(parts)
    with udp_socket(host) as peer:
        datagrams.send([memoryview(part) for part in parts], 1200, at(peer))
        for start in range(0, len(whole), 1200):
            assert (await arrived(peer))[0] == whole[start : start + 1200]


@HOSTS
async def test_batch_of_more_segments_than_the_kernel_takes_is_sent_all_the_same(
    host: str, datagrams
) -> None:
    count = MAX_SEGMENTS * 2 + 1
    with udp_socket(host) as peer:
        datagrams.send([bytes(range(count))], 1, at(peer))
        assert [(await arrived(peer))[0] for _ in range(count)] == [bytes((i,)) for i in range(count)]


@HOSTS
async def test_run_of_equal_datagrams_arrives_as_one(host: str, datagrams) -> None:
    with udp_socket(host) as peer:
        datagrams.send([b"?"], 0, at(peer))
        _, ours = await arrived(peer)
        peer.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000)
        peer.sendto(b"x" * 4500, (ours.host, ours.port))
        got: list[bytes] = []
        while sum(map(len, got)) < 4500:
            got += datagrams_of(await received(datagrams))
        assert [len(datagram) for datagram in got] == [1000, 1000, 1000, 1000, 500]


@pytest.mark.parametrize(("host", "icmp"), [("127.0.0.1", (3, 3)), ("::1", (1, 4))])
async def test_closed_port_is_told_with_its_icmp_error(host: str, icmp: tuple[int, int], datagrams) -> None:
    with udp_socket(host) as gone:
        closed = at(gone)
    datagrams.send([b"?"], 0, closed)
    await readable(datagrams.fileno())
    assert list(datagrams.faults()) == [DatagramFault(closed, errno.ECONNREFUSED, *icmp)]
    assert list(datagrams.faults()) == []


@HOSTS
async def test_fault_of_one_peer_does_not_disturb_the_others(host: str, datagrams) -> None:
    """The kernel reports the pending errno to whatever call comes next."""
    with udp_socket(host) as gone:
        closed = at(gone)
    with udp_socket(host) as peer:
        datagrams.send([b"?"], 0, closed)
        datagrams.send([b"one"], 0, at(peer))
        datagrams.send([b"?"], 0, closed)
        datagrams.send([b"two", b"tri"], 3, at(peer))
        datagrams.send([b"?"], 0, closed)
        got = [await arrived(peer) for _ in range(3)]
        assert [data for data, _ in got] == [b"one", b"two", b"tri"]
        ours = got[0][1]
        peer.sendto(b"answer", (ours.host, ours.port))
        assert await received(datagrams) == (b"answer", 0, at(peer))
        assert [fault.target for fault in datagrams.faults()] == [closed] * 3


async def test_socket_that_fails_for_good_is_given_up(datagrams) -> None:
    """Errors of single datagrams are passed over, but not for ever."""
    put_elsewhere(datagrams.fileno())
    with pytest.raises(OSError, match="Socket operation on non-socket"):
        datagrams.receive()


async def test_datagram_too_large_for_ip_is_an_error_of_its_own(host: str, datagrams) -> None:
    with udp_socket(host) as peer:
        with pytest.raises(OSError, match="too long") as caught:
            datagrams.send([bytes(65508)], 0, at(peer))
        assert caught.value.errno == errno.EMSGSIZE
        datagrams.send([bytes(65507)], 0, at(peer))
        assert len((await arrived(peer))[0]) == 65507


async def test_peer_of_the_other_family_is_refused(host: str, datagrams) -> None:
    with pytest.raises(OSError, match="family") as caught:
        datagrams.send([b"x"], 0, Target("::1", 9))
    assert caught.value.errno == errno.EAFNOSUPPORT


async def test_name_is_looked_up_once_and_answers_bear_it(host: str, datagrams) -> None:
    with udp_socket(host) as peer:
        name = Target("localhost", at(peer).port)
        datagrams.send([b"one"], 0, name)
        datagrams.send([b"two", b"tri"], 3, Target("localhost", at(peer).port))
        got = [await arrived(peer) for _ in range(3)]
        assert [data for data, _ in got] == [b"one", b"two", b"tri"]
        datagrams.send([b"four"], 0, name)
        data, ours = await arrived(peer)
        assert data == b"four"
        peer.sendto(b"answer", (ours.host, ours.port))
        assert await received(datagrams) == (b"answer", 0, name)


async def test_what_waits_for_a_name_is_bounded(host: str, datagrams) -> None:
    with udp_socket(host) as peer:
        name = Target("localhost", at(peer).port)
        for number in range(HELD * 2):
            datagrams.send([bytes((number,))], 0, name)
        assert [(await arrived(peer))[0] for _ in range(HELD)] == [bytes((n,)) for n in range(HELD)]
        datagrams.send([b"next"], 0, name)
        assert (await arrived(peer))[0] == b"next"


async def test_closing_while_a_name_is_looked_up() -> None:
    datagrams = await DirectDialer().open_datagrams(socket.AF_INET)
    datagrams.send([b"?"], 0, Target("localhost", 9))
    datagrams.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        datagrams.receive()
