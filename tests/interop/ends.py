"""Programs at the two ends: one on our stack, one on the kernel, with the same life.

Each says its text and closes its half, at once or after it has heard all; and hears until the other has closed
its own.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
from collections.abc import Callable
from ipaddress import ip_address

from tests.interop.machine import FAMILY, KERNEL, STACK, Machine
from tests.interop.text import Heard, Text
from tunsmith.stack.request import FlowRequest
from tunsmith.stack.tcp.connection import Connection

READ = 256 << 10


class StackEnd:
    """Ours; the handler of its connection. `polite`: it speaks after it has heard all."""

    def __init__(self, machine: Machine, text: Text, *, polite: bool = False) -> None:
        self.machine = machine
        self.text = text
        self.polite = polite
        self.heard = Heard()
        self.established = self.peer_ended = False
        self.error: int | None = None
        """How it ended; None: it has not."""

    def connect(self, version: int, port: int, own_port: int = 0) -> Connection:
        ends = (ip_address(STACK[version]).packed, own_port, ip_address(KERNEL[version]).packed, port)
        return self.machine.stack.connect(*ends, self.machine.clock(), self)

    def accept(self, request: FlowRequest) -> None:
        request.accept(self, self.machine.clock())

    @property
    def done(self) -> bool:
        return self.error is not None

    def on_established(self, connection: Connection) -> None:
        self.established = True
        if not self.polite:
            self.on_writable(connection)

    def on_data(self, connection: Connection, data: memoryview) -> int:
        self.heard.add(data)
        return len(data)

    def on_writable(self, connection: Connection) -> None:
        now = self.machine.clock()
        while data := self.text.more():
            taken = connection.send(data, now)
            if not taken:
                return
            self.text.taken(taken)
        connection.shutdown(now)

    def on_fin(self, connection: Connection) -> None:
        self.peer_ended = True
        if self.polite:
            self.on_writable(connection)

    def on_closed(self, connection: Connection, error: int) -> None:
        self.error = error


class KernelEnd:
    """A socket of the kernel, connected or about to be."""

    def __init__(self, machine: Machine, sock: socket.socket, text: Text, *, polite: bool = False) -> None:
        self.machine = machine
        self.sock = sock
        self.text = text
        self.polite = polite
        self.heard = Heard()
        self.peer_ended = self.said = self.done = False
        self.error = 0
        sock.setblocking(False)
        machine.selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE, self.advance)

    def advance(self) -> None:
        """Whatever can be done now."""
        try:
            code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, os.strerror(code))
            self._hear()
            if self._may_speak:
                self._say()
        except OSError as error:
            self.error = error.errno or errno.EIO
            self.close()
            return
        if self.said and self.peer_ended:
            self.close()
            return
        events = 0 if self.peer_ended else selectors.EVENT_READ
        if self._may_speak:
            events |= selectors.EVENT_WRITE
        self.machine.selector.modify(self.sock, events, self.advance)

    @property
    def _may_speak(self) -> bool:
        return not self.said and (self.peer_ended or not self.polite)

    def _hear(self) -> None:
        while not self.peer_ended:
            try:
                data = self.sock.recv(READ)
            except BlockingIOError:
                return
            self.heard.add(data)
            self.peer_ended = not data

    def _say(self) -> None:
        while data := self.text.more():
            try:
                self.text.taken(self.sock.send(data))
            except BlockingIOError:
                return
        self.sock.shutdown(socket.SHUT_WR)
        self.said = True

    def close(self) -> None:
        """Done, orderly or not."""
        self.machine.selector.unregister(self.sock)
        self.sock.close()
        self.done = True


def new_socket(version: int, port: int = 0) -> socket.socket:
    """A socket of the kernel at its address on the TUN."""
    sock = socket.socket(FAMILY[version], socket.SOCK_STREAM)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((KERNEL[version], port))
    return sock


def begin_connect(sock: socket.socket, version: int, port: int) -> None:
    """Connect to our stack."""
    code = sock.connect_ex((STACK[version], port))
    if code not in (0, errno.EINPROGRESS):
        raise OSError(code, os.strerror(code))


def serve(
    machine: Machine, listener: socket.socket, accepted: Callable[[socket.socket], None], backlog: int = 128
) -> None:
    """Have the kernel listen; `accepted` gets every connection."""
    listener.listen(backlog)

    def accept() -> None:
        try:
            while True:
                accepted(listener.accept()[0])
        except BlockingIOError:
            pass

    machine.selector.register(listener, selectors.EVENT_READ, accept)
