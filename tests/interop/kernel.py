"""Our stack against this machine's kernel, over a TUN and a bad path. Wants a network namespace of its own.

    python -m tests.interop.kernel SEED OFFLOAD DIRECTION

The kernel's side are blocking sockets in threads; ours is driven by hand, in real time. Each conversation
sends text both ways, closes in turn, and is compared byte by byte. Prints one line of JSON.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import threading
import time
from contextlib import closing
from ipaddress import ip_address
from pathlib import Path
from random import Random

from tests.sim.transfer import text
from tunsmith.device.base import FRAME_ROOM, TSO, Device
from tunsmith.device.faulty import FaultyDevice
from tunsmith.device.tun import TunDevice
from tunsmith.host.rtnetlink import RtNetlink
from tunsmith.host.tun import open_tun
from tunsmith.stack.config import StackConfig
from tunsmith.stack.request import FlowRequest
from tunsmith.stack.stack import Stack
from tunsmith.stack.tcp.connection import Connection
from tunsmith.testing.faults import Faults, Link

KERNEL = {4: "192.0.2.1", 6: "2001:db8::1"}
OURS = {4: "203.0.113.9", 6: "2001:db8:1::9"}
UP, DOWN = 300_000, 400_000
PATIENCE = 60.0


class Server:
    """Our side of one connection: takes all, then answers, then closes."""

    def __init__(self, answer: bytes) -> None:
        self.answer = memoryview(answer)
        self.received = bytearray()
        self.error: int | None = None

    def on_established(self, connection: Connection) -> None:
        pass

    def on_data(self, connection: Connection, data: memoryview) -> int:
        self.received += data
        return len(data)

    def on_writable(self, connection: Connection) -> None:
        now = time.monotonic()
        while self.answer:
            taken = connection.send(bytes(self.answer[:50_000]), now)
            if not taken:
                return
            self.answer = self.answer[taken:]
        connection.shutdown(now)

    def on_fin(self, connection: Connection) -> None:
        self.on_writable(connection)

    def on_closed(self, connection: Connection, error: int) -> None:
        self.error = error


class Host:
    """Owner of the stack: every flow gets a `Server`."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.servers: list[Server] = []

    def on_flow(self, request: FlowRequest) -> None:
        server = Server(self.answer)
        if request.accept(server, time.monotonic()) is not None:
            self.servers.append(server)

    def on_datagram(self, *_: object) -> None:
        pass

    def on_echo(self, *_: object) -> None:
        pass

    def on_datagram_error(self, *_: object) -> None:
        pass


def tun() -> TunDevice:
    """A TUN whose other end is this namespace's kernel."""
    device = open_tun("tun7")
    with RtNetlink() as netlink:
        index = socket.if_nametoindex("tun7")
        netlink.link_up(index, 1500)
        for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6)):
            netlink.address_add(index, ip_address(KERNEL[version]))
            netlink.default_route_add(index, family)
    return device


def drive(stack: Stack, device: Device, busy: list[threading.Thread]) -> None:
    """Run the stack until the kernel's side is done and nothing is left on ours."""
    buffer = memoryview(bytearray(FRAME_ROOM))
    poller = select.poll()
    poller.register(device.fileno(), select.POLLIN)
    end = time.monotonic() + PATIENCE
    while any(thread.is_alive() for thread in busy) or stack.connections:
        now = time.monotonic()
        if now > end:
            raise TimeoutError(f"still open: {[c.state.value for c in stack.connections.values()]}")
        due = stack.next_deadline()
        poller.poll(20 if due is None else max(0, min(20, (due - now) * 1000)))
        now = time.monotonic()
        with stack.batch(now):
            try:
                for _ in range(64):
                    stack.receive_frame(buffer, device.read(buffer), now)
            except BlockingIOError:
                pass
        stack.handle_timeout(now)


def converse(sock: socket.socket, up: bytes, down: bytes, failures: list[str]) -> None:
    """The kernel's side of one conversation."""
    try:
        with sock:
            sock.settimeout(PATIENCE)
            sock.sendall(up)
            sock.shutdown(socket.SHUT_WR)
            received = bytearray()
            while piece := sock.recv(1 << 16):
                received += piece
            if bytes(received) != down:
                failures.append(f"the kernel received {len(received)} bytes, and not the right ones")
    except OSError as error:
        failures.append(f"kernel: {error}")


def client(family: int, address: str, up: bytes, down: bytes, failures: list[str]) -> None:
    """The kernel opens a connection to us."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.settimeout(PATIENCE)
    try:
        sock.connect((address, 80))
    except OSError as error:
        failures.append(f"kernel: {error}")
        return
    converse(sock, up, down, failures)


def service(listener: socket.socket, up: bytes, down: bytes, failures: list[str]) -> None:
    """The kernel waits for ours."""
    with listener:
        converse(listener.accept()[0], up, down, failures)


def main(seed: int, offload: bool, direction: str) -> None:
    for name in ("disable_ipv6", "accept_dad"):
        Path(f"/proc/sys/net/ipv6/conf/default/{name}").write_text("0")
    inner = tun()
    granted = inner.offload
    paths = [
        Link(
            Faults(
                Random(seed * 2 + way),
                loss=0.02,
                duplicate=0.02,
                reorder=0.05,
                corrupt=0.01,
                hold=0.01,
                delay=0.002,
                jitter=0.001,
            )
        )
        for way in range(2)
    ]
    device = FaultyDevice(inner, paths[0], paths[1])
    up, down = text(seed, UP), text(seed + 1, DOWN)
    host = Host(down)
    failures: list[str] = []
    threads: list[threading.Thread] = []
    with closing(device):
        config = StackConfig(offload=offload and granted & TSO == TSO)
        stack = Stack(config, emit=device.write, handler=host)
        for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6)):
            if direction == "in":
                where = (family, OURS[version], up, down, failures)
                threads.append(threading.Thread(target=client, args=where))
            else:
                listener = socket.create_server((KERNEL[version], 80), family=family)
                listener.settimeout(PATIENCE)
                threads.append(threading.Thread(target=service, args=(listener, up, down, failures)))
                host.servers.append(Server(down))
                ends = (ip_address(OURS[version]).packed, 1234, ip_address(KERNEL[version]).packed, 80)
                stack.connect(*ends, time.monotonic(), host.servers[-1])
            threads[-1].start()
        drive(stack, device, threads)
    failures += [
        f"we received {len(server.received)} bytes, error {server.error}"
        for server in host.servers
        if bytes(server.received) != up or server.error != 0
    ]
    accidents = paths[0].faults.counts + paths[1].faults.counts
    print(json.dumps({"failures": failures, "servers": len(host.servers), **accidents}))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2] == "offload", sys.argv[3])
