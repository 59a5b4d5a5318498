"""What one connection has measured and counted so far, for logs, metrics and tests."""

from __future__ import annotations

from dataclasses import dataclass

from tunsmith.stack.tcp.connection import Connection


@dataclass(frozen=True, slots=True)
class ConnectionStatistics:
    """A moment of a connection, as `ss -ti` shows it for the kernel's. Times in seconds, sizes in bytes."""

    state: str
    """RFC 9293 §3.3.2: "ESTABLISHED", "FIN-WAIT-1", …"""
    srtt: float | None
    """Smoothed round-trip time, RFC 6298; None before the first sample."""
    rttvar: float
    rto: float
    mss: int
    cwnd: int
    ssthresh: int
    in_flight: int
    """Sent and not acknowledged."""
    sacked: int
    """In flight, and with the peer behind a gap."""
    lost: int
    """In flight, and believed lost."""
    send_window: int
    """What the peer is ready to take."""
    retransmits: int
    """Segments sent again."""
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
    board = None if sender.recovery is None else sender.recovery.board
    unacknowledged = max(0, connection.unacknowledged - sender.fin_sent)
    return ConnectionStatistics(
        state=connection.state.value,
        srtt=sender.rtt.srtt,
        rttvar=sender.rtt.rttvar,
        rto=sender.rtt.rto,
        mss=sender.mss,
        cwnd=sender.cc.cwnd,
        ssthresh=sender.cc.ssthresh,
        in_flight=sender.snd_nxt - sender.snd_una,
        sacked=board.sacked if board else 0,
        lost=board.lost if board else 0,
        send_window=sender.snd_wnd,
        retransmits=sender.retransmits,
        bytes_sent=written,
        bytes_acked=written - waiting - unacknowledged,
        bytes_received=received,
    )
