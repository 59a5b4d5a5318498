"""A TCP relay between two stacks without a network and an upstream that is a real socket."""

from __future__ import annotations

import asyncio
import errno
import random
import socket
import struct
import time
from collections.abc import Callable, Iterator

import pytest

from tests.inside import HERE, THERE, until
from tunsmith.flow import Target
from tunsmith.relay.poller import Poller
from tunsmith.relay.report import FlowRecord
from tunsmith.relay.tcp import TcpRelay
from tunsmith.stack.config import StackConfig
from tunsmith.stack.events import Closed, Event, FlowRequested
from tunsmith.stack.stack import Stack
from tunsmith.wire.ip import IPV4
from tunsmith.wire.tcp import FIN
from tunsmith.wire.vnet import VNET_HDR_LEN

NOISE = memoryview(random.Random(1).randbytes(262143))
"""What upstreams say, again and again: a hole in it would show."""
BARE = VNET_HDR_LEN + 20 + 32
"""Length of a segment that carries nothing but a timestamp."""
BARE_FLAGS = VNET_HDR_LEN + 20 + 13


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """A connection of the kernel: only TCP knows resets."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    near.setblocking(False)
    far.setblocking(False)
    return near, far


class Bench:
    """`application` is its end of the flow, `far` the upstream's."""

    def __init__(self, send_buffer: int = 1 << 20) -> None:
        self._poller = Poller(asyncio.get_running_loop())
        self._inside = Stack(StackConfig(addresses=(HERE,), any_destination=False))
        self._outside = Stack(StackConfig(send_buffer=send_buffer))
        self.events: list[Event] = []
        self.ended: list[TcpRelay] = []
        now = time.monotonic()
        self.application = self._inside.connect(HERE, 40000, THERE, 80, now)
        self.carry()
        requested = self._outside.poll_event()
        assert isinstance(requested, FlowRequested)
        near, self.far = tcp_pair()
        key = requested.request.key
        record = FlowRecord("tcp", IPV4, key, Target("192.0.2.7", 80), "via", "test", now, last=now)
        self.relay = TcpRelay(self._poller, near, record, self.ended.append, time.monotonic)
        accepted = requested.request.accept(self.relay, now)
        assert accepted is not None
        self.relay.start(accepted)
        self.carry()

    def carry(self) -> list[bytes]:
        """Bring all frames to where they go. Gives those to the application that carried text or an end."""
        now = time.monotonic()
        carried: list[bytes] = []
        moved = True
        while moved:
            moved = False
            for sender, receiver in ((self._inside, self._outside), (self._outside, self._inside)):
                for frame in sender.frames_to_send():
                    receiver.receive(frame[VNET_HDR_LEN:], now, vnet=frame[:VNET_HDR_LEN])
                    moved = True
                    if receiver is self._inside and (len(frame) > BARE or frame[BARE_FLAGS] & FIN):
                        carried.append(frame)
        while (event := self._inside.poll_event()) is not None:
            self.events.append(event)
        return carried

    async def until(self, look: Callable[[], object]) -> None:
        def carried() -> object:
            self.carry()
            return look()

        await until(carried)

    @property
    def closed(self) -> list[int]:
        return [event.error for event in self.events if isinstance(event, Closed)]

    def fill_upstream(self) -> None:
        """The application sends until nothing moves; the upstream does not read."""
        while self.application.send(bytes(65536), time.monotonic()):
            self.carry()

    async def fill_application(self) -> bytes:
        """The upstream sends until nothing moves; the application does not read. Gives what was sent."""
        said = bytearray()
        quiet = 0
        while quiet < 20:
            try:
                at = len(said) % len(NOISE)
                said += NOISE[at : at + self.far.send(NOISE[at:])]
                quiet = 0
            except BlockingIOError:
                quiet += 1
            self.carry()
            await asyncio.sleep(0)
        return bytes(said)

    def read_all(self) -> bytes:
        read = bytearray()
        while self.application.readable_bytes:
            read += self.application.read(1 << 20, time.monotonic())
            self.carry()
        return bytes(read)

    def reset(self) -> None:
        """The upstream hangs up by RST."""
        self.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.far.close()

    def close(self) -> None:
        if not self.ended:
            self.relay.abort("closed")
        self.far.close()
        self._poller.close()


@pytest.fixture
def benches() -> Iterator[list[Bench]]:
    made: list[Bench] = []
    yield made
    for bench in made:
        bench.close()


def make(benches: list[Bench], send_buffer: int = 1 << 20) -> Bench:
    benches.append(Bench(send_buffer))
    return benches[-1]


async def test_reset_while_both_ways_are_full_leaves_no_hole(benches: list[Bench]) -> None:
    """Text may still wait in the socket when its reset is known, and there is no room for it."""
    bench = make(benches)
    said = await bench.fill_application()
    bench.fill_upstream()
    await bench.until(lambda: bench.relay.blocked)
    bench.reset()
    heard = bytearray()

    def all_heard() -> object:
        heard.extend(bench.read_all())
        return bench.closed

    await bench.until(all_heard)
    assert bench.closed == [errno.ECONNRESET]
    assert said.startswith(heard)
    assert [relay.record.outcome for relay in bench.ended] == ["upstream reset"]


@pytest.mark.parametrize("send_buffer", [1 << 20, 65536, 8192])
async def test_slow_application_gets_every_byte_whatever_the_send_buffer(
    benches: list[Bench], send_buffer: int
) -> None:
    bench = make(benches, send_buffer)
    said = await bench.fill_application()
    bench.far.close()
    heard = bytearray()

    def all_heard() -> object:
        heard.extend(bench.read_all())
        return bench.application.at_end

    await bench.until(all_heard)
    assert heard == said


async def test_reset_after_the_upstreams_end_is_told_to_a_silent_application(benches: list[Bench]) -> None:
    bench = make(benches)
    bench.far.send(b"bye")
    bench.far.shutdown(socket.SHUT_WR)
    await bench.until(lambda: bench.application.fin_seen)
    assert bench.read_all() == b"bye"
    bench.reset()
    await bench.until(lambda: bench.closed)
    assert bench.ended


async def test_last_words_and_end_travel_together(benches: list[Bench]) -> None:
    bench = make(benches)
    bench.far.send(b"bye")
    bench.far.shutdown(socket.SHUT_WR)
    text_frames: list[bytes] = []
    while not bench.application.fin_seen:
        text_frames += bench.carry()
        await asyncio.sleep(0)
    assert bench.read_all() == b"bye"
    assert len(text_frames) == 1
    bench.application.send(b"after your end", time.monotonic())
    bench.carry()
    assert bench.far.recv(100) == b"after your end"


async def test_urgent_text_that_cuts_reads_short_is_not_the_end(benches: list[Bench]) -> None:
    bench = make(benches)
    bench.far.send(b"now")
    bench.far.send(b"!", socket.MSG_OOB)
    bench.far.send(b"then")
    bench.far.shutdown(socket.SHUT_WR)
    await bench.until(lambda: bench.application.fin_seen)
    assert bench.read_all() == b"nowthen"


async def test_last_words_before_a_reset_are_passed_on(benches: list[Bench]) -> None:
    bench = make(benches)
    bench.far.send(b"bye")
    bench.reset()
    await bench.until(lambda: bench.closed)
    assert bench.closed == [errno.ECONNRESET]
    assert bench.read_all() == b"bye"
    assert [relay.record.outcome for relay in bench.ended] == ["upstream reset"]


async def test_reset_does_not_take_back_what_the_upstream_said_before_its_end(benches: list[Bench]) -> None:
    """As from a server that hangs up on what it did not read: directly, all it said would be here already."""
    bench = make(benches)
    said = await bench.fill_application()
    heard = bytearray()
    while len(heard) < len(said) - (1 << 20):  # the rest fits into the two stacks
        heard += bench.application.read(65536, time.monotonic())
        bench.carry()
        await asyncio.sleep(0)
    bench.far.close()
    await bench.until(lambda: bench.relay.record.down == len(said))
    for _ in range(3):
        bench.application.send(b"anybody there?", time.monotonic())
        bench.carry()
        await asyncio.sleep(0)

    def all_heard() -> object:
        heard.extend(bench.read_all())
        return bench.application.at_end

    await bench.until(all_heard)
    assert heard == said
    bench.application.send(b"no?", time.monotonic())
    await bench.until(lambda: bench.closed)
    assert bench.closed == [errno.EPIPE]


async def test_paused_flow_whose_upstream_died_costs_nothing(
    benches: list[Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for a socket that could only be ready again and again."""
    bench = make(benches)
    await bench.fill_application()
    bench.reset()
    ready: list[int] = []
    monkeypatch.setattr(TcpRelay, "_on_ready", lambda self, events: ready.append(events))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not ready
    assert not bench.ended
