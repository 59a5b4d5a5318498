"""A stack on one or more interfaces of this network namespace; the test talks to it with real programs.

    python -m tests.links.station '{"nics": [{"open": "tap0", "mac": "...", "addresses": [...]}], ...}'

Port 7 echoes TCP and UDP, pings are answered. A line "ready" is printed when the addresses may be used, one for
each conflict, and at the end ("read from standard input") a line with all counts.
"""

from __future__ import annotations

import json
import select
import sys
import time
from ipaddress import ip_address
from random import Random
from typing import Any

from tunsmith.device.base import FRAME_ROOM, Device, read_batch
from tunsmith.device.faulty import FaultyDevice
from tunsmith.errors import LocalError
from tunsmith.host.tun import open_tap, open_tun
from tunsmith.stack.events import Datagram, Echo, Event, FlowRequested, PeerClosed, Readable, Writable
from tunsmith.stack.nic import Nic
from tunsmith.stack.router import Router
from tunsmith.stack.tcp.connection import Connection
from tunsmith.testing.faults import Faults, Link


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)


def open_nic(wish: dict[str, Any]) -> tuple[Device, str, Nic]:
    opener = open_tap if "mac" in wish else open_tun
    interface = opener(wish.pop("open"), **wish.pop("device", {}))
    device: Device = interface
    if faults := wish.pop("faults", {}):
        paths = [Link(Faults(Random(seed), ethernet=device.ethernet, **faults)) for seed in range(2)]
        device = FaultyDevice(interface, paths[0], paths[1])

    def on_conflict(address: bytes, mac: bytes) -> None:
        say(conflict=str(ip_address(address)), mac=mac.hex(":"))

    return device, interface.name, Nic(device, name=interface.name, on_conflict=on_conflict, **wish)


def echo(connection: Connection, now: float) -> None:
    while waiting := connection.read(65536, now, peek=True):
        taken = connection.send(waiting, now)
        connection.read(taken, now)
        if taken < len(waiting):
            return
    if connection.at_end:
        connection.shutdown(now)


def answer(router: Router, event: Event, now: float) -> None:
    stack = router.stack
    match event:
        case FlowRequested(request):
            request.accept(None, now) if request.destination[1] == 7 else request.refuse(now)
        case Readable(connection) | Writable(connection) | PeerClosed(connection):
            try:
                echo(connection, now)
            except LocalError:
                pass
        case Datagram(family, who, port, whom, 7, data, size):
            stack.send_datagram(family, family.key(whom, 7, who, port), bytes(data), size)
        case Echo():
            stack.send_echo_reply(event)


def main() -> None:
    wish = json.loads(sys.argv[1])
    opened = [open_nic(nic) for nic in wish.pop("nics")]
    pairs = [(device, nic) for device, _, nic in opened]
    routes = wish.pop("routes", [])
    router = Router([nic for _, nic in pairs], clock=time.monotonic, **wish)
    for network, number, gateway in routes:
        router.add_route(network, pairs[number][1], gateway=gateway)
    say(opened=[name for _, name, _ in opened])
    sys.stdin.readline()  # the other end is being set up
    router.start()
    settled = False
    buffer = memoryview(bytearray(FRAME_ROOM))
    stack = router.stack
    sources = {device.fileno(): (device, router.receiver(nic)) for device, nic in pairs}
    while True:
        if router.is_settled and not settled:
            settled = True
            say(ready=sorted(str(ip_address(ours)) for _, nic in pairs for ours in nic.usable))
        due = stack.next_deadline()
        ready, _, _ = select.select([*sources, 0], [], [], due and max(0.0, due - time.monotonic()))
        now = time.monotonic()
        if 0 in ready:
            break
        with stack.batch(now):
            for fd in ready:
                device, receive = sources[fd]
                read_batch(device, buffer, lambda frame, length: receive(frame, length, now))  # noqa: B023
        while event := stack.poll_event():
            answer(router, event, now)
        stack.handle_timeout(time.monotonic())
        while event := stack.poll_event():
            answer(router, event, now)
    say(drops=stack.drops, lost=sum(device.lost for device, _ in pairs))


if __name__ == "__main__":
    main()
