"""Packet scripts on our stack, in virtual time: nothing happens between two lines but what is due."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from tunsmith.errors import LocalError
from tunsmith.stack.config import StackConfig
from tunsmith.stack.events import (
    Closed,
    Established,
    FlowRequested,
    Incoming,
    PeerClosed,
    Readable,
    Writable,
)
from tunsmith.stack.listener import Listener
from tunsmith.stack.request import FlowRequest
from tunsmith.stack.stack import Stack
from tunsmith.stack.tcp.connection import Connection
from tunsmith.stack.tcp.policy import Keepalive
from tunsmith.stack.tcp.state import State
from tunsmith.stack.tcp.statistics import Statistics
from tunsmith.stack.tcp.timers import DELAYED_ACK, LINGER, NEVER, PERSIST, RACK, RETRANSMIT
from tunsmith.testing.clock import ManualClock
from tunsmith.testing.script.host import CallFailed
from tunsmith.testing.script.settings import WORDS
from tunsmith.testing.script.statements import OwnerLine
from tunsmith.testing.script.wire import PORTS, Wire, error_named, text
from tunsmith.wire.ip import IpFamily
from tunsmith.wire.offload import segment
from tunsmith.wire.vnet import VNET_HDR_LEN

WHOLE = frozenset({"receive_buffer", "send_buffer", "mss", "traffic_class", "ttl"})
"""Options of a connection that are counted, not measured."""
STATISTICS = frozenset(field.name for field in fields(Statistics))
IN_SEGMENTS = frozenset({"cwnd", "ssthresh"})
BACKLOG = 5
TIMERS = {
    "retransmit": RETRANSMIT,
    "persist": PERSIST,
    "delayed-ack": DELAYED_ACK,
    "linger": LINGER,
    "rack": RACK,
}
TOLD = {Established: "established", Readable: "readable", Writable: "writable", PeerClosed: "fin"}


class StackHost:
    """Our stack with one connection. `iss` is its initial sequence number."""

    slack = 1e-4

    def __init__(
        self, config: StackConfig, family: IpFamily, *, isn: int, iss: int, start: float = 1000.0
    ) -> None:
        self.wire = Wire(family, isn, config.mtu)
        self.clock = ManualClock(start)
        self.connection: Connection | None = None
        self._start = start
        self.stack = Stack(replace(config, isn=lambda _key, _now: iss))
        self._listener: Listener | None = None
        self._holding = False
        self._request: FlowRequest | None = None
        self._packets: list[bytes] = []
        self._told: list[str] = []
        self._read_at = 1
        self._sent_to = 1

    def now(self) -> float:
        return self.clock() - self._start

    def inject(self, packet: bytes) -> None:
        self.stack.receive(packet, self.clock())
        self._events()

    def packet(self, until: float) -> bytes | None:
        end = self._start + until
        while True:
            for frame in self.stack.frames_to_send():
                self._packets += [piece[VNET_HDR_LEN:] for piece in segment(frame)]
            if self._packets:
                return self._packets.pop(0)
            due = self.stack.next_deadline()
            if due is None or due > end:
                self.clock.advance_to(max(end, self.clock()))
                return None
            self.clock.advance_to(max(due, self.clock()))
            self.stack.handle_timeout(self.clock())
            self._events()

    def close(self) -> None:
        pass

    # --- what the stack tells ---

    def _events(self) -> None:
        for opening in () if self._listener is None else self._listener.opening:
            if opening.source[1] == PORTS[0]:
                self._take(opening)
        while (event := self.stack.poll_event()) is not None:
            if isinstance(event, FlowRequested):
                self._on_request(event.request)
            elif isinstance(event, Incoming):
                self._take(event.listener.accept(None, self.clock()))
            elif isinstance(event, Closed):
                self._told.append(f"closed {errno.errorcode[event.error]}" if event.error else "closed")
            elif type(event) in TOLD:
                self._told.append(TOLD[type(event)])

    def _on_request(self, request: FlowRequest) -> None:
        if self._holding:
            self._told.append("request")
            self._request = request
        else:
            request.refuse(self.clock())

    def _take(self, connection: Connection | None) -> None:
        """This is the connection that is talked about from now on."""
        if connection is not None and connection is not self.connection:
            self.connection = connection
            self._read_at = self._sent_to = 1

    # --- what the owner does ---

    def call(self, line: OwnerLine) -> None:
        try:
            CALLS[line.call](self, line)
        except LocalError as error:
            raise OSError(error.errno, "local") from error
        self._events()

    def _of(self) -> Connection:
        if self.connection is None:
            raise CallFailed("there is no connection")
        return self.connection

    def _asked(self) -> FlowRequest:
        if self._request is None:
            raise CallFailed("nobody has asked")
        return self._request

    def _listen(self, line: OwnerLine) -> None:
        if "held" in line.arguments:
            self._holding = True
        else:
            backlog = int(line.arguments[1]) if line.arguments else BACKLOG
            self._listener = self.stack.listen(self.wire.stack, PORTS[1], backlog=backlog)

    def _answer(self, line: OwnerLine) -> None:
        request, now = self._asked(), self.clock()
        if line.call == "accept":
            self._take(request.accept(None, now))
        elif line.call == "refuse":
            request.refuse(now)
        elif line.call == "drop":
            request.drop()
        else:
            request.unreachable(error_named(line.arguments[0]), now)

    def _connect(self, line: OwnerLine) -> None:
        wire = self.wire
        self.connection = self.stack.connect(wire.stack, PORTS[1], wire.peer, PORTS[0], self.clock())
        if self.connection is None:
            raise OSError(errno.EADDRINUSE, "in use")

    def _send(self, line: OwnerLine) -> None:
        number = line.number or 0
        more = "more" in line.arguments
        taken = self._of().send(text(self._sent_to, number), self.clock(), more=more)
        self._sent_to += taken
        if taken != (number if line.takes is None else line.takes):
            raise CallFailed(f"{taken} bytes were taken")

    def _set(self, line: OwnerLine) -> None:
        connection = self._of()
        try:
            name, *words = line.arguments
            numbers = [WORDS[word] if word in WORDS else float(word) for word in words]
            if name == "keepalive":
                value: Any = Keepalive(numbers[0], numbers[1], int(numbers[2]))
            else:
                value = int(numbers[0]) if name in WHOLE else numbers[0]
            options = replace(connection.options, **{name: value})
        except (ValueError, IndexError, TypeError) as error:
            raise CallFailed(f"a connection has no such option: {error}") from None
        connection.set_options(options, self.clock())

    def _read(self, line: OwnerLine) -> None:
        number = line.number or 0
        data = self._of().read(number or 1 << 30, self.clock(), peek=line.call == "peek")
        if len(data) != number:
            raise CallFailed(f"{len(data)} bytes were there to read")
        if data != text(self._read_at, number):
            raise CallFailed("the text is not what the peer sent")
        if line.call == "read":
            self._read_at += number

    def _shutdown(self, line: OwnerLine) -> None:
        self._of().shutdown(self.clock())

    def _close(self, line: OwnerLine) -> None:
        self._of().close(self.clock())

    def _abort(self, line: OwnerLine) -> None:
        self._of().abort(self.clock())

    # --- what can be looked at ---

    def value(self, name: str) -> float | str:
        kind, _, which = name.partition(".")
        if kind == "timer" and which:
            due = self._timers()[TIMERS[which]]
            return "off" if due == NEVER else due - self.clock()
        if kind == "drops" and which:
            return self.stack.drops[which]
        return VALUES[name](self) if name in VALUES else self._statistic(name)

    def _statistic(self, name: str) -> float | str:
        """Names are those of Statistics."""
        if name not in STATISTICS:
            raise KeyError(name)
        connection = self._of()
        if not connection.connected:
            raise CallFailed("the handshake is not complete")
        statistics = connection.statistics()
        value: float | str | None = getattr(statistics, name)
        if value is None:
            return "none"
        return value / statistics.mss if name in IN_SEGMENTS and not isinstance(value, str) else value

    def _timers(self) -> list[float]:
        return self._of().timers

    def _state(self) -> str:
        if self.connection is not None and self.connection.state is not State.CLOSED:
            return str(self.connection.state.value)
        if self.stack.time_waits.records:
            return "TIME-WAIT"
        return "LISTEN" if self._listener is not None and self.connection is None else "CLOSED"

    def _error(self) -> str:
        error = self._of().error
        return errno.errorcode[error] if error else "none"

    def _take_told(self) -> str:
        told, self._told = self._told, []
        return " ".join(told) or "nothing"


CALLS: dict[str, Callable[[StackHost, OwnerLine], None]] = {
    "listen": StackHost._listen,
    "accept": StackHost._answer,
    "refuse": StackHost._answer,
    "drop": StackHost._answer,
    "unreachable": StackHost._answer,
    "connect": StackHost._connect,
    "send": StackHost._send,
    "set": StackHost._set,
    "read": StackHost._read,
    "peek": StackHost._read,
    "shutdown": StackHost._shutdown,
    "close": StackHost._close,
    "abort": StackHost._abort,
}

VALUES: dict[str, Callable[[StackHost], float | str]] = {
    "state": StackHost._state,
    "error": StackHost._error,
    "told": StackHost._take_told,
    "rto": lambda host: host._of().sender.rtt.rto,
    "unacknowledged": lambda host: host._of().unacknowledged,
    "readable": lambda host: host._of().readable_bytes,
    "space": lambda host: host._of().space,
}
"""Besides those of Statistics; times are in seconds."""
