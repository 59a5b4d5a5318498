"""A TCP/IP stack of our own behind a TUN: port 7 of *every* address echoes TCP and UDP.

No root, but a network of one's own to try it in:

    $ unshare --map-root-user --net sh
    # python examples/echo_on_a_tun.py &            until it is killed
    # echo hello | nc -N 192.0.2.7 7
"""

from __future__ import annotations

import select
import socket
import time
from ipaddress import ip_address

from tunsmith.device.base import FRAME_ROOM
from tunsmith.device.tun import TunDevice
from tunsmith.errors import LocalError
from tunsmith.host.rtnetlink import RtNetlink
from tunsmith.host.tun import open_tun
from tunsmith.stack.config import StackConfig
from tunsmith.stack.events import Datagram, Event, FlowRequested, PeerClosed, Readable, Writable
from tunsmith.stack.stack import Stack
from tunsmith.stack.tcp.connection import Connection


def open_device() -> TunDevice:
    """A TUN of this network namespace, in use as its default route."""
    device = open_tun("tun0")
    index = socket.if_nametoindex(device.name)
    with RtNetlink() as netlink:
        netlink.link_up(index, 1500)
        netlink.address_add(index, ip_address("192.0.2.1"))
        netlink.default_route_add(index, socket.AF_INET)
    return device


def echo(connection: Connection, now: float) -> None:
    """Send back what can be sent; the rest waits, and while it waits the window closes."""
    while waiting := connection.read(65536, now, peek=True):
        taken = connection.send(waiting, now)
        connection.read(taken, now)
        if taken < len(waiting):
            return  # Writable follows
    if connection.at_end:
        connection.shutdown(now)


def answer(stack: Stack, event: Event, now: float) -> None:
    match event:
        case FlowRequested(request):
            request.accept(None, now) if request.destination[1] == 7 else request.refuse(now)
        case Readable(connection) | Writable(connection) | PeerClosed(connection):
            try:
                echo(connection, now)
            except LocalError:
                pass  # reset in the meantime
        case Datagram(family, who, port, whom, 7, data, size):
            stack.send_datagram(family, family.key(whom, 7, who, port), bytes(data), size)


def main() -> None:
    device = open_device()
    stack = Stack(StackConfig(mtu=device.mtu, offload=bool(device.offload)), emit=device.write)
    buffer = memoryview(bytearray(FRAME_ROOM))
    while True:
        due = stack.next_deadline()
        ready, _, _ = select.select([device], [], [], due and max(0.0, due - time.monotonic()))
        now = time.monotonic()
        if ready:
            stack.receive_frame(buffer, device.read(buffer), now)
        stack.handle_timeout(now)
        while event := stack.poll_event():
            answer(stack, event, now)


if __name__ == "__main__":
    main()
