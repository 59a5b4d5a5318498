"""Whatever arrives, the stack does not raise, counts what it drops, and stays small."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.stack.packets import FAMILIES, ping, udp_packet, with_ipv4_options
from tests.stack.tcp.peer import Peer
from tunsmith.stack.config import StackConfig
from tunsmith.stack.events import FlowRequested
from tunsmith.stack.stack import Stack
from tunsmith.stack.tcp.policy import Keepalive, Options
from tunsmith.wire.checksum import finish, ones_sum, pseudo_sum
from tunsmith.wire.icmp import IcmpError, build_error
from tunsmith.wire.ip import IPV4, IPV6
from tunsmith.wire.tcp import TcpOptions
from tunsmith.wire.vnet import VNET

CONFIG = StackConfig(
    receive_buffer=1 << 16,
    send_buffer=1 << 16,
    pending_limit=64,
    pending_per_source=64,
    connection_limit=64,
    time_wait=5.0,
    time_wait_limit=32,
)

OPTIONS = (
    Options(),
    Options(keepalive=Keepalive(0.1, 0.1, 3), ttl=3),
    Options(user_timeout=1.0, linger=0.5, mss=100),
    Options(cork=True, nodelay=False, path_mtu_discovery=False, fin_wait_2=0.1),
)


def seeds() -> list[bytes]:
    """One packet of every kind the stack knows."""
    packets: list[bytes] = []
    for family in FAMILIES:
        other = Peer(CONFIG, family=family)
        options = TcpOptions(mss=1400, window_scale=7, sack_permitted=True, timestamp=(1, 0))
        packets += [
            other.packet("S", 0, options=options),
            other.packet(".", 1),
            other.packet("P.", 1, b"text" * 50),
            other.packet("F.", 1),
            other.packet("R", 1),
            other.packet(".", 1, options=TcpOptions(sack=((5, 9), (20, 30)), timestamp=(2, 1))),
            udp_packet(family, b"query" * 20),
            ping(family, bytes(100)),
            build_error(
                family,
                other.source,
                other.destination,
                IcmpError.TOO_BIG,
                family.header(other.destination, other.source, 6, 60) + b"\0\x50\x9c\x40" + bytes(40),
                1280,
            ),
            family.header(other.source, other.destination, 132, 20) + bytes(20),
        ]
    packets.append(with_ipv4_options(udp_packet(IPV4, b"x"), b"\x44\x08\x05\0\0\0\0\0"))
    packets.append(
        IPV4.header(b"\x0a\0\0\x01", b"\x0a\0\0\x02", 17, 64, identification=5, fragment=0x2000) + bytes(64)
    )
    extensions = b"\x2c\0\x05\x02\0\0\x01\0" + b"\x11\0\0\x01\0\0\0\x07"
    packets.append(
        IPV6.header(b"\xfd" + bytes(15), b"\xfd" + bytes(14) + b"\x02", 60, 80) + extensions + bytes(64)
    )
    return packets


SEEDS = seeds()


def repaired(packet: bytearray) -> bytes:
    """`packet` with checksums that agree again, where it is still clear which those are: mutations are to
    get past the first check."""
    if len(packet) >= 20 and packet[0] >> 4 == 4:
        head = max(20, (packet[0] & 15) * 4)
        if head > len(packet):
            return bytes(packet)
        packet[10:12] = b"\0\0"
        packet[10:12] = finish(ones_sum(bytes(packet[:head]))).to_bytes(2, "big")
        protocol, addresses = packet[9], bytes(packet[12:20])
    elif len(packet) >= 40:
        head, protocol, addresses = 40, packet[6], bytes(packet[8:40])
    else:
        return bytes(packet)
    at = {6: 16, 17: 6, 1: 2, 58: 2}.get(protocol)
    if at is None or head + at + 2 > len(packet):
        return bytes(packet)
    packet[head + at : head + at + 2] = b"\0\0"
    total = ones_sum(bytes(packet[head:]))
    if protocol != 1:
        total += pseudo_sum(addresses, protocol, len(packet) - head)
    packet[head + at : head + at + 2] = finish(total).to_bytes(2, "big")
    return bytes(packet)


def mutated(random: Random) -> bytes:
    packet = bytearray(random.choice(SEEDS))
    for _ in range(random.choice([0, 1, 1, 2, 5])):
        where = random.randrange(len(packet))
        match random.randrange(4):
            case 0:
                packet[where] ^= 1 << random.randrange(8)
            case 1:
                packet[where] = random.choice([0, 1, 0x7F, 0x80, 0xFF])
            case 2:
                del packet[where:]
                if not packet:
                    return b""
            case 3:
                packet[where:where] = random.randbytes(random.randrange(1, 40))
    return repaired(packet) if random.random() < 0.8 else bytes(packet)


def act(stack: Stack, random: Random, now: float) -> None:
    """What an owner does with the events."""
    while (event := stack.poll_event()) is not None:
        if isinstance(event, FlowRequested):
            match random.randrange(5):
                case 0:
                    event.request.refuse(now)
                case 1:
                    event.request.unreachable(random.choice(list(IcmpError)), now)
                case 2:
                    event.request.drop()
                case _:
                    event.request.accept(None, now)
    for connection in list(stack.connections.values()):
        match random.randrange(20):
            case 0:
                connection.shutdown(now)
            case 1:
                connection.close(now)
            case 2:
                connection.abort(now)
            case 3:
                connection.read(1000, now)
            case 4 if not connection.sender.fin_queued:
                connection.send(bytes(random.randrange(5000)), now, more=random.random() < 0.2)
            case 5:
                connection.set_options(random.choice(OPTIONS), now)


def bounded(stack: Stack) -> None:
    """What peers can make the stack keep."""
    assert len(stack.requests) <= CONFIG.pending_limit
    assert sum(stack.requests_by_source.values()) == len(stack.requests)
    assert len(stack.connections) <= CONFIG.connection_limit + 1
    assert len(stack.time_waits.records) <= CONFIG.time_wait_limit
    assert stack.input.reassembler.used <= 1 << 20
    for connection in stack.connections.values():
        receiver = connection.receiver
        held = receiver.islands.held if receiver.islands else 0
        assert receiver.ready_bytes + held <= CONFIG.receive_buffer + 1
        assert connection.sender.unsent <= connection.sender.limit + 2 <= CONFIG.send_buffer_limit
    assert len(stack.drops) < 60


def storm(seed: int, packets: int) -> Stack:
    random = Random(seed)
    stack = Stack(CONFIG)
    listener = stack.listen(None, 80, backlog=2) if seed % 2 else None
    now = 1000.0
    for number in range(packets):
        now += random.choice([0.0, 0.0, 0.001, 0.05, 1.0])
        packet = mutated(random) if random.random() < 0.95 else random.randbytes(random.randrange(120))
        vnet = bytes(10)
        if random.random() < 0.1:
            vnet = VNET.pack(*(random.choice([0, 1, 2, 3, 5, 255]) for _ in range(2)), 0, 1200, 34, 16)
        stack.receive(packet, now, vnet=vnet)
        act(stack, random, now)
        if listener is not None and random.random() < 0.05:
            listener.accept(None, now)
        due = stack.next_deadline()
        if due is not None and due <= now:
            stack.handle_timeout(now)
            after = stack.next_deadline()
            assert after is None or after > now
        for frame in stack.frames_to_send():
            assert len(frame) > 30
        if number % 100 == 0:
            bounded(stack)
    bounded(stack)
    return stack


@pytest.mark.parametrize("seed", range(8))
def test_mutated_packets_never_raise_and_memory_stays_bounded(seed: int) -> None:
    stack = storm(seed, 1500)
    assert sum(stack.drops.values()) > 100


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 140))
def test_mutated_packets_at_length(seed: int) -> None:
    storm(seed, 10_000)


@given(st.binary(max_size=300), st.binary(min_size=10, max_size=10))
@settings(max_examples=300, deadline=None)
def test_random_bytes_never_raise(packet: bytes, vnet: bytes) -> None:
    stack = Stack(CONFIG)
    stack.receive(packet, 1.0, vnet=vnet)


@given(st.sampled_from(SEEDS), st.integers(0, 200))
@settings(deadline=None)
def test_a_packet_cut_anywhere_is_dropped_and_counted(packet: bytes, cut: int) -> None:
    stack = Stack(CONFIG)
    stack.receive(packet[: min(cut, len(packet) - 1)], 1.0)
    assert stack.poll_event() is None
    assert sum(stack.drops.values()) == 1


@given(st.integers(0, 2**32 - 1), st.integers(0, 10))
@settings(deadline=None)
def test_a_storm_on_a_conversation_never_raises(isn: int, seed: int) -> None:
    """Segments with plausible numbers, in every order, on one connection."""
    random = Random(seed * 2**32 + isn)
    other = Peer(CONFIG, isn=isn)
    other.stamp = 1000 if random.random() < 0.5 else None
    other.establish(
        options=TcpOptions(mss=1400, sack_permitted=True, timestamp=(1000, 0) if other.stamp else None)
    )
    for _ in range(60):
        other.now += random.choice([0.0, 0.01, 0.3])
        if other.stamp is not None:
            other.stamp += random.choice([0, 0, 1, 50, -5])
        flags = random.choice([".", ".", ".", "F.", "R", "S", "S.", "", "U."])
        seq = random.choice([0, 1, 1, 2, 100, 1000, 65_000, 70_000, -100])
        packet = other.packet(
            flags,
            seq,
            bytes(random.choice([0, 0, 1, 100, 1400])),
            ack=random.choice([0, 1, 1, 2, 1400, 100_000, -50]),
            window=random.choice([0, 1, 1000, 65535]),
        )
        other.stack.receive(packet, other.now)
        act(other.stack, random, other.now)
        other.stack.handle_timeout(other.now)
        due = other.stack.next_deadline()
        assert due is None or due > other.now
        bounded(other.stack)
        list(other.stack.frames_to_send())
