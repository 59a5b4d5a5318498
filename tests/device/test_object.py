from __future__ import annotations

import select
import threading
from contextlib import closing

import pytest

from tunsmith.device.base import FRAME_ROOM
from tunsmith.device.object import ObjectDevice
from tunsmith.wire.packet_info import BSD4
from tunsmith.wire.vnet import PLAIN

PACKET = b"\x45 packet"


def _read(device: ObjectDevice) -> bytes:
    buffer = memoryview(bytearray(FRAME_ROOM))
    return bytes(buffer[: device.read(buffer)])


def _readable(device: ObjectDevice) -> bool:
    return bool(select.select([device], [], [], 0)[0])


def test_written_packets_are_sent_as_bytes_of_their_own() -> None:
    sent: list[bytes] = []
    with closing(ObjectDevice(sent.append, packet_info=BSD4)) as device:
        device.write((PLAIN + PACKET[:3], PACKET[3:]))
    assert sent == [b"\0\0\0\x02" + PACKET]


def test_delivered_packets_are_read_without_their_packet_information() -> None:
    with closing(ObjectDevice(print, packet_info=BSD4)) as device:
        message = bytearray(b"\0\0\0\x02" + PACKET)
        assert device.deliver(message)
        message[:] = bytes(len(message))
        assert _read(device) == PLAIN + PACKET


def test_queue_is_bounded_and_counts_its_drops() -> None:
    with closing(ObjectDevice(print, limit=3)) as device:
        assert [device.deliver(bytes((number,))) for number in range(5)] == [True] * 3 + [False] * 2
        assert device.dropped == 2
        assert [_read(device)[10:] for _ in range(3)] == [b"\0", b"\1", b"\2"]
        assert not _readable(device)
        assert device.deliver(PACKET)


def test_packet_that_no_buffer_holds_is_dropped() -> None:
    with closing(ObjectDevice(print)) as device:
        assert not device.deliver(bytes(FRAME_ROOM))
        assert device.dropped == 1


def test_what_cannot_be_sent_is_lost_and_counted() -> None:
    def full(_: bytes) -> None:
        raise BlockingIOError

    with closing(ObjectDevice(full)) as device:
        device.write((PLAIN, PACKET))
        assert device.lost == 1


def test_the_end_is_told_after_what_came_before_it() -> None:
    with closing(ObjectDevice(print)) as device:
        device.deliver(PACKET)
        device.end()
        assert _read(device) == PLAIN + PACKET
        for _ in range(2):
            assert _readable(device)
            with pytest.raises(OSError, match="the other end is gone"):
                _read(device)
        device.write((PLAIN, PACKET))
        assert device.lost == 1


def test_a_closed_device_may_still_be_told_of_the_end() -> None:
    device = ObjectDevice(print)
    device.close()
    device.end()
    assert not device.deliver(PACKET)


def test_other_threads_deliver_and_nothing_is_overlooked() -> None:
    with closing(ObjectDevice(print, limit=1 << 20)) as device:
        threads = [
            threading.Thread(target=lambda: [device.deliver(PACKET) for _ in range(2000)]) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        seen = 0
        while seen < 8000:
            assert select.select([device], [], [], 10.0)[0], f"{seen} packets and no word of more"
            try:
                _read(device)
            except BlockingIOError:
                continue
            seen += 1
        for thread in threads:
            thread.join()
        with pytest.raises(BlockingIOError):
            _read(device)
        assert not _readable(device)
