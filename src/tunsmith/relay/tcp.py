"""One TCP flow between a connection of the stack and an upstream socket.

    application -> stack -> on_data ----------> sock.send      what the socket does not take stays in the
                            flush   <-- socket writable        connection; its window closes
    upstream -> sock readable -> connection.send -> stack      a full send buffer stops the reading

Each direction ends on its own: FIN becomes shutdown(SHUT_WR) and the other way round; RST becomes RST.
No tasks and no streams: two callbacks a flow, bytes touched once.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Callable

from tunsmith.config import Limits
from tunsmith.relay.poller import BROKEN, ERROR, IN, NOTHING, OUT, PRI, RDHUP, Poller
from tunsmith.relay.report import FlowRecord
from tunsmith.stack.tcp.connection import Connection

SLICE = 1 << 18
"""Bytes taken out of the connection at a time when the socket drains."""
TEXT = IN | PRI | RDHUP
"""The interest of who reads."""
CUT = PRI | ERROR
"""Urgent text cuts reads short, and a reset all that was to come: the end is not what follows then."""
_RST_ON_CLOSE = struct.pack("ii", 1, 0)


class TcpRelay:
    """Handler of one connection and owner of one upstream socket. `on_end(relay)` is called once."""

    __slots__ = (
        "_blocked",
        "_clock",
        "_fd",
        "_interest",
        "_on_end",
        "_paused",
        "_pending",
        "_poller",
        "_recv",
        "_send",
        "_upstream_ended",
        "connection",
        "record",
        "sock",
    )

    def __init__(
        self,
        poller: Poller,
        sock: socket.socket,
        record: FlowRecord,
        on_end: Callable[[TcpRelay], None],
        clock: Callable[[], float],
    ) -> None:
        self._poller = poller
        self._interest = NOTHING
        self.sock = sock
        self._fd = sock.fileno()
        self._recv = sock.recv
        self._send = sock.send
        self.record = record
        self._on_end = on_end
        self._clock = clock
        self.connection: Connection | None = None
        self._pending: memoryview | None = None
        self._blocked = False
        """The socket takes no more; it is watched for OUT."""
        self._paused = False
        """The connection takes no more; the socket is not watched for IN."""
        self._upstream_ended = False

    @property
    def blocked(self) -> bool:
        """Whether the upstream takes no more for the moment."""
        return self._blocked

    @property
    def undelivered(self) -> int:
        """Bytes that the upstream's side has not confirmed yet: SIOCOUTQ, tcp(7)."""
        import fcntl  # rarely needed, and not everywhere
        import termios

        return int.from_bytes(fcntl.ioctl(self._fd, termios.TIOCOUTQ, bytes(4)), sys.byteorder)

    @property
    def finished(self) -> bool:
        """Whether all that the application will ever send has been handed to the upstream, and its end."""
        connection = self.connection
        return connection is None or (connection.fin_seen and not self._blocked)

    def start(self, connection: Connection, early: bytes = b"") -> None:
        """Begin: `early` bytes of the upstream go first."""
        self.connection = connection
        if early:
            self.record.down += len(early)
            connection.send(early, self._clock())
        self._interest = TEXT
        self._poller.watch(self._fd, TEXT, self._on_ready)

    def _on_ready(self, events: int) -> None:
        if not self._upstream_ended:
            if events & ~OUT and self._read_upstream(events):
                self._read_upstream(events)  # two in a row at the most: then others get their turn
        elif events & BROKEN and not self._blocked:
            self._on_upstream_broken()
        if self._blocked and events & ~TEXT:
            self._on_upstream_writable()

    def _watch(self) -> None:
        """Wait for what can be used: text, unless the connection is full or there is no more; room, if we
        have something for it; else a reset, where only that can still come."""
        interest = OUT if self._blocked else NOTHING
        if not self._upstream_ended:
            if not self._paused:
                interest |= TEXT
        elif not interest and self.connection is not None and not self.connection.fin_seen:
            interest = BROKEN
        if interest != self._interest:
            self._poller.change(self._fd, self._interest, interest)
            self._interest = interest

    # --- application to upstream ---

    def on_established(self, connection: Connection) -> None:
        """The application knows that it is connected; nothing to do."""

    def on_data(self, connection: Connection, data: memoryview) -> int:
        """Straight from the device buffer into the socket."""
        if self._blocked:
            return 0
        try:
            sent = self._send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            if not self._is_still_heard(connection, error):
                self._fail(error)
            return len(data)
        record = self.record
        record.up += sent
        record.last = self._clock()
        if sent < len(data):
            self._blocked = True
            self._watch()
        return sent

    def _on_upstream_writable(self) -> None:
        connection = self.connection
        if connection is None:
            return
        now = self._clock()
        try:
            while self._pending or connection.readable_bytes:
                if not self._pending:
                    self._pending = memoryview(connection.read(SLICE, now))
                sent = self._send(self._pending)
                self.record.up += sent
                self.record.last = now
                self._pending = self._pending[sent:]
        except BlockingIOError:
            return
        except OSError as error:
            if not self._is_still_heard(connection, error):
                self._fail(error)
                return
            while connection.readable_bytes:
                connection.read(SLICE, now)
        self._pending = None
        self._blocked = False
        self._watch()
        if connection.fin_seen:
            self.on_fin(connection)

    def _is_still_heard(self, connection: Connection, error: OSError) -> bool:
        """Whether an upstream that takes no more text has said its last words and end (so EPIPE tells; without
        an end it is ECONNRESET) and not all have reached the application: a RST now would take them back."""
        return error.errno == errno.EPIPE and (not self._upstream_ended or connection.unacknowledged > 0)

    def on_fin(self, connection: Connection) -> None:
        """The application closed its half; the upstream hears of it after the last byte."""
        if self._blocked:
            return
        if self._upstream_ended:
            self._close(reset=False)  # both halves are over: what is left is the stack's business
        else:
            self._end_upstream()

    def _end_upstream(self) -> None:
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                self._fail(error)

    # --- upstream to application ---

    def _read_upstream(self, events: int) -> bool:
        """Read once. Returns whether there is likely to be more."""
        connection = self.connection
        if connection is None:
            return False
        room = connection.room()
        if not room:
            self._paused = True
            self._watch()
            return False
        try:
            data = self._recv(room)
        except BlockingIOError:
            return False
        except OSError as error:
            self._fail(error)
            return False
        length = len(data)
        now = self._clock()
        record = self.record
        record.down += length
        record.last = now
        if not length or (length < room and events & (RDHUP | CUT) == RDHUP):
            self._upstream_ended = True
            self._watch()
            connection.send(data, now, end=True)
            return False
        connection.send(data, now)
        return length == room

    def _on_upstream_broken(self) -> None:
        """A reset after the upstream's end. The application hears of it at once if it has everything that was said
        before; otherwise when it sends again."""
        code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        connection = self.connection
        if code and connection is not None and not connection.unacknowledged:
            self._fail(OSError(code, os.strerror(code)))
        else:
            self._poller.change(self._fd, self._interest, NOTHING)
            self._interest = NOTHING

    def on_writable(self, connection: Connection) -> None:
        """The send buffer has room again."""
        if self._paused and not self._upstream_ended:
            self._paused = False
            self._watch()

    # --- the end ---

    def on_closed(self, connection: Connection, error: int) -> None:
        """The connection is over: orderly, or by a reset that the upstream is to see as one. After an orderly
        end there may still be text that the upstream has had no room for; it is the last thing to go."""
        if self._blocked and not error:
            return
        if self.record.outcome == "open":
            self.record.outcome = "closed" if not error else _word(error)
        self._close(reset=bool(error))

    def _fail(self, error: OSError) -> None:
        """The upstream broke off: RST to the application."""
        self.record.outcome = f"upstream {_word(error.errno or 0)}"
        connection = self.connection
        self._close(reset=True)
        if connection is not None:
            connection.abort(self._clock())

    def abort(self, outcome: str) -> None:
        """End both sides at once, by RST; an upstream that has been told the end already just loses a reader,
        for a reset would throw away what its socket has not sent yet."""
        self.record.outcome = outcome
        connection = self.connection
        self._close(reset=not self.finished)
        if connection is not None:
            connection.abort(self._clock())

    def expire(self, limits: Limits, now: float) -> None:
        """End both sides if no text has moved for too long."""
        if now - self.record.last >= limits.tcp_idle:
            self.abort("idle")

    def _close(self, *, reset: bool) -> None:
        if self._fd < 0:
            return
        self._poller.forget(self._fd)
        self._fd = -1
        if reset:
            try:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
            except OSError:
                pass
        self.sock.close()
        self.connection = None
        if self.record.outcome == "open":
            self.record.outcome = "closed"
        self._on_end(self)


def _word(code: int) -> str:
    return {errno.ECONNRESET: "reset", errno.EPIPE: "reset", errno.ETIMEDOUT: "timeout"}.get(
        code, os.strerror(code).lower() if code else "closed"
    )
