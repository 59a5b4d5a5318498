"""What the stack tells its owner: called at once in production, or queued as values.

Production passes handlers and is called in the middle of packet processing, so that text can go from the
device buffer to a socket without a copy. Whoever passes none gets an `EventQueue`: the same calls, kept
as values for `Stack.poll_event`; text then waits in the connection until it is read. One code path serves both.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tunsmith.wire.icmp import IcmpError
from tunsmith.wire.ip import IpFamily

if TYPE_CHECKING:
    from tunsmith.stack.listener import Listener
    from tunsmith.stack.request import FlowRequest
    from tunsmith.stack.tcp.connection import Connection


class ConnectionHandler(Protocol):
    """The owner of one connection."""

    def on_established(self, connection: Connection) -> None:
        """The handshake is complete."""

    def on_data(self, connection: Connection, data: memoryview) -> int:
        """Text in order. Returns how many bytes were taken; the rest waits for `Connection.read`. The
        view is only valid during the call."""

    def on_writable(self, connection: Connection) -> None:
        """The send buffer has room again after `send` took less than it was given."""

    def on_fin(self, connection: Connection) -> None:
        """The peer will send no more (buffered text may still be unread)."""

    def on_closed(self, connection: Connection, error: int) -> None:
        """The connection is gone. `error`: 0 after an orderly close, else an errno."""


class ListenerHandler(Protocol):
    """The owner of a listener."""

    def on_connection(self, listener: Listener) -> None:
        """One more connection waits for `Listener.accept`."""


@dataclass(frozen=True, slots=True)
class Datagram:
    """One UDP datagram, or several of one size (`segment_size` > 0; the last may be shorter).
    `data` is only valid during the call that carries it, except in an EventQueue, which copies."""

    family: IpFamily
    source: bytes
    source_port: int
    destination: bytes
    destination_port: int
    data: bytes | memoryview
    segment_size: int = 0


@dataclass(frozen=True, slots=True)
class Echo:
    """An ICMP echo request; `data` includes everything after identifier and sequence."""

    family: IpFamily
    source: bytes
    destination: bytes
    identifier: int
    sequence: int
    ttl: int
    data: bytes


@dataclass(frozen=True, slots=True)
class DatagramError:
    """A host reported by ICMP that a datagram we sent from `source` to `destination` failed. With TOO_BIG `mtu` is
    what the path carries, headers included (RFC 1191, RFC 8201)."""

    family: IpFamily
    source: bytes
    source_port: int
    destination: bytes
    destination_port: int
    error: IcmpError | None
    mtu: int = 0


class StackHandler(Protocol):
    """The owner of a stack."""

    def on_flow(self, request: FlowRequest) -> None:
        """A new TCP flow asks to be accepted, refused or dropped, now or later."""

    def on_datagram(self, family: IpFamily, key: bytes, data: memoryview, segment_size: int) -> None:
        """UDP payload; `key` names the flow (IpFamily.split). The view is only valid during the call."""

    def on_echo(self, echo: Echo) -> None:
        """A ping, to be answered by `Stack.send_echo_reply` or an error."""

    def on_datagram_error(self, error: DatagramError) -> None:
        """An ICMP error about a datagram of ours."""


class PingHandler(Protocol):
    """The owner of the pings that a stack sends, `Stack.ping_handler`."""

    def on_echo_reply(self, echo: Echo) -> None:
        """An answer, from whom it says."""

    def on_echo_error(self, echo: Echo, error: IcmpError | None) -> None:
        """An ICMP error about a ping of ours, as far as it quotes it: without TTL and data."""


@dataclass(frozen=True, slots=True)
class FlowRequested:
    """A SYN asks to be accepted, refused or dropped."""

    request: FlowRequest


@dataclass(frozen=True, slots=True)
class Incoming:
    """One more connection waits for `Listener.accept`."""

    listener: Listener


@dataclass(frozen=True, slots=True)
class Established:
    """The handshake is complete."""

    connection: Connection


@dataclass(frozen=True, slots=True)
class Readable:
    """There is text to `read` where there was none. Not repeated while some of it waits."""

    connection: Connection


@dataclass(frozen=True, slots=True)
class Writable:
    """`send` takes bytes again, after it took less than it was given."""

    connection: Connection


@dataclass(frozen=True, slots=True)
class PeerClosed:
    """The peer will send no more; there may still be text to `read`."""

    connection: Connection


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection is gone. `error`: 0 after an orderly close, else an errno."""

    connection: Connection
    error: int


Event = (
    FlowRequested
    | Incoming
    | Established
    | Readable
    | Writable
    | PeerClosed
    | Closed
    | Datagram
    | Echo
    | DatagramError
)


class EventQueue:
    """Handler of a stack, its listeners and all its connections that keeps what it is told, in order."""

    def __init__(self) -> None:
        self.events: deque[Event] = deque()

    def on_flow(self, request: FlowRequest) -> None:
        self.events.append(FlowRequested(request))

    def on_connection(self, listener: Listener) -> None:
        self.events.append(Incoming(listener))

    def on_datagram(self, family: IpFamily, key: bytes, data: memoryview, segment_size: int) -> None:
        self.events.append(Datagram(family, *family.split(key), bytes(data), segment_size))

    def on_echo(self, echo: Echo) -> None:
        self.events.append(echo)

    def on_datagram_error(self, error: DatagramError) -> None:
        self.events.append(error)

    def on_established(self, connection: Connection) -> None:
        self.events.append(Established(connection))

    def on_data(self, connection: Connection, data: memoryview) -> int:
        self.events.append(Readable(connection))
        return 0

    def on_writable(self, connection: Connection) -> None:
        self.events.append(Writable(connection))

    def on_fin(self, connection: Connection) -> None:
        self.events.append(PeerClosed(connection))

    def on_closed(self, connection: Connection, error: int) -> None:
        self.events.append(Closed(connection, error))
