"""What every device must do (device/base.py), as checks that run on any of them.

    @pytest.mark.parametrize("check", CHECKS)
    def test_my_device(check):
        with my_rig() as rig:
            check(rig)

A `Rig` is a device and a way to be its other end. Each check wants a fresh one; `check_device` runs all.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from tunsmith.device.base import FRAME_ROOM, TSO, USO, Device
from tunsmith.wire.checksum import finish, ones_sum, partial, pseudo_sum
from tunsmith.wire.ip import IPV4
from tunsmith.wire.offload import complete_checksum
from tunsmith.wire.udp import UDP
from tunsmith.wire.vnet import NEEDS_CSUM, PLAIN, VNET, VNET_HDR_LEN

PATIENCE = 5.0
"""Seconds until a packet that does not come counts as lost."""


class Rig(Protocol):
    """A device on the bench."""

    device: Device
    here: bytes
    """An IPv4 address of the device's side: packets that are read come from `there` and go to `here`."""
    there: bytes
    """An IPv4 address of the other end: packets that are written go to it."""
    link_header: bytes
    """What stands between virtio header and packet in frames that are written: the Ethernet header that leads to
    the other end, or nothing. Frames that are read have one as long."""

    def send(self, packet: bytes) -> None:
        """Have the other end send an IP packet, so that it can be read."""

    def received(self) -> list[bytes]:
        """The IP packets that were written and have reached the other end since the last call."""


def datagram(source: bytes, destination: bytes, data: bytes) -> bytes:
    """A complete IPv4 packet with one UDP datagram."""
    udp = UDP.pack(40001, 40002, 8 + len(data), 0) + data
    total = pseudo_sum(source + destination, 17, len(udp)) + ones_sum(udp)
    udp = udp[:6] + finish(total).to_bytes(2, "big") + udp[8:]
    # An identification of its own keeps a kernel from choosing one.
    return IPV4.header(source, destination, 17, len(udp), identification=0x5453) + udp


def readable(device: Device, seconds: float = PATIENCE) -> bool:
    """Wait until the descriptor says that there is something to read."""
    poller = select.poll()
    poller.register(device.fileno(), select.POLLIN)
    return bool(poller.poll(seconds * 1000))


def read_frames(device: Device, count: int) -> list[bytes]:
    """Read `count` frames, waiting by the descriptor alone."""
    buffer = memoryview(bytearray(FRAME_ROOM))
    frames: list[bytes] = []
    while len(frames) < count:
        assert readable(device), f"the descriptor says nothing after {len(frames)} of {count} frames"
        try:
            length = device.read(buffer)
        except BlockingIOError:
            continue
        frames.append(bytes(buffer[:length]))
    return frames


def _packets(rig: Rig, frames: list[bytes]) -> list[bytes]:
    """The packets that frames stand for, checksums complete."""
    start = VNET_HDR_LEN + len(rig.link_header)
    return [complete_checksum(frame)[start:] for frame in frames]


def _arrivals(rig: Rig, count: int) -> list[bytes]:
    """`count` packets at the other end; a device with delays is driven on meanwhile."""
    buffer = memoryview(bytearray(FRAME_ROOM))
    packets = rig.received()
    for _ in range(1000):
        if len(packets) >= count:
            break
        if readable(rig.device, PATIENCE / 1000):
            try:
                rig.device.read(buffer)
            except BlockingIOError:
                pass
        packets += rig.received()
    return packets


def check_attributes(rig: Rig) -> None:
    """The descriptor is one and stays the same; the MTU and the offloads are possible ones."""
    device = rig.device
    assert device.fileno() >= 0
    assert device.fileno() == device.fileno()
    os.fstat(device.fileno())
    assert 576 <= device.mtu <= 65535
    assert not device.offload & ~(TSO | USO | 0x08)
    assert device.ethernet == bool(rig.link_header)
    assert device.lost == 0


def check_nothing_to_read(rig: Rig) -> None:
    """Without a frame, `read` says so at once and the descriptor is quiet."""
    for _ in range(2):
        try:
            rig.device.read(memoryview(bytearray(FRAME_ROOM)))
        except BlockingIOError:
            pass
        else:
            raise AssertionError("read a frame that nobody sent")
    assert not readable(rig.device, 0.0)


def check_reading(rig: Rig) -> None:
    """What the other end sends is read, whole, in order, one frame a call; then all is quiet again."""
    sent = [datagram(rig.there, rig.here, bytes([number]) * (number * 7)) for number in range(20)]
    for packet in sent:
        rig.send(packet)
    assert _packets(rig, read_frames(rig.device, len(sent))) == sent
    check_nothing_to_read(rig)


def check_reading_leaves_the_rest_of_the_buffer(rig: Rig) -> None:
    """`read` fills as much of the buffer as it says."""
    packet = datagram(rig.there, rig.here, b"short")
    rig.send(packet)
    buffer = bytearray(b"\xa5" * FRAME_ROOM)
    assert readable(rig.device)
    while True:
        try:
            length = rig.device.read(memoryview(buffer))
            break
        except BlockingIOError:
            assert readable(rig.device)
    assert length == VNET_HDR_LEN + len(rig.link_header) + len(packet)
    assert bytes(buffer[length:]) == b"\xa5" * (FRAME_ROOM - length)


def check_writing(rig: Rig) -> None:
    """What is written arrives, whole and in order, however it is cut into parts."""
    packets = [datagram(rig.here, rig.there, bytes([number]) * (number * 7)) for number in range(20)]
    for number, packet in enumerate(packets):
        frame = PLAIN + rig.link_header + packet
        cut = VNET_HDR_LEN + number % 30
        rig.device.write(((frame,), (frame[:cut], frame[cut:]), (frame[:10], b"", frame[10:]))[number % 3])
    assert _arrivals(rig, len(packets)) == packets
    assert rig.device.lost == 0


def check_writing_copies(rig: Rig) -> None:
    """When `write` returns, the buffers are the caller's again."""
    packet = datagram(rig.here, rig.there, b"before")
    frame = bytearray(PLAIN + rig.link_header + packet)
    rig.device.write((memoryview(frame)[:12], memoryview(frame)[12:]))
    frame[:] = bytes(len(frame))
    assert _arrivals(rig, 1) == [packet]


def check_largest(rig: Rig) -> None:
    """The longest packet that the MTU allows passes both ways."""
    data = os.urandom(rig.device.mtu - 28)
    packet = datagram(rig.here, rig.there, data)
    rig.device.write((PLAIN + rig.link_header + packet[:28], data))
    assert _arrivals(rig, 1) == [packet]
    back = datagram(rig.there, rig.here, data)
    rig.send(back)
    assert _packets(rig, read_frames(rig.device, 1)) == [back]


def check_offloaded_checksum(rig: Rig) -> None:
    """A frame whose checksum is left to the device is taken."""
    if not rig.device.offload & 1:
        return
    data = b"left to you"
    addresses = rig.here + rig.there
    udp = UDP.pack(40001, 40002, 8 + len(data), partial(pseudo_sum(addresses, 17, 8 + len(data))))
    vnet = VNET.pack(NEEDS_CSUM, 0, 0, 0, len(rig.link_header) + 20, 6)
    rig.device.write(
        (vnet + rig.link_header + IPV4.header(rig.here, rig.there, 17, 8 + len(data)) + udp, data)
    )
    (packet,) = _arrivals(rig, 1)
    assert packet[28:] == data
    assert rig.device.lost == 0


def check_closing(rig: Rig) -> None:
    """A closed device says so when it is read, loses what is written, and may be closed again."""
    rig.device.close()
    rig.device.close()
    rig.device.write((PLAIN + rig.link_header + datagram(rig.here, rig.there, b""),))
    assert rig.device.lost == 1
    try:
        rig.device.read(memoryview(bytearray(FRAME_ROOM)))
    except BlockingIOError as error:
        raise AssertionError("a closed device has no frame now, as if it could have one later") from error
    except OSError:
        return
    raise AssertionError("a closed device goes on")


CHECKS: tuple[Callable[[Rig], None], ...] = (
    check_attributes,
    check_nothing_to_read,
    check_reading,
    check_reading_leaves_the_rest_of_the_buffer,
    check_writing,
    check_writing_copies,
    check_largest,
    check_offloaded_checksum,
    check_closing,
)


def check_device(rig: Callable[[], AbstractContextManager[Rig]]) -> None:
    """Run every check, each on a fresh rig. Raises AssertionError."""
    for check in CHECKS:
        with rig() as fresh:
            check(fresh)
