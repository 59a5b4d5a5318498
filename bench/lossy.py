"""Speed under loss: our stack beside the kernel's, over the same faulty wire.

    python -m bench.lossy [--seconds 10] [--flows 4] [--seed 1] [--only 20/1 ...]     as root

One end is always the kernel of a namespace, behind a TUN; the other is the kernel of another namespace, or our
stack. Between them lies the wire of device/faulty.py, which loses packets both ways. Whoever is measured first
sends to the fixed end, then receives from it. Several flows share the wire without sharing losses, which makes
a number out of a few seconds. What counts is what the receiving program got.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from random import Random

from tunsmith.device.base import FRAME_ROOM, Device
from tunsmith.device.faulty import FaultyDevice
from tunsmith.device.tun import TunDevice
from tunsmith.host.rtnetlink import RtNetlink
from tunsmith.host.syscalls import CLONE_NEWNET, unshare
from tunsmith.host.tun import open_tun
from tunsmith.stack.config import StackConfig
from tunsmith.stack.stack import Stack
from tunsmith.stack.tcp.connection import Connection
from tunsmith.testing.faults import Faults, Link

CELLS = [(rtt, loss) for rtt in (20, 100) for loss in (0.1, 1.0, 3.0)]
"""Milliseconds, percent."""
NEAR, FAR, PORT = "192.0.2.1", "203.0.113.9", 5001
CHUNK = 1 << 18
TEXT = bytes(CHUNK)


@dataclass(frozen=True)
class Run:
    """One measurement. `far`: "kernel" or "ours"; `sends`: whether the far end sends."""

    far: str
    sends: bool
    rtt: float
    loss: float
    flows: int
    seconds: float
    seed: int


# --- programs on the kernel's sockets ---


def accept(listener: socket.socket, flows: int) -> list[socket.socket]:
    return [listener.accept()[0] for _ in range(flows)]


def connect(sockets: list[socket.socket]) -> list[socket.socket]:
    for each in sockets:
        each.connect((NEAR, PORT))
    return sockets


def program(meet: Callable[[], list[socket.socket]], sends: bool, end: float) -> Callable[[], int]:
    """Run a program in a process of its own until `end`: it sends or receives all it can. Returns what tells,
    once it has ended, how many bytes it received."""
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        with contextlib.ExitStack() as stack:
            pipe = stack.enter_context(open(reading))
            keep = stack.pop_all()

        def result() -> int:
            with keep:
                return int(pipe.read() or 0)

        return result
    received = 0
    try:
        with selectors.DefaultSelector() as selector:
            for sock in meet():
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
                sock.setblocking(False)
                selector.register(sock, selectors.EVENT_WRITE if sends else selectors.EVENT_READ)
            while (left := end - time.monotonic()) > 0:
                for key, _ in selector.select(left):
                    found: socket.socket = key.fileobj  # type: ignore[assignment]
                    with contextlib.suppress(BlockingIOError):
                        if sends:
                            found.send(TEXT)
                        else:
                            received += len(found.recv(CHUNK))
        os.write(writing, str(received).encode())
    finally:
        os._exit(0)


# --- programs on our stack ---


class Owner:
    """Of all our connections: sends or receives all it can."""

    def __init__(self, sends: bool) -> None:
        self.sends = sends
        self.received = 0

    def on_established(self, connection: Connection) -> None:
        self.on_writable(connection)

    def on_data(self, connection: Connection, data: memoryview) -> int:
        self.received += len(data)
        return len(data)

    def on_writable(self, connection: Connection) -> None:
        now = time.monotonic()
        while self.sends and (room := connection.room()):
            connection.send(TEXT[:room], now)

    def on_fin(self, connection: Connection) -> None:
        pass

    def on_closed(self, connection: Connection, error: int) -> None:
        raise RuntimeError(f"a connection has ended: {os.strerror(error)}")


# --- the wire ---


def kernel(name: str, address: str) -> TunDevice:
    """The kernel of a new namespace, behind a TUN. Sockets made from now on are its own."""
    unshare(CLONE_NEWNET)
    device = open_tun(name)
    with RtNetlink() as netlink:
        index = socket.if_nametoindex(name)
        netlink.link_up(index, 1500)
        netlink.address_add(index, ip_address(address))
        netlink.default_route_add(index, socket.AF_INET)
    return device


def frames(device: Device, buffer: memoryview) -> Iterator[memoryview]:
    """What `device` has now, at most a batch of it."""
    with contextlib.suppress(BlockingIOError):
        for _ in range(64):
            yield buffer[: device.read(buffer)]


def measure(run: Run) -> float:
    """Megabits a second."""
    paths = [Link(Faults(Random(run.seed * 2 + way), loss=run.loss, delay=run.rtt / 2)) for way in range(2)]
    near = kernel("near", NEAR)
    listener = socket.create_server((NEAR, PORT))
    wire = FaultyDevice(near, paths[0], paths[1])
    began = time.monotonic()
    end = began + run.seconds
    near_result = program(lambda: accept(listener, run.flows), not run.sends, end)
    received = bridge(run, wire, end) if run.far == "kernel" else our_end(run, wire, end)
    return (near_result() if run.sends else received) * 8 / run.seconds / 1e6


def bridge(run: Run, wire: Device, end: float) -> int:
    """The kernel at the far end. Returns the bytes received there."""
    far = kernel("far", FAR)
    sockets = [socket.socket() for _ in range(run.flows)]
    result = program(lambda: connect(sockets), run.sends, end)
    buffer = memoryview(bytearray(FRAME_ROOM))
    poller = select.poll()
    poller.register(wire.fileno(), select.POLLIN)
    poller.register(far.fileno(), select.POLLIN)
    while (now := time.monotonic()) < end:
        poller.poll((end - now) * 1000)
        for frame in frames(wire, buffer):
            far.write((frame,))
        for frame in frames(far, buffer):
            wire.write((frame,))
    return result()


def our_end(run: Run, wire: Device, end: float) -> int:
    """Our stack at the far end. Returns the bytes received there."""
    owner = Owner(run.sends)
    stack = Stack(StackConfig(), emit=wire.write)
    now = time.monotonic()
    for number in range(run.flows):
        ends = (ip_address(FAR).packed, 40000 + number, ip_address(NEAR).packed, PORT)
        assert stack.connect(*ends, now, owner) is not None
    buffer = memoryview(bytearray(FRAME_ROOM))
    poller = select.poll()
    poller.register(wire.fileno(), select.POLLIN)
    while (now := time.monotonic()) < end:
        due = stack.next_deadline()
        poller.poll(max(0.0, min(end, end if due is None else due) - now) * 1000)
        now = time.monotonic()
        with stack.batch(now):
            for frame in frames(wire, buffer):
                stack.receive_frame(buffer, len(frame), now)
        stack.handle_timeout(now)
    if os.environ.get("TUNSMITH_BENCH_VERBOSE"):
        for connection in stack.connections.values():
            sender = connection.sender
            print(
                sender.retransmits, sender.cc.cwnd // sender.mss, sender.rtt.srtt, sender.rtt.rto,
                file=sys.stderr,
            )  # fmt: skip
    return owner.received


def in_a_process(run: Run) -> float:
    """`measure` in a process of its own, as it moves to other namespaces."""
    result = subprocess.run(
        [sys.executable, "-m", "bench.lossy", "--run", json.dumps(vars(run))],
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return float(result.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.lossy", description="Speed under loss, beside the kernel."
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="of each run")
    parser.add_argument("--flows", type=int, default=4, help="at once")
    parser.add_argument("--seed", type=int, default=1, help="of the losses")
    parser.add_argument("--only", nargs="*", metavar="RTT/LOSS", help="cells: milliseconds and percent")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.run:
        print(measure(Run(**json.loads(asked.run))))
        return
    print("| RTT ms | loss % | kernel to kernel | our sender | | our receiver | |")
    print("|---|---|---|---|---|---|---|")
    for rtt, loss in CELLS:
        if asked.only and f"{rtt}/{loss:g}" not in asked.only:
            continue
        speeds = [
            in_a_process(Run(far, sends, rtt / 1000, loss / 100, asked.flows, asked.seconds, asked.seed))
            for far, sends in (("kernel", True), ("kernel", False), ("ours", True), ("ours", False))
        ]
        kernels = sum(speeds[:2]) / 2
        print(
            f"| {rtt} | {loss:g} | {kernels:.2f} | {speeds[2]:.2f} | {speeds[2] / kernels:.0%} "
            f"| {speeds[3]:.2f} | {speeds[3] / kernels:.0%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
