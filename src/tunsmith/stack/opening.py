"""How the owner of a stack opens connections: by waiting for them (`listen`) or by asking for one (`connect`)."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from tunsmith.errors import LocalError
from tunsmith.stack.cookies import Cookies, options_of, stamp_of
from tunsmith.stack.listener import Listener
from tunsmith.stack.output import Output
from tunsmith.stack.request import FlowRequest
from tunsmith.stack.tcp.connection import Connection
from tunsmith.stack.tcp.policy import Options
from tunsmith.stack.tcp.state import State
from tunsmith.wire.ip import IpFamily, family_of, is_unicast
from tunsmith.wire.tcp import ACK, SYN, TcpOptions

if TYPE_CHECKING:
    from tunsmith.stack.events import ConnectionHandler, EventQueue, ListenerHandler
    from tunsmith.stack.listener import Listeners
    from tunsmith.stack.ports import EphemeralPorts
    from tunsmith.stack.stack import Stack
    from tunsmith.stack.tcp.timewait import TimeWaitTable

REUSE_AFTER = 1.0
"""Seconds in TIME-WAIT before we open a connection between the same ends."""

Segment = tuple[int, int, int, int, int | None, int, TcpOptions | None, memoryview, float]
"""What Connection.on_segment takes."""


class Opening(Output):
    """Passive and active open. Half a class: it is only ever a Stack."""

    addresses: frozenset[bytes] | None
    cookies: Cookies
    ecn: bool
    connections: dict[bytes, Connection]
    listeners: Listeners
    options: Options | None
    ports: EphemeralPorts
    queue: EventQueue
    requests: dict[bytes, FlowRequest]
    time_waits: TimeWaitTable

    def initial_sequence(self, key: bytes, now: float) -> int:
        raise NotImplementedError

    def listen(
        self,
        address: bytes | None,
        port: int | None,
        *,
        backlog: int = 128,
        handler: ListenerHandler | None = None,
        options: Options | None = None,
    ) -> Listener:
        """Passive open on an address (None: any) and a port (None: any, 0: one that is free), RFC 9293 §3.10.1.
        At most `backlog` connections are opening, and as many wait for `Listener.accept`; `options` are those of
        each. Raises LocalError: EADDRINUSE where another listens, EADDRNOTAVAIL for an address that is not ours,
        EINVAL for nonsense."""
        if backlog < 1 or (port is not None and not 0 <= port < 65536):
            raise LocalError(errno.EINVAL, f"cannot listen on port {port} with a backlog of {backlog}")
        if address is not None:
            self._check_is_ours(address)
        if port == 0:
            port = self._free_port(address or b"", b"", 0, lambda port: (address, port) in self.listeners)
        listener = Listener(cast("Stack", self), (address, port), backlog, handler or self.queue, options)
        self.listeners.add(listener)
        return listener

    def connect(
        self,
        source: bytes,
        source_port: int,
        destination: bytes,
        destination_port: int,
        now: float,
        handler: ConnectionHandler | None = None,
        options: Options | None = None,
    ) -> Connection:
        """Active open from an address of ours (any, without `addresses`) and a port, RFC 9293 §3.10.1; port 0:
        one that is free. The connection is in progress then: `on_established` or `on_closed` follows. Raises
        LocalError: EADDRINUSE where these ends are in use, EADDRNOTAVAIL for an address that is not ours or
        when no port is free, EINVAL for nonsense, ENFILE when the stack is full."""
        family = family_of(destination)
        if not (
            len(source) == len(destination) == family.address_length
            and is_unicast(destination)
            and 0 <= source_port < 65536
            and 0 < destination_port < 65536
        ):
            raise LocalError(errno.EINVAL, "no connection has such ends")
        self._check_is_ours(source)
        if len(self.connections) >= self.config.connection_limit:
            raise LocalError(errno.ENFILE, "the stack is full")
        if not source_port:
            source_port = self._free_port(
                source,
                destination,
                destination_port,
                lambda port: (
                    (source, port) in self.listeners
                    or (None, port) in self.listeners
                    or self._in_use(family.key(destination, destination_port, source, port), now)
                ),
            )
        key = family.key(destination, destination_port, source, source_port)
        if self._in_use(key, now):
            raise LocalError(errno.EADDRINUSE, "these ends are in use")
        iss, ts_offset = self._first_numbers(key, now)
        connection = Connection(cast("Stack", self), family, key, iss, -1, handler or self.queue)
        connection.state = State.SYN_SENT
        connection.active = True
        if ts_offset is not None:
            connection.ts_offset = ts_offset
        if options is not None or self.options is not None:
            connection.set_options(options or self.options or Options(), now)
        self.connections[key] = connection
        connection.send_syn(SYN, now)
        return connection

    def admit(
        self,
        request: FlowRequest,
        handler: ConnectionHandler,
        now: float,
        options: Options | None = None,
    ) -> Connection | None:
        """Answer a SYN with SYN-ACK. None when the stack is full: RST."""
        if len(self.connections) >= self.config.connection_limit:
            self.drops["connection_limit"] += 1
            self._reset(request)
            return None
        iss, ts_offset = self._first_numbers(request.key, now)
        connection = self._passive(request, handler, iss, options, now)
        if ts_offset is not None:
            connection.ts_offset = ts_offset
        self.connections[request.key] = connection
        connection.send_syn(SYN | ACK, now)
        return connection

    def _passive(
        self,
        request: FlowRequest,
        handler: ConnectionHandler,
        iss: int,
        options: Options | None,
        now: float,
    ) -> Connection:
        """A connection in SYN-RECEIVED that has said nothing yet."""
        connection = Connection(cast("Stack", self), request.family, request.key, iss, request.isn, handler)
        if options is not None or self.options is not None:
            connection.set_options(options or self.options or Options(), now)
        connection.negotiate(request.options)
        connection.start_congestion()
        return connection

    def _reset(self, request: FlowRequest) -> None:
        raise NotImplementedError

    # --- cookies ---

    def send_cookie(self, request: FlowRequest, listener: Listener, now: float) -> None:
        """Answer a SYN with a SYN-ACK that remembers it for us: that of a connection which is forgotten at once."""
        syn = request.options
        if syn.timestamp is None or not self.config.timestamps:
            request.options = syn = TcpOptions(mss=syn.mss)
        least = 536 if request.family.version == 4 else 1220  # RFC 9293 §3.7.1
        cookie = self.cookies.make(request.key, request.isn, syn.mss or least, now)
        connection = self._passive(request, listener, cookie, listener.options, now)
        clock = connection.ts_now(now)
        connection.ts_offset -= clock - stamp_of(syn, clock)
        connection.send_syn(SYN | ACK, now)
        connection.end(0, now)

    def redeem(self, family: IpFamily, key: bytes, segment: Segment) -> bool:
        """Open the connection that an ACK without one asks for, if it brings a cookie. Returns whether it does:
        without room there is silence, and the peer tries again."""
        seq, ack, _, _, tsval, tsecr, _, _, now = segment
        _, _, address, port = family.split(key)
        listener = self.listeners.find(address, port)
        if listener is None or not listener.takes_cookies(now):
            return False
        isn, cookie = (seq - 1) & 0xFFFFFFFF, (ack - 1) & 0xFFFFFFFF
        mss = self.cookies.check(key, isn, cookie, now)
        if mss is None:
            return False
        if listener.is_full() or len(self.connections) >= self.config.connection_limit:
            self.drops["listen_overflow"] += 1
            return True
        options = options_of(mss, tsval, tsecr)
        options.ecn = options.ecn and self.ecn
        request = FlowRequest(cast("Stack", self), family, key, isn, options)
        connection = self._passive(request, listener, cookie, listener.options, now)
        self.connections[key] = connection
        connection.assume_synack()
        connection.on_segment(*segment)
        return True

    # --- numbers ---

    def _first_numbers(self, key: bytes, now: float) -> tuple[int, int | None]:
        """The initial sequence number, and the offset of the timestamp clock if it must go on. Both are above what
        the last incarnation used, if that is still in TIME-WAIT; it is over then. RFC 9293 §3.10.7.4, RFC 6191."""
        iss = self.initial_sequence(key, now)
        record = self.time_waits.records.get(key)
        if record is None:
            return iss, None
        if (iss - record.snd_nxt - 1) & 0x80000000:
            iss = (record.snd_nxt + 65536) & 0xFFFFFFFF
        self.time_waits.remove(key)
        return iss, record.ts_offset

    def _in_use(self, key: bytes, now: float) -> bool:
        if key in self.connections or key in self.requests:
            return True
        record = self.time_waits.records.get(key)
        if record is None:
            return False
        # With timestamps segments of the last incarnation cannot be mistaken once the clock has gone on: RFC 6191 §2
        # asks the same of a SYN that arrives. Linux: tcp_tw_reuse.
        return record.ts_recent is None or now < record.until - self.config.time_wait + REUSE_AFTER

    def _check_is_ours(self, address: bytes) -> None:
        if not is_unicast(address) or (self.addresses is not None and address not in self.addresses):
            raise LocalError(errno.EADDRNOTAVAIL, "not an address of this stack")

    def _free_port(self, local: bytes, remote: bytes, remote_port: int, taken: Callable[[int], bool]) -> int:
        port = self.ports.choose(local, remote, remote_port, taken)
        if port is None:
            raise LocalError(errno.EADDRNOTAVAIL, "no port is free")
        return port
