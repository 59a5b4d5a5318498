"""A network of 256 machines that are not there: every second one answers ping, the others are unreachable.

    $ unshare --map-root-user --net sh
    # python examples/ping_responder.py &
    # ping -c 1 198.51.100.7      a reply
    # ping -c 1 198.51.100.8      "Destination Host Unreachable", from the router 198.51.100.1
    # ping -c 1 203.0.113.1       nothing at all

Other packets end here too, and are counted: kill it to see the counts.
"""

from __future__ import annotations

import select
import signal
import socket
import sys
import time
from ipaddress import ip_address, ip_network

from tunsmith.device.base import FRAME_ROOM
from tunsmith.device.tun import TunDevice
from tunsmith.host.rtnetlink import RtNetlink
from tunsmith.host.tun import open_tun
from tunsmith.stack.config import StackConfig
from tunsmith.stack.events import Echo, Event, FlowRequested
from tunsmith.stack.stack import Stack
from tunsmith.wire.icmp import IcmpError

OURS = ip_network("198.51.100.0/24")
ROUTER = ip_address("198.51.100.1").packed


def open_device() -> TunDevice:
    """A TUN of this network namespace, in use as its default route."""
    device = open_tun("tun0")
    index = socket.if_nametoindex(device.name)
    with RtNetlink() as netlink:
        netlink.link_up(index, 1500)
        netlink.address_add(index, ip_address("192.0.2.1"))
        netlink.default_route_add(index, socket.AF_INET)
    return device


def answer(stack: Stack, event: Event, now: float) -> None:
    match event:
        case Echo() if ip_address(event.destination) not in OURS:
            stack.drops["ping_elsewhere"] += 1
        case Echo() if event.destination[-1] % 2:
            stack.send_echo_reply(event)
        case Echo():
            stack.send_echo_error(event, IcmpError.HOST, now, source=ROUTER)
        case FlowRequested(request):
            request.refuse(now)


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    device = open_device()
    stack = Stack(StackConfig(mtu=device.mtu, offload=bool(device.offload)), emit=device.write)
    buffer = memoryview(bytearray(FRAME_ROOM))
    try:
        while select.select([device], [], []):
            now = time.monotonic()
            stack.receive_frame(buffer, device.read(buffer), now)
            stack.handle_timeout(now)
            while event := stack.poll_event():
                answer(stack, event, now)
    finally:
        print("not answered:", dict(stack.drops))


if __name__ == "__main__":
    main()
