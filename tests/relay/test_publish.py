"""Published ports between real sockets on loopback and a stack whose frames are read by hand."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

import pytest

from tunsmith.config import Limits, Network, Publish
from tunsmith.errors import UsageError
from tunsmith.relay import publish_tcp, publish_udp
from tunsmith.relay.poller import Poller
from tunsmith.relay.publish import EPHEMERAL, Doorway, Publisher, Surroundings
from tunsmith.relay.report import FlowRecord
from tunsmith.relay.tcp import TcpRelay
from tunsmith.stack.stack import Stack
from tunsmith.stack.tcp.segments import reset_for
from tunsmith.wire.ip import IPV4, IPV6, IpFamily, parse_ip
from tunsmith.wire.tcp import SYN
from tunsmith.wire.vnet import VNET_HDR_LEN

NETWORK = Network()
INSIDE, GATEWAY = NETWORK.inside.packed, NETWORK.gateway.packed
CLIENT = bytes((192, 0, 2, 7))


class Bench:
    """Published ports and what they ask of the engine."""

    def __init__(self, *published: Publish, taken: frozenset[bytes] = frozenset()) -> None:
        loop = asyncio.get_running_loop()
        self.poller = Poller(loop)
        self.stack = Stack()
        self.relays: list[TcpRelay] = []
        self.ended: list[FlowRecord] = []
        self.drops: Counter[str] = Counter()
        around = Surroundings(
            loop,
            self.poller,
            self.stack,
            NETWORK,
            Limits(),
            self.drops,
            time.monotonic,
            self.relays.append,
            lambda relay: self.ended.append(relay.record),
            self.ended.append,
            taken.__contains__,
        )
        self.publisher = Publisher(published, around)

    async def packet(self) -> tuple[IpFamily, bytes, bytes]:
        """The next packet to inside: family, flow key, and what follows the IP header."""
        await until(lambda: bool(self.stack.outbox))
        packet = self.stack.outbox.popleft()[VNET_HDR_LEN:]
        header = parse_ip(packet)
        payload = packet[header.header_length :]
        return header.family, header.source + header.destination + payload[:4], payload

    def refuse(self, family: IpFamily, key: bytes, payload: bytes) -> None:
        """The kernel inside answers a SYN with RST."""
        seq = int.from_bytes(payload[4:8], "big")
        frame = reset_for(family, key, seq, 0, SYN, 1)
        self.stack.receive(frame[VNET_HDR_LEN:], time.monotonic(), vnet=frame[:VNET_HDR_LEN])

    def close(self) -> None:
        self.publisher.close()
        for relay in self.relays:
            relay.abort("stopped")
        self.poller.close()


@pytest.fixture
async def benches() -> AsyncIterator[list[Bench]]:
    made: list[Bench] = []
    yield made
    for bench in made:
        bench.close()


async def until(ready: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not ready():  # noqa: ASYNC110 - there is nothing that would set an event
            await asyncio.sleep(0)


def free_port(kind: int = socket.SOCK_STREAM, host: str = "127.0.0.1") -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind) as sock:
        sock.bind((host, 0))
        return int(sock.getsockname()[1])


def tcp(port: int, host: str = "127.0.0.1") -> Publish:
    return Publish(host, port, 80, ("tcp",))


def udp(port: int, host: str = "127.0.0.1") -> Publish:
    return Publish(host, port, 53, ("udp",))


@contextmanager
def client(port: int, kind: int = socket.SOCK_STREAM, host: str = "127.0.0.1") -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind) as sock:
        sock.connect((host, port))
        sock.setblocking(False)
        yield sock


# --- how clients are seen ---


@pytest.mark.parametrize("address", [CLIENT, bytes((10, 0, 0, 1)), bytes((0x20, 1)) + bytes(13) + b"\1"])
def test_clients_are_seen_by_their_own_address_first(address: bytes) -> None:
    family = IPV4 if len(address) == 4 else IPV6
    assert next(Doorway(NETWORK).faces(family, address, 4711)) == (address, 4711)


@pytest.mark.parametrize(
    "address",
    [
        bytes((127, 0, 0, 1)),
        bytes(4),
        NETWORK.inside.packed,
        NETWORK.gateway.packed,
        bytes(15) + b"\1",
        b"\xfe\x80" + bytes(13) + b"\1",
        NETWORK.inside6.packed,
    ],
    ids=["loopback", "zero", "inside", "gateway", "loopback6", "link-local", "inside6"],
)
def test_clients_whose_answers_would_not_come_our_way_are_seen_as_the_gateway(address: bytes) -> None:
    family = IPV4 if len(address) == 4 else IPV6
    gateway = NETWORK.gateway if family is IPV4 else NETWORK.gateway6
    faces = list(Doorway(NETWORK).faces(family, address, 4711))
    assert {address for address, _ in faces} == {gateway.packed}
    assert len({port for _, port in faces}) == len(faces) > 1


# --- listening ---


async def test_without_an_address_both_versions_listen(benches: list[Bench]) -> None:
    port = free_port(host="::")
    benches.append(Bench(tcp(port, "")))
    for host in ("127.0.0.1", "::1"):
        with client(port, host=host):
            pass


async def test_without_ipv6_the_rest_listens(benches: list[Bench], monkeypatch: pytest.MonkeyPatch) -> None:
    make = socket.socket

    def without_ipv6(family: int, kind: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        return make(family, kind)

    port = free_port()
    with monkeypatch.context() as patch:
        patch.setattr("tunsmith.relay.publish.socket.socket", without_ipv6)
        benches.append(Bench(tcp(port, "")))
    with client(port):
        pass


async def test_a_failure_opens_nothing(benches: list[Bench]) -> None:
    before = os.listdir("/proc/self/fd")
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with pytest.raises(UsageError, match=rf"--publish: tcp 127\.0\.0\.1:{taken}: the port is in use"):
            Bench(tcp(port), tcp(taken)).close()
    with socket.create_server(("127.0.0.1", port)):
        pass
    assert len(os.listdir("/proc/self/fd")) <= len(before) + 1  # the poller of a bench that was never made


# --- TCP ---


async def test_a_refusal_inside_is_tried_by_the_other_version_and_then_told(benches: list[Bench]) -> None:
    port = free_port()
    benches.append(bench := Bench(tcp(port)))
    with client(port) as sock:
        seen = []
        for _ in range(2):
            family, key, payload = await bench.packet()
            source, _, destination, inner = family.split(key)
            seen.append((family, source, destination, inner))
            bench.refuse(family, key, payload)
        assert seen == [
            (IPV4, GATEWAY, INSIDE, 80),
            (IPV6, NETWORK.gateway6.packed, NETWORK.inside6.packed, 80),
        ]
        with pytest.raises(ConnectionResetError):
            await asyncio.get_running_loop().sock_recv(sock, 1)
    (record,) = bench.ended
    assert (record.outcome, record.rule, str(record.target)) == (
        "connection refused",
        "publish",
        "198.18.0.1:80",
    )


async def test_no_byte_of_the_client_is_read_before_the_server_accepts(benches: list[Bench]) -> None:
    port = free_port()
    benches.append(bench := Bench(tcp(port)))
    with client(port) as sock:
        sock.send(b"early")
        _, _, payload = await bench.packet()
        (relay,) = bench.relays
        assert payload[13] == SYN
        assert relay.record.down == 0


async def test_without_descriptors_accepting_pauses_and_goes_on(
    benches: list[Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish_tcp, "PAUSE", 0.01)
    port = free_port()
    benches.append(bench := Bench(tcp(port)))
    with client(port), no_descriptors():
        await until(lambda: bench.drops["publish_accept_failed"] > 0)
    assert bench.drops["publish_accept_failed"] == 1
    await until(lambda: bool(bench.relays))


@contextmanager
def no_descriptors() -> Iterator[None]:
    free = os.dup(0)
    os.close(free)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# --- UDP ---


async def test_datagrams_and_answers_keep_to_their_client(benches: list[Bench]) -> None:
    port = free_port(socket.SOCK_DGRAM)
    benches.append(bench := Bench(udp(port)))
    with client(port, socket.SOCK_DGRAM) as one, client(port, socket.SOCK_DGRAM) as other:
        keys = []
        for sock in (one, other):
            sock.send(b"question")
            family, key, payload = await bench.packet()
            assert (family, payload[8:]) == (IPV4, b"question")
            keys.append(key)
        assert keys[0] != keys[1]
        for sock, key in ((other, keys[1]), (one, keys[0])):
            assert bench.publisher.on_datagram(IPV4.swap(key), memoryview(b"answer"), 0)
            assert sock.recv(100) == b"answer"


async def test_datagrams_along_other_keys_are_not_ours(benches: list[Bench]) -> None:
    port = free_port(socket.SOCK_DGRAM)
    benches.append(bench := Bench(udp(port)))
    key = IPV4.key(INSIDE, 53, CLIENT, 4711)
    assert not bench.publisher.on_datagram(key, memoryview(b"x"), 0)


async def test_ends_the_application_uses_itself_are_not_taken(benches: list[Bench]) -> None:
    port = free_port(socket.SOCK_DGRAM)
    taken = frozenset({IPV4.key(INSIDE, 53, GATEWAY, EPHEMERAL[0])})
    benches.append(bench := Bench(udp(port), taken=taken))
    with client(port, socket.SOCK_DGRAM) as sock:
        sock.send(b"x")
        _, key, _ = await bench.packet()
        assert IPV4.split(key)[:2] == (GATEWAY, EPHEMERAL[1])


async def test_clients_are_bounded_and_the_longest_silent_makes_room(
    benches: list[Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish_udp, "CALLERS", 2)
    port = free_port(socket.SOCK_DGRAM)
    benches.append(bench := Bench(udp(port)))
    with (
        client(port, socket.SOCK_DGRAM) as first,
        client(port, socket.SOCK_DGRAM) as second,
        client(port, socket.SOCK_DGRAM) as third,
    ):
        keys = []
        for sock in (first, second, first, third):
            sock.send(b"x")
            keys.append((await bench.packet())[1])
    assert [record.outcome for record in bench.ended] == ["evicted"]
    assert bench.publisher.on_datagram(IPV4.swap(keys[0]), memoryview(b""), 0)
    assert not bench.publisher.on_datagram(IPV4.swap(keys[1]), memoryview(b""), 0)


async def test_idle_clients_are_forgotten_by_their_kind(benches: list[Bench]) -> None:
    port = free_port(socket.SOCK_DGRAM)
    benches.append(bench := Bench(udp(port)))
    with client(port, socket.SOCK_DGRAM) as one_way, client(port, socket.SOCK_DGRAM) as two_way:
        one_way.send(b"x")
        await bench.packet()
        two_way.send(b"x")
        _, key, _ = await bench.packet()
        bench.publisher.on_datagram(IPV4.swap(key), memoryview(b"y"), 0)
    now = time.monotonic()
    limits = Limits()
    bench.publisher.expire(now + limits.udp_one_shot)
    assert [record.up for record in bench.ended] == [0]
    bench.publisher.expire(now + limits.udp_two_way)
    assert [record.up for record in bench.ended] == [0, 1]
