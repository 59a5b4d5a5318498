"""A connection of the stack as an asyncio transport: what a socket's transport does, without the socket.

    device -> stack -> on_data ---------> protocol.data_received    paused: text waits in the connection, whose
                       resume_reading --> …                         window closes
    protocol -> write -> connection.send -> stack -> device         no room: it waits here, and above the
                on_writable --> …                                   high-water mark the protocol is told to pause

Text reaches the protocol in the middle of packet processing, not a turn of the loop later. A BufferedProtocol
gets it by one copy from the device's buffer into its own; any other protocol as `bytes`.

`close` lets what was written leave and then ends both halves; the protocol hears `connection_lost(None)` when the
stack has taken everything, as it would with a socket. What remains to be acknowledged is the stack's business.
"""

from __future__ import annotations

import asyncio
import errno
from asyncio.constants import _SendfileMode
from asyncio.transports import _FlowControlMixin
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tunsmith.aio.address import os_error, os_errors, socket_address
from tunsmith.aio.sockets import ConnectedSocket
from tunsmith.aio.statistics import statistics_of
from tunsmith.aio.waiting import Waiting
from tunsmith.stack.tcp.state import State

if TYPE_CHECKING:
    from tunsmith.stack.tcp.connection import Connection

SLICE = 256 << 10
"""Bytes taken out of a connection at a time when reading resumes."""


class Transport(_FlowControlMixin):
    """Handler of one connection, and its owner's end of it. Made before the handshake; `connection_made` comes with
    its end, `connection_lost` once after that.

    `on_open(transport, error)` is told how opening went: None, an OSError, or what `protocol_factory` raised;
    `on_gone(transport)` that the transport is done with. Each is called once.

    `get_extra_info` knows "peername", "sockname" (where the peer wanted to go), "statistics" (a
    ConnectionStatistics of this moment) and "socket" (sockets.py)."""

    # The names are asyncio's own: loop.start_tls and loop.sendfile ask for them, the latter for the base class, too.
    _start_tls_compatible = True
    _sendfile_compatible = _SendfileMode.FALLBACK

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        on_open: Callable[[Transport, Exception | None], None],
        on_gone: Callable[[Transport], None],
    ) -> None:
        super().__init__(None, loop)
        self._loop = loop
        self._clock = clock
        self._factory = protocol_factory
        self._on_open = on_open
        self._on_gone = on_gone
        self._protocol: Any = None
        self._buffered = False
        self._connection: Connection | None = None
        self._waiting = Waiting()
        self._opened = self._closing = self._lost = False
        self._reading, self._resuming = True, False
        self._eof_written = self._eof_told = False
        self._sent = self._received = 0
        self._socket: ConnectedSocket | None = None

    def attach(self, connection: Connection) -> None:
        """`connection` is being opened; this is its handler."""
        self._connection = connection

    # --- the stack's side: ConnectionHandler ---

    def on_established(self, connection: Connection) -> None:
        self._connection = connection
        self._opened = True
        try:
            self.set_protocol(self._factory())
        except Exception as error:
            self.abort()
            self._on_open(self, error)
            return
        self._call("connection_made", self)
        self._on_open(self, None)

    def on_data(self, connection: Connection, data: memoryview | bytes) -> int:
        at, length = 0, len(data)
        while at < length and self._reading and not self._closing:
            try:
                at += self._hand_over(data[at:] if at else data)
            except Exception as error:
                self._report(error, "a protocol failed on what it received")
                self.abort()
        self._received += at
        return at

    def _hand_over(self, data: memoryview | bytes) -> int:
        """Give the protocol some of `data`, and say how much."""
        if not self._buffered:
            self._protocol.data_received(bytes(data))
            return len(data)
        buffer = self._protocol.get_buffer(len(data))
        step = min(len(buffer), len(data))
        if not step:
            raise RuntimeError("get_buffer() returned an empty buffer")
        buffer[:step] = data[:step]
        self._protocol.buffer_updated(step)
        return step

    def on_writable(self, connection: Connection) -> None:
        if not self._lost:
            self._flush(connection)

    def on_fin(self, connection: Connection) -> None:
        self._tell_eof(connection)

    def on_closed(self, connection: Connection, error: int) -> None:
        if not self._opened:
            self._not_opened(os_error(error or errno.ECONNABORTED))
        elif error:
            self._lose(os_error(error))
        elif self._closing or not connection.readable_bytes:
            self._lose(None)
        # else: an orderly end, and text that a paused protocol has not seen; resume_reading goes on from here

    # --- reading ---

    def is_reading(self) -> bool:
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        if not self._resuming and not self._closing:
            self._resuming = True
            self._loop.call_soon(self._resume)

    def _resume(self) -> None:
        """Hand over what has waited, until the protocol pauses again."""
        self._resuming = False
        connection = self._connection
        if connection is None:
            return
        while self._reading and not self._closing:
            text = connection.read(SLICE, self._clock(), peek=self._buffered)
            if not text:
                self._tell_eof(connection)
                if connection.state is State.CLOSED:
                    self._lose(None)
                return
            buffered = self._buffered
            taken = self.on_data(connection, text)
            if buffered and taken and not self._lost:
                connection.read(taken, self._clock())

    def _tell_eof(self, connection: Connection) -> None:
        """The peer's FIN, once all text before it has been seen."""
        if self._eof_told or self._closing or not self._reading or not connection.at_end:
            return
        self._eof_told = True
        if not self._call("eof_received"):
            self.close()

    # --- writing ---

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if type(data) is not bytes:
            if not isinstance(data, bytearray | memoryview):
                raise TypeError(f"data: expecting a bytes-like instance, got {type(data).__name__!r}")
            data = bytes(data)  # the stack keeps what it is given, and this may change
        if self._eof_written:
            raise RuntimeError("Cannot call write() after write_eof()")
        connection = self._connection
        if not data or connection is None or self._closing:
            return  # connection_lost tells, or has told, why
        self._sent += len(data)
        taken = 0 if self._waiting else connection.send(data, self._clock())
        if taken < len(data):
            self._waiting.append(memoryview(data)[taken:])
            self._maybe_pause_protocol()  # type: ignore[attr-defined]  # typeshed hides it

    def _flush(self, connection: Connection) -> None:
        """Give the connection what waits here, now that it has room."""
        self._waiting.send_on(connection, self._clock)
        self._maybe_resume_protocol()  # type: ignore[attr-defined]
        if not self._waiting and not self._lost:
            if self._closing:
                self._let_go(connection)
            elif self._eof_written:
                connection.shutdown(self._clock())

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if self._eof_written or self._closing:
            return
        self._eof_written = True
        if not self._waiting and self._connection is not None:
            self._connection.shutdown(self._clock())

    def get_write_buffer_size(self) -> int:
        """Bytes that the connection has not taken. What it has taken and not sent, at most
        `StackConfig.send_buffer`, is not counted, as a socket's buffer is not."""
        return self._waiting.bytes

    # --- the end ---

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        if not self._waiting and self._connection is not None:
            self._let_go(self._connection)

    def _let_go(self, connection: Connection) -> None:
        """All that was written is with the stack; the rest goes by itself."""
        self._lose(None)
        connection.close(self._clock())

    def abort(self, error: BaseException | None = None) -> None:
        """RST to the peer; what was not sent is thrown away. `error` is what the protocol is told."""
        connection = self._connection
        if connection is not None:
            connection.abort(self._clock())
        if self._opened:
            self._lose(error)
        else:
            self._not_opened(error if isinstance(error, OSError) else os_error(errno.ECONNABORTED))

    def _force_close(self, error: BaseException | None) -> None:
        """What asyncio's TLS calls when it fails."""
        self.abort(error)

    def _not_opened(self, error: OSError) -> None:
        """The handshake has failed: there never was a protocol."""
        if not self._lost:
            self._lost = self._closing = True
            self._on_open(self, error)
            self._on_gone(self)

    def _lose(self, error: BaseException | None) -> None:
        """The protocol hears that it is over, in the next turn of the loop."""
        self._closing = True
        self._waiting.clear()
        if not self._lost:
            self._lost = True
            self._loop.call_soon(self._connection_lost, error)

    def _connection_lost(self, error: BaseException | None) -> None:
        if self._protocol is not None:
            self._call("connection_lost", error)
        self._on_gone(self)

    def _call(self, what: str, *arguments: object) -> object:
        """A call of the protocol. One that raises costs it the connection."""
        try:
            return getattr(self._protocol, what)(*arguments)
        except Exception as error:
            self._report(error, f"protocol.{what}() failed")
            if not self._lost:
                self.abort()
            return None

    def _report(self, error: Exception, message: str) -> None:
        self._loop.call_exception_handler(
            {"message": message, "exception": error, "transport": self, "protocol": self._protocol}
        )

    # --- what is known, and what may be chosen ---

    def set_option(self, name: str, value: object) -> None:
        """Change one of the connection's `Options` (stack/tcp/policy.py): keepalive, nodelay, user_timeout, …
        Raises OSError: ENOPROTOOPT where there is none of that name, EINVAL for values that make no sense."""
        with os_errors():
            if self._connection is not None:
                self._connection.set(name, value, self._clock())

    def get_option(self, name: str) -> object:
        """One of the connection's `Options`; None: as the stack has it. Raises OSError ENOPROTOOPT."""
        with os_errors():
            return None if self._connection is None else self._connection.get(name)

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol
        self._buffered = isinstance(protocol, asyncio.BufferedProtocol)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        connection = self._connection
        if connection is None:
            return default
        if name == "peername":
            return socket_address(*connection.source)
        if name == "sockname":
            return socket_address(*connection.destination)
        if name == "socket":
            self._socket = self._socket or ConnectedSocket(self)
            return self._socket
        if name == "statistics" and self._opened:
            return statistics_of(connection, self._sent, self._waiting.bytes, self._received)
        return default

    def __repr__(self) -> str:
        connection = self._connection
        state = "idle" if connection is None else connection.state.value
        return f"<Transport {self.get_extra_info('sockname')} to {self.get_extra_info('peername')}, {state}>"
