"""What is known of each transmission in flight: SACKed, lost, sent again. RFC 2018, RFC 6675 §3.

With offload one transmission is a super-segment of up to 45 packets, and a loss hits one of them in the
middle. A record is cut where the edge of a SACK block, an ACK or a retransmission falls, and only then: on a
path without loss there is one record for each super-segment, and nobody looks at its marks.

A record is in exactly one of three conditions: in the network, `SACKED`, or `LOST`. Sending it again puts it
back into the network, with RETRANSMITTED to say that an ACK for it is ambiguous. Bytes in the network, what
RFC 6675 calls pipe, are therefore all in flight but `sacked` and `lost`. SACKed neighbours become one record, so
that there are hardly more of them than holes, however large the window.
"""

from __future__ import annotations

from bisect import bisect_right
from operator import attrgetter

from tunsmith.wire.seq import widen

Data = bytes | memoryview
Blocks = tuple[tuple[int, int], ...]
"""Edges of SACK blocks, as they are on the wire."""

RETRANSMITTED, SACKED, LOST = 1, 2, 4
_START, _END = attrgetter("start"), attrgetter("end")


class Sent:
    """One transmission in flight: stream positions [start, end), a FIN being the last of them if `fin`; its
    bytes, when it was sent last, and its marks."""

    __slots__ = ("data", "end", "fin", "marks", "sent_at", "start")

    def __init__(self, start: int, end: int, data: Data, fin: bool, sent_at: float) -> None:
        self.start = start
        self.end = end
        self.data = data
        self.fin = fin
        self.sent_at = sent_at
        self.marks = 0

    def __len__(self) -> int:
        return self.end - self.start


class Arrived(Sent):
    """A stretch that is SACKed. Its bytes are kept, as they were sent: the peer may take its word back."""

    __slots__ = ("pieces",)

    def __init__(self, record: Sent) -> None:
        super().__init__(record.start, record.end, b"", record.fin, record.sent_at)
        self.marks = SACKED
        self.pieces = [record.data]

    def take(self, record: Sent) -> None:
        """Take in what follows."""
        self.pieces += record.pieces if isinstance(record, Arrived) else [record.data]
        self.end = record.end
        self.fin = record.fin


class Scoreboard:
    """The marks on `records`, which cover [snd_una, snd_nxt) without gaps. All quantities are bytes."""

    __slots__ = ("_told", "highest", "lost", "pieces", "records", "sacked")

    def __init__(self, records: list[Sent], highest: int) -> None:
        self.records = records
        self.sacked = 0
        self.lost = 0
        self.pieces = 0
        """Transmissions that are SACKED."""
        self.highest = highest
        """The end of the highest record ever acknowledged or SACKed."""
        self._told: dict[int, int] = {}
        """The blocks of the last ACK, most of which the next repeats."""

    def read(self, ack: int, blocks: Blocks, snd_nxt: int) -> tuple[list[Sent], int | None]:
        """Take in an ACK and its SACK blocks. Returns the records that it newly covers, in order, and the end of the
        D-SACK among the blocks."""
        delivered = self.acknowledge(ack)
        wide = [(widen(start, ack), widen(end, ack)) for start, end in blocks]
        d_sack = None
        if wide and _is_duplicate(ack, wide):
            d_sack = wide.pop(0)[1]
        wide = [(start, end) for start, end in wide if ack <= start < end <= snd_nxt]  # RFC 2018: no others
        if wide:
            delivered += self.sack(wide)
            delivered.sort(key=_START)
        return delivered, d_sack

    def acknowledge(self, ack: int) -> list[Sent]:
        """Take out what lies below `ack`; returns those of the records that were not SACKed before."""
        records = self.records
        delivered = []
        while records and records[0].start < ack:
            record = records[0]
            if isinstance(record, Arrived):
                self._acknowledge_sacked(record, ack)
                continue
            if record.end > ack:
                self.split(0, ack)
            del records[0]
            if record.marks & LOST:
                self.lost -= len(record)
            delivered.append(record)
        return delivered

    def _acknowledge_sacked(self, record: Arrived, ack: int) -> None:
        """The first record, which is SACKed, or the beginning of it."""
        if record.end <= ack:
            self.sacked -= len(record)
            self.pieces -= len(record.pieces)
            del self.records[0]
            return
        self.sacked -= ack - record.start
        self.pieces -= len(record.pieces) - 1
        record.pieces = [memoryview(b"".join(record.pieces))[ack - record.start :]]
        record.start = ack

    def sack(self, blocks: list[tuple[int, int]]) -> list[Sent]:
        """Mark what `blocks` cover; returns the records that were not marked before. The blocks lie within
        [snd_una, snd_nxt]."""
        delivered: list[Sent] = []
        for start, end in blocks:
            known = self._told.get(start, start)
            if known < end:
                self._sack(known, end, delivered)
        self._told = dict(blocks)
        return delivered

    def _sack(self, start: int, end: int, delivered: list[Sent]) -> None:
        records = self.records
        index = bisect_right(records, start, key=_END)
        while index < len(records):
            record = records[index]
            if record.start >= end:
                break
            if record.marks & SACKED:
                index += 1
                continue
            if record.start < start:
                self.split(index, start)
                index += 1
                continue
            if record.end > end:
                self.split(index, end)
            if record.marks & LOST:
                self.lost -= len(record)
            self.sacked += len(record)
            self.pieces += 1
            delivered.append(record)
            index = self._arrive(index)

    def _arrive(self, index: int) -> int:
        """Make the record at `index` a SACKed one, together with its neighbours that are. Returns the next index."""
        records = self.records
        record = records[index]
        run = records[index - 1] if index else record
        if isinstance(run, Arrived):
            run.take(record)
            del records[index]
        else:
            records[index] = run = Arrived(record)
            index += 1
        if index < len(records) and records[index].marks & SACKED:
            run.take(records[index])
            del records[index]
        return index

    def split(self, index: int, position: int) -> None:
        """Cut the record at `index`, which is not SACKed, in two at `position`, which lies inside it."""
        record = self.records[index]
        length = position - record.start
        view = memoryview(record.data)
        rest = Sent(position, record.end, view[length:], record.fin, record.sent_at)
        rest.marks = record.marks
        record.end = position
        record.data = view[:length]
        record.fin = False
        self.records.insert(index + 1, rest)

    def join(self, index: int, most: int) -> None:
        """Let the lost record at `index` take in lost ones behind it, as long as it has no more than `most` bytes."""
        records = self.records
        record = records[index]
        while index + 1 < len(records):
            other = records[index + 1]
            if not other.marks & LOST or len(record.data) + len(other.data) > most:
                break
            record.data = b"".join((record.data, other.data))
            record.end = other.end
            record.fin = other.fin
            del records[index + 1]

    def lose(self, record: Sent) -> None:
        """Count `record`, which is in the network, as lost."""
        record.marks |= LOST
        self.lost += len(record)

    def lose_first(self, most: int) -> None:
        """Count up to `most` bytes at the beginning as lost."""
        if self.records and not self.records[0].marks & LOST:
            if len(self.records[0].data) > most:
                self.split(0, self.records[0].start + most)
            self.lose(self.records[0])

    def lose_all(self) -> None:
        """Count everything in the network as lost."""
        for record in self.records:
            if not record.marks & (SACKED | LOST):
                self.lose(record)

    def lose_by_count(self, pieces: int, mss: int) -> None:
        """IsLost of RFC 6675 §4: lost is what has `pieces` SACKed above it, or more bytes than one segment less."""
        above = found = 0
        for record in reversed(self.records):
            if isinstance(record, Arrived):
                above += len(record)
                found += len(record.pieces)
            elif not record.marks and (found >= pieces or above > (pieces - 1) * mss):
                self.lose(record)

    def last(self, most: int) -> Sent:
        """The last record, cut so that it has no more than `most` bytes and those before it are whole segments."""
        record = self.records[-1]
        if len(record.data) > most:
            self.split(len(self.records) - 1, record.start + (len(record.data) - 1) // most * most)
        return self.records[-1]

    def send_again(self, record: Sent, now: float) -> None:
        """`record`, lost or not, goes back into the network."""
        if record.marks & LOST:
            self.lost -= len(record)
        record.marks = RETRANSMITTED
        record.sent_at = now

    def find(self) -> None:
        """Nothing was lost after all: put it back into the network."""
        for record in self.records:
            record.marks &= ~LOST
        self.lost = 0

    @property
    def reneged(self) -> bool:
        """Whether the peer has taken a SACK back: what it says comes next, it had said it has. RFC 2018 §8."""
        return bool(self.records) and bool(self.records[0].marks & SACKED)

    def forget(self) -> None:
        """Forget all SACKs."""
        records = self.records
        for index, record in enumerate(records):
            if isinstance(record, Arrived):
                data = b"".join(record.pieces)
                records[index] = Sent(record.start, record.end, data, record.fin, record.sent_at)
        self.sacked = self.pieces = 0
        self._told = {}


def _is_duplicate(ack: int, blocks: list[tuple[int, int]]) -> bool:
    """Whether the first block is a D-SACK: below the ACK, or within the second. RFC 2883 §4."""
    start, end = blocks[0]
    inside = len(blocks) > 1 and blocks[1][0] <= start and end <= blocks[1][1]
    return start < end and (end <= ack or inside)
