from __future__ import annotations

import os
import socket
from contextlib import closing

import pytest

from tunsmith.device.base import FRAME_ROOM, Device, read_batch
from tunsmith.device.memory import MemoryDevice
from tunsmith.device.packets import PacketDevice
from tunsmith.wire.packet_info import BSD4, LINUX4, NONE, PacketInfo
from tunsmith.wire.vnet import PLAIN

IPV4, IPV6 = b"\x45 four", b"\x60 six"


def _read(device: Device) -> bytes:
    buffer = memoryview(bytearray(FRAME_ROOM))
    return bytes(buffer[: device.read(buffer)])


def _pair(info: PacketInfo = NONE, kind: int = socket.SOCK_DGRAM) -> tuple[PacketDevice, socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    ours.setblocking(False)
    return PacketDevice(ours.detach(), packet_info=info), theirs


@pytest.mark.parametrize("packet", [IPV4, IPV6])
@pytest.mark.parametrize("info", [NONE, LINUX4, BSD4], ids=["none", "linux4", "bsd4"])
def test_what_the_other_end_sees_has_the_word_of_its_family(info: PacketInfo, packet: bytes) -> None:
    device, other = _pair(info)
    with closing(device), other:
        for parts in (
            (PLAIN + packet,),
            (PLAIN, packet),
            (PLAIN, b"", packet),
            (PLAIN + packet[:3], packet[3:]),
        ):
            device.write(parts)
            seen = other.recv(100)
            assert seen == info.word(packet[0]) + packet
            other.send(seen)
            assert _read(device) == PLAIN + packet


def test_an_empty_datagram_is_not_the_end() -> None:
    device, other = _pair()
    with closing(device), other:
        other.send(b"")
        other.send(IPV4)
        assert _read(device) == PLAIN
        assert _read(device) == PLAIN + IPV4


def test_a_message_shorter_than_the_word_is_an_empty_frame() -> None:
    device, other = _pair(BSD4)
    with closing(device), other:
        other.send(b"\0\0")
        assert _read(device) == PLAIN


def test_the_end_of_a_connection_is_the_end() -> None:
    device, other = _pair(kind=socket.SOCK_SEQPACKET)
    with closing(device):
        other.close()
        with pytest.raises(OSError, match="the other end is gone"):
            _read(device)


def test_the_end_of_what_is_no_socket_is_the_end() -> None:
    with (
        closing(PacketDevice(os.open("/dev/null", os.O_RDWR))) as device,
        pytest.raises(OSError, match="gone"),
    ):
        _read(device)


def test_what_a_full_socket_does_not_take_is_counted() -> None:
    device, other = _pair()
    with closing(device), other:
        for _ in range(1000):
            device.write((PLAIN + IPV4,))
        other.setblocking(False)
        taken = 0
        while True:
            try:
                other.recv(100)
            except BlockingIOError:
                break
            taken += 1
        assert 0 < taken < 1000
        assert device.lost == 1000 - taken


def test_a_batch_ends_where_others_are_to_have_their_turn() -> None:
    one, other = MemoryDevice.pair()
    buffer = memoryview(bytearray(FRAME_ROOM))
    seen: list[bytes] = []
    with closing(one), closing(other):
        for number in range(10):
            one.write((PLAIN, bytes((number,))))
        more = read_batch(other, buffer, lambda frame, length: seen.append(bytes(frame[10:length])), limit=7)
        assert (more, len(seen)) == (True, 7)
        more = read_batch(other, buffer, lambda frame, length: seen.append(bytes(frame[10:length])), limit=7)
        assert (more, seen) == (False, [bytes((number,)) for number in range(10)])
