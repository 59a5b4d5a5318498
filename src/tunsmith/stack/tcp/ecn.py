"""Explicit congestion notification, RFC 3168 §6.1: routers mark packets instead of dropping them.

Agreed on in the handshake; a connection that has agreed has an `Ecn`, others pay nothing. New text leaves as
ECN-capable, what is sent again and what has no text does not (§6.1.4, §6.1.5). A mark that arrives is echoed in
every ACK until the peer says that it has reduced its window; an echo that arrives reduces ours, once a window.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunsmith.stack.tcp.policy import Policy
from tunsmith.wire.seq import widen
from tunsmith.wire.tcp import ACK, CWR, ECE, SYN

if TYPE_CHECKING:
    from tunsmith.stack.tcp.connection import Connection
    from tunsmith.stack.tcp.scoreboard import Data

ECT0, CE = 2, 3
"""Codepoints of the ECN field, §5."""


class Ecn:
    """The state of one connection that has agreed on ECN."""

    __slots__ = ("_connection", "_new_from", "_reduced", "echo")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._new_from = connection.iss + 1
        """Text from here on was never sent."""
        self._reduced = False
        """The peer is still to be told that we have reduced our window."""
        self.echo = 0
        """ECE as long as the peer is to be told of congestion: for every ACK."""
        if connection.policy is None:
            connection.policy = Policy(0.0)
        connection.sender.emit = self.emit

    def on_packet(self, field: int, seq32: int, ack32: int, flags: int, now: float) -> None:
        """What the ECN field of a packet and the flags of its segment say. The connection processes it next."""
        connection = self._connection
        sender, receiver = connection.sender, connection.receiver
        seq, ack = widen(seq32, receiver.rcv_nxt), widen(ack32, sender.snd_una)
        if flags & SYN or not receiver.rcv_nxt - receiver.limit <= seq <= receiver.rcv_adv:
            return
        if flags & CWR:
            self.echo = 0
        if field == CE:
            self.echo = ECE
        if flags & (ECE | ACK) == ECE | ACK and sender.snd_una <= ack <= sender.snd_max:
            self._reduced = sender.trouble.on_mark(now) or self._reduced

    def emit(self, seq: int, data: Data, flags: int, now: float) -> None:
        """Put a segment of the sender on the wire. One that tells of a reduction is a packet of its own: not every
        device that cuts super-segments knows that only the first piece may say so."""
        connection = self._connection
        policy = connection.policy
        end = seq + len(data)
        flags |= self.echo
        if policy is None or end <= self._new_from:
            connection.emit_segment(seq, data, flags, now)
            return
        self._new_from = end
        policy.ecn_field = ECT0
        mss = connection.sender.mss
        if self._reduced:
            self._reduced = False
            if len(data) <= mss:
                flags |= CWR
            else:
                connection.emit_segment(seq, data[:mss], ACK | CWR | self.echo, now)
                seq, data = seq + mss, data[mss:]
        connection.emit_segment(seq, data, flags, now)
        policy.ecn_field = 0
