from __future__ import annotations

import os
import select
import socket
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunsmith.device.base import FRAME_ROOM, Device
from tunsmith.device.stream import BACKLOG_BYTES, StreamDevice
from tunsmith.wire.packet_info import BSD4
from tunsmith.wire.vnet import PLAIN

PACKET = b"\x60" + bytes(range(200))


def _pair(**options: bool) -> tuple[StreamDevice, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    return StreamDevice(ours.detach(), **options), theirs  # type: ignore[arg-type]


def _read(device: Device) -> bytes:
    buffer = memoryview(bytearray(FRAME_ROOM))
    return bytes(buffer[: device.read(buffer)])


def _readable(device: Device) -> bool:
    return bool(select.select([device], [], [], 0)[0])


def _framed(packet: bytes) -> bytes:
    return len(packet).to_bytes(4, "big") + packet


def test_a_packet_is_preceded_by_its_length_in_four_bytes() -> None:
    device, other = _pair()
    with closing(device), other:
        device.write((PLAIN + PACKET[:5], PACKET[5:]))
        assert other.recv(1000) == _framed(PACKET)


def test_packet_information_is_counted_as_part_of_the_packet() -> None:
    device, other = _pair(packet_info=BSD4)  # type: ignore[arg-type]
    with closing(device), other:
        device.write((PLAIN, PACKET))
        assert other.recv(1000) == _framed(b"\0\0\0\x1e" + PACKET)


@given(st.lists(st.binary(min_size=0, max_size=300), max_size=8), st.data())
def test_packets_are_whole_however_the_stream_was_cut(packets, data) -> None:
    text = b"".join(map(_framed, packets))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=10)))
    seen = []
    device, other = _pair()
    with closing(device), other:
        for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
            other.sendall(text[begin:end])
            while _readable(device):
                try:
                    seen.append(_read(device))
                except BlockingIOError:
                    break
        assert seen == [PLAIN + packet for packet in packets]
        assert not _readable(device)


def test_the_descriptor_speaks_for_packets_that_were_read_ahead() -> None:
    device, other = _pair()
    with closing(device), other:
        other.sendall(_framed(PACKET) * 3)
        for _ in range(3):
            assert _readable(device)
            assert _read(device) == PLAIN + PACKET
        assert not _readable(device)


def test_slow_reader_gets_whole_packets_and_the_rest_is_lost_and_counted() -> None:
    device, other = _pair()
    with closing(device), other:
        sent = 0
        while not device.lost:
            device.write((PLAIN + sent.to_bytes(4, "big"), bytes(9996)))
            sent += 1
        other.settimeout(0.0)
        text = bytearray()
        while len(text) < (sent - 1) * 10004:
            assert device.lost == 1
            try:
                text += other.recv(1 << 20)
            except BlockingIOError:
                assert _readable(device), "there is room, and nobody says so"
                with pytest.raises(BlockingIOError):
                    _read(device)
        numbers = [text[at + 4 : at + 8] for at in range(0, len(text), 10004)]
        assert numbers == [number.to_bytes(4, "big") for number in range(sent - 1)]
        assert sent * 10004 > BACKLOG_BYTES
        assert not _readable(device)


@pytest.mark.parametrize("length", [FRAME_ROOM, 1 << 31, 0xFFFFFFFF])
def test_a_length_that_no_packet_has_is_the_end(length: int) -> None:
    device, other = _pair()
    with closing(device), other:
        other.sendall(length.to_bytes(4, "big") + PACKET)
        with pytest.raises(OSError, match="the stream carries no packets"):
            _read(device)


def test_a_frame_too_short_for_its_virtio_header_is_the_end() -> None:
    device, other = _pair(vnet_header=True)
    with closing(device), other:
        other.sendall(_framed(b"short"))
        with pytest.raises(OSError, match="the stream carries no packets"):
            _read(device)


def test_what_came_before_the_end_is_read_before_it_is_told() -> None:
    device, other = _pair()
    with closing(device):
        other.sendall(_framed(PACKET) + _framed(PACKET)[:50])
        other.close()
        assert _read(device) == PLAIN + PACKET
        with pytest.raises(OSError, match="the other end is gone"):
            _read(device)
        device.write((PLAIN, PACKET))
        assert device.lost == 1


def test_what_waits_for_somebody_who_leaves_is_forgotten() -> None:
    device, other = _pair()
    with closing(device):
        while not device.lost:
            device.write((PLAIN, bytes(60_000)))
        other.close()
        with pytest.raises(OSError, match=r"the other end is gone|reset"):
            _read(device)
        with pytest.raises(OSError, match=r"the other end is gone|reset"):
            _read(device)


def test_closing_returns_every_descriptor() -> None:
    before = len(os.listdir("/proc/self/fd"))
    device, other = _pair()
    device.close()
    other.close()
    assert len(os.listdir("/proc/self/fd")) == before
