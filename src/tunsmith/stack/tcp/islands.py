"""Text that arrived out of order: islands beyond the hole at `rcv_nxt`. RFC 9293 §3.10.7.4, RFC 2018 §4.

An island is a stretch without gaps, kept as the pieces that came. Text behind a hole mostly extends the island
that grew last, so taking it costs no more than an append, however much waits there.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from operator import attrgetter

MAX_PIECES = 2048
"""Pieces held; more is a peer that sends confetti, and the newest are dropped."""
CLOT = 4096
"""Up to how many bytes pieces are joined: an object a byte would be fifty times the text."""
_START, _END = attrgetter("start"), attrgetter("end")

Edges = tuple[int, int]


class Island:
    """Positions [start, end), as `pieces` in order."""

    __slots__ = ("end", "pieces", "start")

    def __init__(self, start: int) -> None:
        self.start = self.end = start
        self.pieces: list[bytes] = []

    def append(self, data: bytes) -> None:
        """Add what follows; it may be empty."""
        self.end += len(data)
        if self.pieces and len(self.pieces[-1]) + len(data) <= CLOT:
            self.pieces[-1] += data
        elif data:
            self.pieces.append(data)

    def text(self, position: int) -> list[memoryview]:
        """What lies at `position` and above."""
        views = []
        at = self.start
        for piece in self.pieces:
            if at + len(piece) > position:
                views.append(memoryview(piece)[max(position - at, 0) :])
            at += len(piece)
        return views


class Islands:
    """The islands of one connection, in order; no two touch."""

    __slots__ = ("_islands", "_pieces", "_recent")

    def __init__(self) -> None:
        self._islands: list[Island] = []
        self._recent: list[Island] = []
        """The same islands, those that grew last first."""
        self._pieces = 0

    def add(self, seq: int, data: bytes) -> Edges | None:
        """Take what no island holds yet, so that a byte is delivered once; what arrived first stays (the RFC
        allows either, and this cannot be rewritten by an attacker). Returns the first stretch that came twice."""
        islands = self._islands
        end = seq + len(data)
        first = bisect_left(islands, seq, key=_END)
        last = bisect_right(islands, end, first, key=_START)
        touched = islands[first:last]
        twice = next((edges for island in touched if (edges := _common(island, seq, end))), None)
        if self._pieces >= MAX_PIECES:
            return twice
        had = sum(len(island.pieces) for island in touched)
        grown = touched.pop(0) if touched and touched[0].start <= seq else Island(seq)
        at = max(seq, grown.end)
        for island in touched:
            grown.append(data[at - seq : island.start - seq])
            grown.pieces += island.pieces
            grown.end = at = island.end
        grown.append(data[at - seq :])
        islands[first:last] = [grown]
        self._pieces += len(grown.pieces) - had
        self._recent = [grown, *(each for each in self._recent if each is not grown and each not in touched)]
        return twice

    def reached(self, rcv_nxt: int) -> Island | None:
        """Take out the first island if `rcv_nxt` has come to it."""
        if not self._islands or self._islands[0].start > rcv_nxt:
            return None
        island = self._islands.pop(0)
        self._recent.remove(island)
        self._pieces -= len(island.pieces)
        return island

    def __len__(self) -> int:
        return len(self._islands)

    @property
    def held(self) -> int:
        """Bytes in all islands."""
        return sum(island.end - island.start for island in self._islands)

    def blocks(self) -> list[Edges]:
        """The edges of all islands, those that grew last first: their order in the SACK option, RFC 2018 §4."""
        return [(island.start, island.end) for island in self._recent]


def _common(island: Island, start: int, end: int) -> Edges | None:
    """What [start, end) has in common with `island`."""
    start, end = max(start, island.start), min(end, island.end)
    return (start, end) if start < end else None
