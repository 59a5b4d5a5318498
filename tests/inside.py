"""The application's side of an engine, and an upstream that is scripted: no kernel, no network, real loop.

Inside: a stack at the other end of the engine's device     Upstream: a dialer whose sockets the test holds
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from tunsmith.device.base import FRAME_ROOM
from tunsmith.device.memory import MemoryDevice
from tunsmith.dial.base import DatagramFault, Datagrams, Pings, Stream
from tunsmith.errors import DialError, DialUnsupported
from tunsmith.flow import Target
from tunsmith.stack.config import StackConfig
from tunsmith.stack.events import Closed, Datagram, Event
from tunsmith.stack.stack import Stack
from tunsmith.stack.tcp.connection import Connection
from tunsmith.wire.ip import IPV4

HERE = bytes((198, 18, 0, 1))
GATEWAY = bytes((198, 18, 0, 2))
THERE = bytes((192, 0, 2, 7))
PATIENCE = 10.0

Found = TypeVar("Found")


async def until(look: Callable[[], Found], what: str = "it") -> Found:
    """Poll until `look()` gives something true, and give that; fails after PATIENCE seconds."""
    deadline = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < deadline, f"{what} did not happen"
        await asyncio.sleep(0.001)
    return found


class Inside:
    """The kernel of the application."""

    def __init__(self, device: MemoryDevice) -> None:
        self._device = device
        self._buffer = memoryview(bytearray(FRAME_ROOM))
        self.stack = Stack(StackConfig(addresses=(HERE,), any_destination=False), emit=device.write)
        self.events: list[Event] = []
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(device.fileno(), self._read)
        self._tick()

    def close(self) -> None:
        self._timer.cancel()
        self._loop.remove_reader(self._device.fileno())
        self._device.close()

    def _tick(self) -> None:
        self.stack.handle_timeout(time.monotonic())
        self._timer = self._loop.call_later(0.02, self._tick)

    def _read(self) -> None:
        now = time.monotonic()
        with self.stack.batch(now):
            try:
                while True:
                    self.stack.receive_frame(self._buffer, self._device.read(self._buffer), now)
            except BlockingIOError:
                pass
        while (event := self.stack.poll_event()) is not None:
            self.events.append(event)

    def emit(self, frame: bytes) -> None:
        """Send what the kernel itself would not."""
        self._device.write((frame,))

    def connect(self, port: int = 80, source_port: int = 40000, host: bytes = THERE) -> Connection:
        return self.stack.connect(HERE, source_port, host, port, time.monotonic())

    def send_datagram(self, data: bytes, port: int, source_port: int = 40000) -> None:
        self.stack.send_datagram(IPV4, IPV4.key(HERE, source_port, THERE, port), data)

    def closed(self, connection: Connection) -> list[int]:
        """With which errno `connection` was closed; empty while it is not."""
        return [e.error for e in self.events if isinstance(e, Closed) and e.connection is connection]

    def datagrams(self) -> list[bytes]:
        return [bytes(event.data) for event in self.events if isinstance(event, Datagram)]


@dataclass
class Port:
    """An upstream UDP port. The test's end is `far`; one that sends there is the last peer."""

    near: socket.socket
    far: socket.socket
    sent: list[tuple[Target, bytes, int]] = field(default_factory=list)
    closed: bool = False

    def fileno(self) -> int:
        return self.near.fileno()

    def send(self, parts: list[bytes] | list[memoryview], segment_size: int, target: Target) -> None:
        self.sent.append((target, b"".join(parts), segment_size))

    def receive(self) -> tuple[bytes, int, Target]:
        return self.near.recv(65536), 0, self.sent[-1][0]

    def faults(self) -> Iterable[DatagramFault]:
        return ()

    def close(self) -> None:
        self.closed = True
        self.near.close()

    def answer(self, data: bytes) -> None:
        self.far.send(data)


@dataclass
class Upstream:
    """A dialer. `fail` is raised instead of connecting; while `silent`, nothing is answered at all."""

    label: str = "scripted"
    wants_names: bool = False
    carries_udp: bool = True
    carries_ping: bool = False
    fail: DialError | None = None
    silent: bool = False
    streams: list[socket.socket] = field(default_factory=list)
    """The far ends of the connections made."""
    given_up: int = 0
    """Dials that were cancelled."""
    ports: list[Port] = field(default_factory=list)

    async def start(self) -> None:
        pass

    async def open_stream(self, target: Target) -> Stream:
        if self.silent:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.given_up += 1
                raise
        if self.fail is not None:
            raise self.fail
        near, far = socket.socketpair()
        near.setblocking(False)
        far.setblocking(False)
        self.streams.append(far)
        return Stream(near)

    def begin(self, target: Target) -> Stream | Awaitable[Stream]:
        return self.open_stream(target)

    async def open_datagrams(self, family: int) -> Datagrams:
        if self.fail is not None:
            raise self.fail
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        near.setblocking(False)
        self.ports.append(Port(near, far))
        return self.ports[-1]

    def open_pings(self, family: int) -> Pings:
        raise DialUnsupported("no ping here")

    def close(self) -> None:
        for far in (*self.streams, *(port.far for port in self.ports)):
            far.close()


def heard(sock: socket.socket) -> bytes | None:
    """What has arrived at the far end; None while nothing has, b"" at the end."""
    try:
        return sock.recv(65536)
    except BlockingIOError:
        return None
