"""Programs for hosts of a simulated network: they write, they read, and remember what became of it."""

from __future__ import annotations

from tunsmith.stack.request import FlowRequest
from tunsmith.stack.tcp.connection import Connection
from tunsmith.testing.network import Host


class Application:
    """Owner of one connection of `host`: sends `outgoing`, then closes its half; keeps all it receives.

    `chunk`: bytes written at a time; 0 means as much as there is.
    `appetite`, `pause`: bytes read at a time, and seconds between two readings; appetite 0 takes all text
    as it comes, without buffering.
    `wait_for_peer`: close our half only after the peer has closed its own."""

    def __init__(
        self,
        host: Host,
        outgoing: bytes = b"",
        *,
        chunk: int = 0,
        appetite: int = 0,
        pause: float = 0.0,
        wait_for_peer: bool = False,
    ) -> None:
        self.host = host
        self.connection: Connection | None = None
        self.received = bytearray()
        self.established = False
        self.peer_ended = False
        self.error: int | None = None
        """Why the connection ended; None while it has not."""
        self.outgoing = outgoing
        self.unwritten = memoryview(outgoing)
        """What the connection has not taken yet."""
        self._chunk = chunk
        self._appetite = appetite
        self._pause = pause
        self._wait_for_peer = wait_for_peer
        self._reading = False

    def accept(self, request: FlowRequest) -> None:
        """For `Host.on_request`: take the first flow and refuse others, such as old duplicates of its SYN."""
        if self.connection is not None:
            request.refuse(self.host.network.now)
            return
        self.connection = request.accept(self, self.host.network.now)
        if self.connection is not None:
            self._write()

    def connect(self, source: tuple[bytes, int], destination: tuple[bytes, int]) -> Connection:
        """Open a connection from `source` to `destination`, address and port each. Raises LocalError, as
        `Stack.connect` does."""
        self.connection = self.host.stack.connect(*source, *destination, self.host.network.now, self)
        self._write()
        return self.connection

    @property
    def ended(self) -> bool:
        """Whether the connection is over; `error` says how."""
        return self.error is not None

    def on_established(self, connection: Connection) -> None:
        assert not self.established
        self.established = True

    def on_data(self, connection: Connection, data: memoryview) -> int:
        assert not self.peer_ended, "text after FIN"
        if not self._appetite:
            self.received += data
            return len(data)
        self._read_later()
        return 0

    def on_writable(self, connection: Connection) -> None:
        self._write()

    def on_fin(self, connection: Connection) -> None:
        assert not self.peer_ended
        self.peer_ended = True
        if self._wait_for_peer and not self.unwritten:
            connection.shutdown(self.host.network.now)

    def on_closed(self, connection: Connection, error: int) -> None:
        assert self.error is None, "closed twice"
        self.error = error

    def _write(self) -> None:
        connection, now = self.connection, self.host.network.now
        assert connection is not None
        while self.unwritten:
            taken = connection.send(bytes(self.unwritten[: self._chunk or len(self.unwritten)]), now)
            if not taken:
                return
            self.unwritten = self.unwritten[taken:]
        if not self._wait_for_peer or self.peer_ended:
            connection.shutdown(now)

    def _read_later(self) -> None:
        if not self._reading:
            self._reading = True
            self.host.network.call_later(self._pause, self._read)

    def _read(self) -> None:
        self._reading = False
        connection = self.connection
        assert connection is not None
        self.received += connection.read(self._appetite, self.host.network.now)
        if connection.readable_bytes:
            self._read_later()
