"""Ends and an emulated path between them, for measurements beside the kernel's stack.

One end, near, is always the kernel of a namespace, behind a TUN. The far ends are the kernel of another
namespace, or our stack, or both. Between them lies device/faulty.py, whose paths the measurement chooses:

    near kernel -- TUN -- FaultyDevice -- far kernel (TUN) | our Stack

Programs on kernels are processes of their own; our stack, its program and the path share one. Kernels are as
Linux is made: CUBIC and its usual limits of buffers, whatever this machine has.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import selectors
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Protocol

from tunsmith.device.base import FRAME_ROOM, Device
from tunsmith.device.tun import TunDevice
from tunsmith.host.rtnetlink import RtNetlink
from tunsmith.host.syscalls import CLONE_NEWNET, unshare
from tunsmith.host.tun import open_tun
from tunsmith.stack.config import StackConfig
from tunsmith.stack.stack import Stack
from tunsmith.stack.tcp.connection import Connection
from tunsmith.wire.vnet import VNET_HDR_LEN

NEAR, FAR, OTHER_FAR, PORT = "192.0.2.1", "203.0.113.9", "203.0.113.10", 5001
FIRST_PORT = 40000
"""Of far ends: the same for the kernel and for us, so that what happens to a flow can depend on it."""
Received = dict[str, int]
"""Bytes that programs got, by the far end of the flow: address and port."""

_SYSCTLS = {
    "tcp_congestion_control": "reno",  # sockets choose CUBIC; from BBR they would inherit its pacing
    "tcp_rmem": "4096 131072 6291456",
    "tcp_wmem": "4096 16384 4194304",
    "tcp_no_metrics_save": "1",
}
_SIOCSIFTXQLEN = 0x8943
_QUEUE = 10_000
"""Packets that wait in a TUN: nothing is to be lost there."""
_CHUNK = 1 << 18
_TEXT = bytes(_CHUNK)
_BATCH = 64


def kernel(name: str, address: str) -> TunDevice:
    """The kernel of a new namespace, behind a TUN. Sockets made from now on are its own."""
    unshare(CLONE_NEWNET)
    for key, value in _SYSCTLS.items():
        Path("/proc/sys/net/ipv4", key).write_text(value)
    device = open_tun(name)
    with RtNetlink() as netlink, socket.socket() as sock:
        fcntl.ioctl(sock, _SIOCSIFTXQLEN, struct.pack("16si12x", name.encode(), _QUEUE))
        index = socket.if_nametoindex(name)
        netlink.link_up(index, 1500)
        netlink.address_add(index, ip_address(address))
        netlink.default_route_add(index, socket.AF_INET)
    return device


# --- programs on the kernel's sockets ---


def new_socket(address: str, port: int) -> socket.socket:
    """With CUBIC, which accepted ones inherit; nothing of it blocks."""
    sock = socket.socket()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
    sock.setblocking(False)
    sock.bind((address, port))
    return sock


def program(run: Callable[[], Received]) -> Callable[[], Received]:
    """Run `run` in a process of its own. Returns what waits for its result."""
    reading, writing = os.pipe()
    if not os.fork():
        try:
            os.close(reading)
            os.write(writing, json.dumps(run()).encode())
        finally:
            os._exit(0)
    os.close(writing)

    def result() -> Received:
        with open(reading) as pipe:
            received: Received = json.loads(pipe.read())
        return received

    return result


def serve(listener: socket.socket, sends: bool, end: float) -> Received:
    """Accept all flows until `end`, and send or receive all they can."""
    received: Received = {}
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        while (left := end - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                if key.fileobj is not listener:
                    _exchange(key, sends, received)
                    continue
                sock, (address, port) = listener.accept()
                sock.setblocking(False)
                name = f"{address}:{port}"
                selector.register(sock, selectors.EVENT_WRITE if sends else selectors.EVENT_READ, name)
    return received


def connect(address: str, starts: list[float], sends: bool, end: float) -> Received:
    """Connect a flow at each of `starts`, and send or receive all they can until `end`."""
    received: Received = {}
    waiting = [(start, FIRST_PORT + number) for number, start in enumerate(starts)]
    with selectors.DefaultSelector() as selector:
        while (now := time.monotonic()) < end:
            while waiting and waiting[0][0] <= now:
                port = waiting.pop(0)[1]
                sock = new_socket(address, port)
                sock.connect_ex((NEAR, PORT))
                events = selectors.EVENT_WRITE if sends else selectors.EVENT_READ
                selector.register(sock, events, f"{address}:{port}")
            until = waiting[0][0] if waiting else end
            for key, _ in selector.select(until - now):
                _exchange(key, sends, received)
    return received


def _exchange(key: selectors.SelectorKey, sends: bool, received: Received) -> None:
    sock: socket.socket = key.fileobj  # type: ignore[assignment]
    with contextlib.suppress(BlockingIOError):
        if sends:
            sock.send(_TEXT)
        else:
            received[key.data] = received.get(key.data, 0) + len(sock.recv(_CHUNK))


# --- far ends ---


class End(Protocol):
    """A far end of the path."""

    fd: int
    """Readable when the end has something to do; -1: it has not, but for packets and time."""

    def batch(self, now: float) -> AbstractContextManager[object]:
        """Packets are received within it."""

    def receive(self, buffer: memoryview, length: int, now: float) -> None:
        """A frame has arrived: the beginning of `buffer`."""

    def step(self, now: float) -> None:
        """Do what is due, and send what there is to send."""

    def next_deadline(self) -> float | None:
        """When `step` has something to do without a frame."""


class KernelEnd:
    """The kernel of a new namespace, with a program that connects."""

    def __init__(self, address: str, starts: list[float], sends: bool, end: float, wire: Device) -> None:
        self._device = kernel("far", address)
        self.fd = self._device.fileno()
        self._wire = wire
        self._buffer = memoryview(bytearray(FRAME_ROOM))
        self.result = program(lambda: connect(address, starts, sends, end))

    def batch(self, now: float) -> AbstractContextManager[object]:
        return nullcontext()

    def receive(self, buffer: memoryview, length: int, now: float) -> None:
        self._device.write((buffer[:length],))

    def step(self, now: float) -> None:
        for length in frames(self._device, self._buffer):
            self._wire.write((self._buffer[:length],))

    def next_deadline(self) -> float | None:
        return None


class StackEnd:
    """Our stack, with a program that connects a flow at each of `starts`."""

    fd = -1

    def __init__(
        self, address: str, starts: list[float], sends: bool, config: StackConfig, wire: Device
    ) -> None:
        self.stack = Stack(config, emit=wire.write)
        self.flows: list[Flow] = []
        self._address = address
        self._starts = starts
        self._sends = sends

    @property
    def received(self) -> Received:
        return {f"{self._address}:{flow.port}": flow.received for flow in self.flows}

    def batch(self, now: float) -> AbstractContextManager[object]:
        return self.stack.batch(now)

    def receive(self, buffer: memoryview, length: int, now: float) -> None:
        self.stack.receive_frame(buffer, length, now)

    def step(self, now: float) -> None:
        while self._starts and self._starts[0] <= now:
            del self._starts[0]
            flow = Flow(FIRST_PORT + len(self.flows), self._sends)
            self.flows.append(flow)
            ends = (ip_address(self._address).packed, flow.port, ip_address(NEAR).packed, PORT)
            flow.connection = self.stack.connect(*ends, now, flow)
        self.stack.handle_timeout(now)

    def next_deadline(self) -> float | None:
        deadlines = [self.stack.next_deadline(), self._starts[0] if self._starts else None]
        return min((deadline for deadline in deadlines if deadline is not None), default=None)


class Flow:
    """Owner of a connection of ours: it sends or receives all it can."""

    connection: Connection

    def __init__(self, port: int, sends: bool) -> None:
        self.port = port
        self.received = 0
        self._sends = sends

    def on_established(self, connection: Connection) -> None:
        self.on_writable(connection)

    def on_data(self, connection: Connection, data: memoryview) -> int:
        self.received += len(data)
        return len(data)

    def on_writable(self, connection: Connection) -> None:
        now = time.monotonic()
        while self._sends and (room := connection.room()):
            connection.send(_TEXT[:room], now)

    def on_fin(self, connection: Connection) -> None:
        pass

    def on_closed(self, connection: Connection, error: int) -> None:
        raise RuntimeError(f"a connection has ended: {os.strerror(error)}")


# --- the path ---


def near_end(sends: bool, end: float) -> tuple[TunDevice, Callable[[], Received]]:
    """The near kernel, with a program that accepts."""
    device = kernel("near", NEAR)
    listener = new_socket(NEAR, PORT)
    listener.listen()
    return device, program(lambda: serve(listener, sends, end))


def carry(wire: Device, ends: dict[str, End], end: float) -> None:
    """Move frames until `end`: what comes over `wire` to the far end that has its address."""
    packed = {ip_address(address).packed: far for address, far in ends.items()}
    buffer = memoryview(bytearray(FRAME_ROOM))
    poller = select.poll()
    for fd in (wire.fileno(), *(far.fd for far in ends.values())):
        if fd >= 0:
            poller.register(fd, select.POLLIN)
    destination = slice(VNET_HDR_LEN + 16, VNET_HDR_LEN + 20)
    while (now := time.monotonic()) < end:
        dues = [due for far in ends.values() if (due := far.next_deadline()) is not None]
        poller.poll(max(0.0, min(dues, default=end) - now) * 1000)
        now = time.monotonic()
        with ExitStack() as batches:
            for far in ends.values():
                batches.enter_context(far.batch(now))
            for length in frames(wire, buffer):
                if (found := packed.get(bytes(buffer[destination]))) is not None:  # not a kernel's MLD
                    found.receive(buffer, length, now)
        for far in ends.values():
            far.step(now)


def frames(device: Device, buffer: memoryview) -> Iterator[int]:
    """What `device` has now, at most a batch of it: the lengths of what lies in `buffer`, one after the other."""
    with contextlib.suppress(BlockingIOError):
        for _ in range(_BATCH):
            yield device.read(buffer)


def in_a_process(module: str, run: object) -> Any:
    """What `python -m MODULE --run RUN` prints, RUN and that being JSON: a measurement moves to other namespaces."""
    command = [sys.executable, "-m", module, "--run", json.dumps(vars(run))]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(result.stdout)
