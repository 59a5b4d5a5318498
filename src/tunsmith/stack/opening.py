"""How the owner of a stack opens connections: by waiting for them (`listen`) or by asking for one (`connect`)."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from tunsmith.errors import LocalError
from tunsmith.stack.listener import Listener
from tunsmith.stack.output import Output
from tunsmith.stack.tcp.connection import Connection
from tunsmith.stack.tcp.policy import Options
from tunsmith.stack.tcp.state import State
from tunsmith.wire.ip import family_of, is_unicast
from tunsmith.wire.tcp import SYN

if TYPE_CHECKING:
    from tunsmith.stack.events import ConnectionHandler, EventQueue, ListenerHandler
    from tunsmith.stack.listener import Listeners
    from tunsmith.stack.ports import EphemeralPorts
    from tunsmith.stack.request import FlowRequest
    from tunsmith.stack.stack import Stack
    from tunsmith.stack.tcp.timewait import TimeWaitTable


class Opening(Output):
    """Passive and active open. Half a class: it is only ever a Stack."""

    addresses: frozenset[bytes] | None
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
                    or self._in_use(family.key(destination, destination_port, source, port))
                ),
            )
        key = family.key(destination, destination_port, source, source_port)
        if self._in_use(key):
            raise LocalError(errno.EADDRINUSE, "these ends are in use")
        connection = Connection(
            cast("Stack", self), family, key, self.initial_sequence(key, now), -1, handler or self.queue
        )
        connection.state = State.SYN_SENT
        if options is not None or self.options is not None:
            connection.set_options(options or self.options or Options(), now)
        self.connections[key] = connection
        connection.send_syn(SYN, now)
        return connection

    def _in_use(self, key: bytes) -> bool:
        return key in self.connections or key in self.requests or key in self.time_waits.records

    def _check_is_ours(self, address: bytes) -> None:
        if not is_unicast(address) or (self.addresses is not None and address not in self.addresses):
            raise LocalError(errno.EADDRNOTAVAIL, "not an address of this stack")

    def _free_port(self, local: bytes, remote: bytes, remote_port: int, taken: Callable[[int], bool]) -> int:
        port = self.ports.choose(local, remote, remote_port, taken)
        if port is None:
            raise LocalError(errno.EADDRNOTAVAIL, "no port is free")
        return port
