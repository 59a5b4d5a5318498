"""What a sender in trouble sends: what is lost, then what is new. RFC 6675 §4, NextSeg.

The scoreboard says what is lost; bytes that are neither SACKed nor lost are in the network (`pipe`), and cwnd says how
many may be. Lost neighbours leave as one segment, and as one super-segment where they are many.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunsmith.stack.tcp.prr import ProportionalRateReduction
from tunsmith.stack.tcp.scoreboard import LOST, Scoreboard, Sent
from tunsmith.wire.tcp import ACK, FIN, PSH

if TYPE_CHECKING:
    from tunsmith.stack.tcp.sender import Sender


class Resending:
    """The scoreboard of one Sender, and how it gets empty. What is sent counts in `prr`, the recovery under way."""

    __slots__ = ("board", "prr", "sender")

    def __init__(self, sender: Sender) -> None:
        self.sender = sender
        self.board = Scoreboard(sender.inflight, sender.snd_una)
        self.prr = ProportionalRateReduction(0)

    @property
    def pipe(self) -> int:
        """Bytes in the network."""
        sender = self.sender
        return sender.snd_nxt - sender.snd_una - self.board.sacked - self.board.lost

    def send(self, now: float) -> None:
        """What is lost, then what is new, as the windows allow. NextSeg of RFC 6675 §4, rules 1 and 2."""
        sender = self.sender
        if self.board.lost and not self._send_lost(now):
            return
        before = sender.snd_nxt
        sender.send_new(now)
        self.prr.sent += sender.snd_nxt - before

    def _send_lost(self, now: float) -> bool:
        """Returns whether nothing lost is left to send."""
        sender, board, mss = self.sender, self.board, self.sender.mss
        index = 0
        while board.lost:
            record = board.records[index]
            if record.marks & LOST:
                board.join(index, mss)
                room = sender.cc.cwnd - self.pipe
                allowed = min(sender.snd_una + sender.snd_wnd - record.start, sender.super_segment)
                if allowed <= 0 or (room < min(len(record), mss) and self.pipe):
                    break
                allowed = min(allowed, max(room - room % mss, mss))
                if len(record.data) > allowed:
                    board.split(index, record.start + allowed)
                self.send_again(record, now)
            index += 1
        sender.away = board.sacked + board.lost
        return not board.lost

    def send_again(self, record: Sent, now: float) -> None:
        """One record, lost or not, whatever the windows are."""
        sender = self.sender
        self.board.send_again(record, now)
        self.prr.sent += len(record)
        sender.retransmits += -(-len(record) // sender.mss)
        flags = FIN | ACK if record.fin else ACK
        if record.data and record.end == sender.snd_nxt and not sender.queue:
            flags |= PSH
        sender.emit(record.start, record.data, flags, now)
