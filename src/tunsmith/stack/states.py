"""Everything TCP that a stack knows of, by the state names of RFC 9293 §3.3.2: what `ss` would show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunsmith.stack.tcp.state import State

if TYPE_CHECKING:
    from tunsmith.stack.stack import Stack
    from tunsmith.stack.tcp.connection import Connection


@dataclass(frozen=True, slots=True)
class Entry:
    """One line. Ends are address and port; `local` has None for any, `remote` is None for a listener."""

    state: str
    local: tuple[bytes | None, int | None]
    remote: tuple[bytes, int] | None = None
    connection: Connection | None = None
    """None for a listener, a flow that nobody has answered yet, and TIME-WAIT."""


def states_of(stack: Stack) -> Iterator[Entry]:
    """Listeners, flows that wait for an answer (SYN-RECEIVED: the SYN is here), connections, and those in
    TIME-WAIT. As it is at the time of each step; the stack must not change meanwhile."""
    for listener in stack.listeners:
        yield Entry("LISTEN", (listener.address, listener.port))
    for request in stack.requests.values():
        yield Entry(State.SYN_RECEIVED.value, request.destination, request.source)
    for connection in stack.connections.values():
        yield Entry(connection.state.value, connection.destination, connection.source, connection)
    for key, record in stack.time_waits.records.items():
        address, port, here, own_port = record.family.split(key)
        yield Entry(State.TIME_WAIT.value, (here, own_port), (address, port))
