"""Published TCP ports: every client becomes a connection of the stack to the server inside.

The kernel has accepted the client before the server is asked; a server that then refuses is passed on as RST,
the nearest to the truth that a client can still be told.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import TYPE_CHECKING

from tunsmith.errors import LocalError
from tunsmith.flow import Target
from tunsmith.relay.poller import IN, NOTHING, Poller
from tunsmith.relay.report import FlowRecord
from tunsmith.relay.tcp import TcpRelay
from tunsmith.wire.ip import IPV4, IPV6, IpFamily

if TYPE_CHECKING:
    from tunsmith.relay.publish import Doorway, Surroundings
    from tunsmith.stack.stack import Stack
    from tunsmith.stack.tcp.connection import Connection

ACCEPTS = 64
"""Clients accepted before other flows get their turn."""
PAUSE = 0.5
"""Seconds without accepting, when there are no more descriptors."""
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

Ends = tuple[bytes, int, bytes, int]
"""Source address and port, destination address and port."""


class TcpPort:
    """One listening socket; owns it."""

    def __init__(
        self, sock: socket.socket, family: IpFamily, inner_port: int, doorway: Doorway, around: Surroundings
    ) -> None:
        self._sock = sock
        self._family = family
        self._inner_port = inner_port
        self._doorway = doorway
        self._around = around
        self._label = str(Target(*sock.getsockname()[:2]))
        self._resumption: asyncio.TimerHandle | None = None
        around.poller.watch(sock.fileno(), IN, self._on_ready)

    def _on_ready(self, _: int) -> None:
        for _ in range(ACCEPTS):
            try:
                sock, address = self._sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                self._around.drops["publish_accept_failed"] += 1
                if error.errno in _EXHAUSTED:
                    self._pause()
                    return
                continue  # an error of that client: accept(2)
            self._receive(sock, *address[:2])

    def _pause(self) -> None:
        around = self._around
        around.poller.change(self._sock.fileno(), IN, NOTHING)
        self._resumption = around.loop.call_later(PAUSE, self._resume)

    def _resume(self) -> None:
        self._resumption = None
        self._around.poller.change(self._sock.fileno(), NOTHING, IN)

    def _receive(self, sock: socket.socket, host: str, port: int) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        client = ip_address(host.partition("%")[0]).packed
        family, server, around = self._family, self._doorway.server(self._family), self._around
        now = self._around.clock()
        record = FlowRecord(
            "tcp",
            family,
            family.key(client, port, server, self._inner_port),
            Target(ip_address(server).compressed, self._inner_port),
            "publish",
            self._label,
            now,
            last=now,
        )
        relay = Visit(
            around.poller,
            sock,
            record,
            around.on_relay_end,
            around.clock,
            around.stack,
            self._attempts(client, port),
        )
        around.admit(relay)
        relay.open()

    def _attempts(self, client: bytes, port: int) -> Iterator[Iterator[Ends]]:
        """The ways to the server: for each, ends to choose from."""
        doorway, inner_port = self._doorway, self._inner_port
        other = IPV6 if self._family is IPV4 else IPV4
        for family, faces in (
            (self._family, doorway.faces(self._family, client, port)),
            (other, doorway.masks(other)),
        ):
            yield ((*face, doorway.server(family), inner_port) for face in faces)

    def expire(self, now: float) -> None:
        """The engine sees to idle relays."""

    def close(self) -> None:
        """Stop listening; idempotent."""
        if self._resumption is not None:
            self._resumption.cancel()
        if self._sock.fileno() >= 0:
            self._around.poller.forget(self._sock.fileno())
            self._sock.close()


class Visit(TcpRelay):
    """A client and its connection to the server inside; bytes move once that is established."""

    __slots__ = ("_attempts", "_established", "_stack")

    def __init__(
        self,
        poller: Poller,
        sock: socket.socket,
        record: FlowRecord,
        on_end: Callable[[TcpRelay], None],
        clock: Callable[[], float],
        stack: Stack,
        attempts: Iterator[Iterator[Ends]],
    ) -> None:
        super().__init__(poller, sock, record, on_end, clock)
        self._stack = stack
        self._attempts = attempts
        self._established = False

    def open(self) -> None:
        """Ask the server, in the first way; the client is reset where there is none."""
        if not self._try_next():
            self.abort("no port left")

    def _try_next(self) -> bool:
        now = self._clock()
        for ends in next(self._attempts, iter(())):
            try:
                self.connection = self._stack.connect(*ends, now, self)
            except LocalError:
                continue  # these ends are in use
            return True
        return False

    def on_established(self, connection: Connection) -> None:
        """The server has accepted."""
        self._established = True
        self.start(connection)

    def on_closed(self, connection: Connection, error: int) -> None:
        """Before it is established: refused, or no answer. There may be another way."""
        if self._established or not self._try_next():
            super().on_closed(connection, error)
