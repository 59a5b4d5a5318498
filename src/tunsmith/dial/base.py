"""The contract of an upstream: how flows leave this machine.

A dialer turns a `Target` into a connected, non-blocking socket, or raises one error of the
`DialError` tree. Marks and interface pinning live only in this folder. The relay then moves bytes
between that socket and the stack; a dialer never touches payload after the hand-over.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from tunsmith.flow import Target


class Stream(NamedTuple):
    """A connected upstream: `sock` is non-blocking and now owned by the receiver of this object;
    `early` holds bytes the proxy sent right behind its own answer and must be delivered first."""

    sock: socket.socket
    early: bytes = b""


@dataclass(frozen=True, slots=True)
class DatagramFault:
    """An ICMP error the kernel reported for a datagram we sent to `target`.

    `icmp_type` and `icmp_code` are those of the address family of `target`; `mtu` is the next-hop
    MTU of a "too big" error, else 0. `icmp_type` -1: a local error, `errno` says which."""

    target: Target
    errno: int
    icmp_type: int
    icmp_code: int
    mtu: int = 0


class Datagrams(Protocol):
    """One upstream UDP port, talking to any number of peers (endpoint-independent mapping, RFC 4787).

    Non-blocking. `fileno()` becomes readable when `receive()` or `faults()` has something new. What came in
    one piece but from several peers is given out one by one: who stops before BlockingIOError must come
    back unasked."""

    def fileno(self) -> int:
        """The descriptor to watch for reading."""

    def send(self, parts: list[bytes] | list[memoryview], segment_size: int, target: Target) -> None:
        """Send one datagram (`segment_size` 0: `parts` joined), or several to one peer: `parts` joined
        and cut every `segment_size` bytes, the last may be shorter. Buffers are not kept. Raises
        BlockingIOError when the socket is full (the datagrams are lost; the caller counts), OSError for
        anything else."""

    def receive(self) -> tuple[bytes, int, Target]:
        """Next datagram(s) from one peer: `(data, segment_size, peer)`; `segment_size` 0 means `data` is
        one datagram, otherwise `data` is cut every `segment_size` bytes (UDP_GRO).
        Raises BlockingIOError when there is none, EOFError when this association is dead, another OSError when
        the port is of no more use."""

    def faults(self) -> Iterable[DatagramFault]:
        """ICMP errors since the last call; empties the error queue."""

    def close(self) -> None:
        """Close; idempotent."""


@dataclass(frozen=True, slots=True)
class PingReply:
    """An echo reply from `peer`, which may not be who was asked. `ttl` is what was left of it on arrival."""

    peer: str
    sequence: int
    data: bytes
    ttl: int


@dataclass(frozen=True, slots=True)
class PingFault:
    """`offender` ("": this machine itself) reported that the echo request `sequence` to `destination` failed.
    Type and code
    are those of the address family; `mtu` is the next-hop MTU of a "too big" error, else 0; `data` is
    what it quoted of the request's data."""

    destination: str
    sequence: int
    offender: str
    icmp_type: int
    icmp_code: int
    mtu: int
    data: bytes


class Pings(Protocol):
    """One echo identifier of the upstream, for requests to any number of hosts of one address family.

    Non-blocking. `fileno()` becomes readable when `receive()` or `faults()` has something."""

    def fileno(self) -> int:
        """The descriptor to watch for reading."""

    def send(self, host: str, sequence: int, data: bytes, ttl: int) -> None:
        """Send one echo request. Raises BlockingIOError when the socket is full, OSError for all else."""

    def receive(self) -> PingReply:
        """The next reply. Raises BlockingIOError when there is none, another OSError for what `faults`
        tells in full; the next call goes on."""

    def faults(self) -> Iterable[PingFault]:
        """ICMP errors since the last call; empties the error queue."""

    def close(self) -> None:
        """Close; idempotent."""


class Dialer(Protocol):
    """An upstream. Stateless per flow; safe to use for many flows at once."""

    label: str
    """For people: the URL without credentials."""
    wants_names: bool
    """True: DNS is answered with fake addresses and names reach `open_stream` as names."""
    carries_udp: bool
    """False: UDP is refused at once. May turn out only some time after `start`."""
    carries_ping: bool
    """True: ICMP echo may go out through ping sockets of this machine."""

    async def start(self) -> None:
        """Begin to learn what the upstream can do; as short as can be, for the program waits. Raises DialError
        where nothing can work."""

    async def open_stream(self, target: Target) -> Stream:
        """Connect. Raises DialError; cancellation closes whatever was opened."""

    def begin(self, target: Target) -> Stream | Awaitable[Stream]:
        """As `open_stream`; the stream itself where it is there at once and no task need wait for it.
        Raises DialError, now or when awaited."""

    async def open_datagrams(self, family: int) -> Datagrams:
        """Open one UDP port for peers of `family` (AF_INET or AF_INET6; names fit either).
        Raises DialError (DialUnsupported where it cannot)."""

    def open_pings(self, family: int) -> Pings:
        """Take one echo identifier for hosts of `family` (AF_INET or AF_INET6).
        Raises DialError: DialUnsupported where `carries_ping` is False, DialProhibited where this machine
        forbids it."""

    def close(self) -> None:
        """Release what `start` opened."""
