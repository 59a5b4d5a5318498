"""What one connection has measured and counted so far, for logs, metrics and tests."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from tunsmith.stack.tcp.connection import Connection
from tunsmith.stack.tcp.statistics import Statistics


@dataclass(frozen=True, slots=True)
class ConnectionStatistics(Statistics):
    """A moment of a connection, as `ss -ti` shows it for the kernel's: what its sender has measured
    (stack/tcp/statistics.py), and what its transport has moved. Sizes are bytes."""

    state: str
    """RFC 9293 §3.3.2: "ESTABLISHED", "FIN-WAIT-1", …"""
    send_window: int
    """What the peer is ready to take."""
    bytes_sent: int
    """Written, whether or not it has left."""
    bytes_acked: int
    """Written, and acknowledged by the peer."""
    bytes_received: int
    """Given to the protocol."""


def statistics_of(connection: Connection, written: int, waiting: int, received: int) -> ConnectionStatistics:
    """The present state of `connection`, whose transport has been given `written` bytes, of which it still holds
    `waiting`, and has given `received`."""
    sender = connection.sender
    unacknowledged = max(0, connection.unacknowledged - sender.fin_sent)
    return ConnectionStatistics(
        **asdict(connection.statistics()),
        state=connection.state.value,
        send_window=sender.snd_wnd,
        bytes_sent=written,
        bytes_acked=written - waiting - unacknowledged,
        bytes_received=received,
    )
