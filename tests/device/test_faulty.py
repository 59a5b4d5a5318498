from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing, contextmanager
from random import Random

import pytest

from tests.device.rigs import HERE, THERE, FrameRig
from tunsmith.device.base import FRAME_ROOM
from tunsmith.device.faulty import FaultyDevice
from tunsmith.device.memory import MemoryDevice
from tunsmith.testing.clock import ManualClock
from tunsmith.testing.conformance import datagram, read_frames, readable
from tunsmith.testing.faults import Faults, Link
from tunsmith.wire.vnet import GSO_UDP_L4, NEEDS_CSUM, PLAIN, VNET, VNET_HDR_LEN

PACKET = datagram(THERE, HERE, b"inbound")
ANSWER = datagram(HERE, THERE, b"outbound")


@contextmanager
def rig(
    inbound: dict[str, float] | None = None, outbound: dict[str, float] | None = None
) -> Iterator[FrameRig]:
    one, other = MemoryDevice.pair()
    links = [
        Link(Faults(Random(number), **(faults or {})))  # type: ignore[arg-type]
        for number, faults in enumerate((inbound, outbound))
    ]
    with closing(FaultyDevice(one, links[0], links[1])) as device, closing(other):
        yield FrameRig(device, other)


def nothing(made: FrameRig) -> None:
    with pytest.raises(BlockingIOError):
        made.device.read(memoryview(bytearray(FRAME_ROOM)))


def test_what_the_path_loses_is_not_read_and_not_counted_as_lost_by_the_device() -> None:
    with rig({"loss": 1.0}, {"loss": 1.0}) as made:
        made.send(PACKET)
        made.device.write((PLAIN, ANSWER))
        nothing(made)
        assert not readable(made.device, 0.0)
        assert made.received() == []
        assert made.device.lost == 0


def test_what_the_path_doubles_is_read_twice() -> None:
    with rig({"duplicate": 1.0}, {"duplicate": 1.0}) as made:
        made.send(PACKET)
        assert [frame[VNET_HDR_LEN:] for frame in read_frames(made.device, 2)] == [PACKET, PACKET]
        made.device.write((PLAIN, ANSWER))
        assert made.received() == [ANSWER, ANSWER]


def test_what_the_path_damages_is_damaged() -> None:
    with rig({"corrupt": 1.0}) as made:
        made.send(PACKET)
        (frame,) = read_frames(made.device, 1)
        assert frame[VNET_HDR_LEN:] != PACKET
        assert len(frame) == VNET_HDR_LEN + len(PACKET)


def test_a_late_frame_makes_the_descriptor_readable_when_it_is_due() -> None:
    with rig({"delay": 0.02}) as made:
        made.send(PACKET)
        nothing(made)
        assert not readable(made.device, 0.0)
        assert readable(made.device)
        assert [frame[VNET_HDR_LEN:] for frame in read_frames(made.device, 1)] == [PACKET]
        assert not readable(made.device, 0.0)


def test_a_late_frame_is_written_when_the_device_is_next_looked_at() -> None:
    with rig(None, {"delay": 0.02}) as made:
        made.device.write((PLAIN, ANSWER))
        assert made.received() == []
        assert readable(made.device)
        nothing(made)
        assert made.received() == [ANSWER]
        assert not readable(made.device, 0.0)


def test_several_frames_at_once_keep_the_descriptor_readable() -> None:
    with rig() as made:
        for _ in range(3):
            made.send(PACKET)
        buffer = memoryview(bytearray(FRAME_ROOM))
        for _ in range(3):
            assert readable(made.device)
            made.device.read(buffer)
        assert not readable(made.device, 0.0)


def test_super_frames_are_cut_as_a_wire_would() -> None:
    with rig() as made:
        vnet = VNET.pack(NEEDS_CSUM, GSO_UDP_L4, 28, 100, 20, 6)
        made.device.write((vnet + datagram(HERE, THERE, bytes(250)),))
        assert [len(packet) for packet in made.received()] == [128, 128, 78]


def test_a_frame_that_no_path_carries_is_lost() -> None:
    with rig() as made:
        made.device.write((VNET.pack(0, 77, 0, 0, 0, 0) + ANSWER,))
        assert made.device.lost == 1
        made._other.write((VNET.pack(0, 77, 0, 0, 0, 0) + PACKET,))
        nothing(made)


def test_the_clock_is_the_callers() -> None:
    clock = ManualClock()
    one, other = MemoryDevice.pair()
    links = [Link(Faults(Random(number), delay=5.0)) for number in range(2)]
    with closing(FaultyDevice(one, links[0], links[1], clock)) as device, closing(other):
        made = FrameRig(device, other)
        made.send(PACKET)
        nothing(made)
        clock.advance(5.0)
        device.read(memoryview(bytearray(FRAME_ROOM)))


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_an_event_loop_can_wait_for_it(kind: str) -> None:
    async def wait(made: FrameRig) -> int:
        loop = asyncio.get_running_loop()
        arrived = loop.create_future()

        def on_readable() -> None:
            try:
                length = made.device.read(memoryview(bytearray(FRAME_ROOM)))
            except BlockingIOError:
                return
            if not arrived.done():
                arrived.set_result(length)

        loop.add_reader(made.device.fileno(), on_readable)
        made.send(PACKET)
        try:
            return await asyncio.wait_for(arrived, 5)
        finally:
            loop.remove_reader(made.device.fileno())

    uvloop = pytest.importorskip("uvloop")
    factory = uvloop.new_event_loop if kind == "uvloop" else asyncio.new_event_loop
    with rig({"delay": 0.01}) as made, asyncio.Runner(loop_factory=factory) as runner:
        assert runner.run(wait(made)) == VNET_HDR_LEN + len(PACKET)
