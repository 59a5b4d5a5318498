"""Devices on the bench. Run as a program, in a network namespace of its own, it checks the real TUN."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random

from tunsmith.device.base import FRAME_ROOM, Device
from tunsmith.device.faulty import FaultyDevice
from tunsmith.device.memory import MemoryDevice
from tunsmith.device.pcap import Capture, PcapDevice
from tunsmith.device.tun import TunDevice
from tunsmith.testing.faults import Faults, Link
from tunsmith.wire.offload import complete_checksum
from tunsmith.wire.vnet import PLAIN, VNET_HDR_LEN

ETH_P_IP = 0x0800
HERE, THERE = b"\xcb\0\x71\x09", b"\xc0\0\x02\x01"
"""203.0.113.9 behind the device, 192.0.2.1 at its other end."""


class MemoryRig:
    """Any device around one end of a memory pair."""

    def __init__(self, device: Device, other: MemoryDevice) -> None:
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
def memory() -> Iterator[MemoryRig]:
    one, other = MemoryDevice.pair()
    with closing(one), closing(other):
        yield MemoryRig(one, other)


@contextmanager
def captured(path: Path) -> Iterator[MemoryRig]:
    one, other = MemoryDevice.pair()
    device = PcapDevice(one, Capture(str(path), warn=print))
    with closing(device), closing(other):
        yield MemoryRig(device, other)


@contextmanager
def delayed() -> Iterator[MemoryRig]:
    """A path without accidents, but not a short one."""
    one, other = MemoryDevice.pair()
    paths = [Link(Faults(Random(number), delay=0.005, jitter=0.002, whole=True)) for number in range(2)]
    device = FaultyDevice(one, paths[0], paths[1])
    with closing(device), closing(other):
        yield MemoryRig(device, other)


class TunRig:
    """A real TUN; its other end is this namespace's kernel."""

    def __init__(self, device: Device, name: str) -> None:
        self.device = device
        self.here, self.there = HERE, THERE
        self._out = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self._tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP))
        self._tap.bind((name, ETH_P_IP))
        self._tap.setblocking(False)

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
def tun() -> Iterator[TunRig]:
    """Wants a network namespace of its own, and root in it."""
    from ipaddress import ip_address

    from tunsmith.host.rtnetlink import RtNetlink
    from tunsmith.host.tun import open_tun

    fd, offload = open_tun("tun7")
    Path("/proc/sys/net/ipv6/conf/tun7/disable_ipv6").write_text("1")  # or it would send first
    index = socket.if_nametoindex("tun7")
    with RtNetlink() as netlink:
        netlink.link_up(index, 1500)
        netlink.address_add(index, ip_address(THERE))
        netlink.default_route_add(index, socket.AF_INET)
    with closing(TunDevice.adopt(fd, offload)) as device, closing(TunRig(device, "tun7")) as rig:
        yield rig


if __name__ == "__main__":
    from tunsmith.testing.conformance import check_device

    check_device(tun)
    print("conforms")
