"""Duplicate ACKs of a peer without SACK: each says that a segment has arrived behind a hole. RFC 6582."""

from __future__ import annotations

from tunsmith.stack.tcp.rack import DUPLICATE_ACKS
from tunsmith.stack.tcp.scoreboard import Scoreboard


class Duplicates:
    """What they add up to: an estimate of the bytes that have arrived, kept as what `board` has SACKed."""

    __slots__ = ("_board", "_count")

    def __init__(self, board: Scoreboard) -> None:
        self._board = board
        self._count = 0

    @property
    def tell_of_a_loss(self) -> bool:
        """There are three of them."""
        return self._count >= DUPLICATE_ACKS

    def forget(self) -> None:
        """Everything is sent again."""
        self._count = self._board.sacked = 0

    def on_ack(self, advance: int, flight: int, mss: int, duplicate: bool, partial: bool) -> int:
        """An ACK of `advance` bytes that leaves `flight`; `partial`: in a recovery, which it does not end. Returns
        the bytes that have newly arrived."""
        board = self._board
        had = board.sacked
        if advance:
            self._count = 0
            board.sacked = had - max(advance - mss, 0) if partial else 0
        elif duplicate:
            self._count += 1
            board.sacked = had + mss
        board.sacked = max(min(board.sacked, flight - board.lost - mss), 0)
        return max(advance + board.sacked - had, 0)
