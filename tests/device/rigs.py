"""Devices on the bench. Run as a program, in a network namespace of its own, it checks the real TUN and TAP."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from random import Random
from typing import Any

from tunsmith.device.base import FRAME_ROOM, Device
from tunsmith.device.faulty import FaultyDevice
from tunsmith.device.memory import MemoryDevice
from tunsmith.device.object import ObjectDevice
from tunsmith.device.packets import PacketDevice
from tunsmith.device.pcap import Capture, PcapDevice
from tunsmith.device.stream import StreamDevice
from tunsmith.device.tun import TunDevice
from tunsmith.host.rtnetlink import RtNetlink
from tunsmith.host.tun import adopt, open_tap, open_tun
from tunsmith.testing.faults import Faults, Link
from tunsmith.wire.offload import complete_checksum
from tunsmith.wire.packet_info import NONE, PacketInfo
from tunsmith.wire.vnet import PLAIN, VNET_HDR_LEN

ETH_P_IP = 0x0800
SIOCGIFHWADDR = 0x8927
HERE, THERE = b"\xcb\0\x71\x09", b"\xc0\0\x02\x01"
"""203.0.113.9 behind the device, 192.0.2.1 at its other end."""
MAC_HERE = bytes.fromhex("02005e000009")


class FrameRig:
    """Any device whose other end is a device, too."""

    link_header = b""

    def __init__(self, device: Device, other: Device) -> None:
        self.device = device
        self.here, self.there = HERE, THERE
        self._other = other

    def send(self, packet: bytes) -> None:
        self._other.write((PLAIN, packet))

    def received(self) -> list[bytes]:
        packets: list[bytes] = []
        buffer = memoryview(bytearray(FRAME_ROOM))
        while True:
            try:
                length = self._other.read(buffer)
            except BlockingIOError:
                return packets
            packets.append(complete_checksum(buffer[:length])[VNET_HDR_LEN:])


@contextmanager
def memory() -> Iterator[FrameRig]:
    one, other = MemoryDevice.pair()
    with closing(one), closing(other):
        yield FrameRig(one, other)


@contextmanager
def captured(path: Path) -> Iterator[FrameRig]:
    one, other = MemoryDevice.pair()
    device = PcapDevice(one, Capture(str(path), warn=print))
    with closing(device), closing(other):
        yield FrameRig(device, other)


@contextmanager
def delayed() -> Iterator[FrameRig]:
    """A path without accidents, but not a short one."""
    one, other = MemoryDevice.pair()
    paths = [Link(Faults(Random(number), delay=0.005, jitter=0.002, whole=True)) for number in range(2)]
    device = FaultyDevice(one, paths[0], paths[1])
    with closing(device), closing(other):
        yield FrameRig(device, other)


def _datagram_sockets() -> tuple[int, int]:
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for end in pair:
        end.setblocking(False)
    return pair[0].detach(), pair[1].detach()


@contextmanager
def frames_over_sockets() -> Iterator[FrameRig]:
    """Whole frames, virtio header and all, between two programs."""
    one, other = _datagram_sockets()
    with closing(TunDevice(one, 0x6F)) as device, closing(TunDevice(other, 0x6F)) as far:
        yield FrameRig(device, far)


@contextmanager
def packets_over_sockets(info: PacketInfo = NONE) -> Iterator[FrameRig]:
    one, other = _datagram_sockets()
    with (
        closing(PacketDevice(one, packet_info=info)) as device,
        closing(PacketDevice(other, packet_info=info)) as far,
    ):
        yield FrameRig(device, far)


@contextmanager
def stream(pipes: bool, **options: Any) -> Iterator[FrameRig]:
    """Over two pipes or one stream socket."""
    if pipes:
        there, back = (os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) for _ in range(2))
        ends = (StreamDevice(there[0], back[1], **options), StreamDevice(back[0], there[1], **options))
    else:
        pair = socket.socketpair()
        for end in pair:
            end.setblocking(False)
        ends = (StreamDevice(pair[0].detach(), **options), StreamDevice(pair[1].detach(), **options))
    with closing(ends[0]) as device, closing(ends[1]) as far:
        yield FrameRig(device, far)


@contextmanager
def objects(**options: Any) -> Iterator[FrameRig]:
    """Two that call each other."""
    far: ObjectDevice
    device = ObjectDevice(lambda packet: far.deliver(packet), **options)
    far = ObjectDevice(device.deliver, **options)
    with closing(device), closing(far):
        yield FrameRig(device, far)


class InterfaceRig:
    """A real TUN or TAP; its other end is this namespace's kernel."""

    def __init__(self, device: TunDevice) -> None:
        self.device: Device = device
        self.here, self.there = HERE, THERE
        self._out = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self._tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP))
        self._tap.bind((device.name, ETH_P_IP))
        self._tap.setblocking(False)
        self.link_header = b""
        if device.ethernet:
            kernel = fcntl.ioctl(self._out, SIOCGIFHWADDR, struct.pack("32s", device.name.encode()))[18:24]
            self.link_header = kernel + MAC_HERE + ETH_P_IP.to_bytes(2, "big")

    def send(self, packet: bytes) -> None:
        self._out.sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))

    def received(self) -> list[bytes]:
        packets: list[bytes] = []
        while True:
            try:
                packet, address = self._tap.recvfrom(FRAME_ROOM)
            except BlockingIOError:
                return packets
            if address[2] != socket.PACKET_OUTGOING:
                packets.append(packet)

    def close(self) -> None:
        self._out.close()
        self._tap.close()


@contextmanager
def interface(make: Callable[[], TunDevice]) -> Iterator[InterfaceRig]:
    """Wants a network namespace of its own, and root in it."""
    with closing(make()) as device:
        index = socket.if_nametoindex(device.name)
        with RtNetlink() as netlink:
            netlink.link_up(index)
            netlink.address_add(index, ip_address(THERE))
            netlink.default_route_add(index, socket.AF_INET)
            if device.ethernet:
                netlink.neighbour_add(index, ip_address(HERE), MAC_HERE)
        with closing(InterfaceRig(device)) as rig:
            yield rig


def _adopted() -> TunDevice:
    """What another program opened, on a descriptor of our own."""
    first = open_tun("tun7", packet_info=True)
    device = adopt(os.dup(first.fileno()), packet_info=True)
    first.close()
    return device


INTERFACES: dict[str, Callable[[], AbstractContextManager[InterfaceRig]]] = {
    "tun": partial(interface, open_tun),
    "tun of 9000": partial(interface, partial(open_tun, mtu=9000)),
    "tun without offload": partial(interface, partial(open_tun, offload=0)),
    "one of several queues": partial(interface, partial(open_tun, multi_queue=True)),
    "packets": partial(interface, partial(open_tun, vnet_header=False)),
    "packets, linux4": partial(interface, partial(open_tun, packet_info=True)),
    "adopted": partial(interface, _adopted),
    "tap": partial(interface, open_tap),
    "tap of 9000": partial(interface, partial(open_tap, mtu=9000)),
    "tap without virtio header": partial(interface, partial(open_tap, vnet_header=False)),
}


if __name__ == "__main__":
    from tunsmith.testing.conformance import check_device

    Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")  # or it would send first
    check_device(INTERFACES[sys.argv[1]])
    print("conforms")
