"""Reassembly of IPv4 (RFC 791, 815) and IPv6 (RFC 8200 §4.5) datagrams, one code path for both.

The fragments of a datagram lie in a list sorted by offset. Two that overlap condemn the whole datagram
(RFC 5722; the same for IPv4, where no honest sender does it either), so what is kept never overlaps,
and the datagram is complete as soon as the lengths add up to its end: no list of holes is needed.

A condemned datagram stays in the table, empty, until its time is up, so that fragments which come
later cannot start it anew. Everything is bounded: the oldest datagram makes room, and every fragment
is charged for the objects that hold it, or 8-byte fragments would cost twenty times what they carry.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator

from tunsmith.wire.checksum import Buffer

LARGEST = 65535
"""The most that the length fields of either version can say."""
CONGESTION_EXPERIENCED = 3
"""ECN field of a packet that a router has marked, RFC 3168 §5."""
FRAGMENT_COST = 160
"""Bytes charged for a fragment besides its payload: two objects and their places in two lists."""


class Reassembler:
    """Fragments in, whole datagrams out. At most `max_datagrams` are under way, charged with at most
    `max_bytes`; each has `timeout` seconds from its first fragment.

    `drops` counts, by cause, the fragments that were thrown away (`fragment_empty`,
    `fragment_misaligned`, `fragment_oversize`, `fragment_overlap`, `fragment_duplicate`) and the
    datagrams that were (`fragment_timeout`, `fragment_evicted`)."""

    __slots__ = ("_datagrams", "_drops", "_max_bytes", "_max_datagrams", "_timeout", "_used")

    def __init__(
        self,
        drops: Counter[str],
        max_bytes: int = 1 << 20,
        max_datagrams: int = 64,
        timeout: float = 30.0,
    ) -> None:
        self._drops = drops
        self._max_bytes = max_bytes
        self._max_datagrams = max_datagrams
        self._timeout = timeout
        self._used = 0
        self._datagrams: dict[bytes, _Datagram] = {}  # in order of arrival, so in order of deadlines

    def __len__(self) -> int:
        """How many datagrams are under way, condemned ones included."""
        return len(self._datagrams)

    @property
    def used(self) -> int:
        """Bytes charged at the moment; never above `max_bytes` between calls."""
        return self._used

    def add(
        self, key: bytes, header: Buffer, offset: int, more: bool, payload: Buffer, now: float
    ) -> tuple[bytes, bytes] | None:
        """Take one fragment; return the header of the first and the whole payload when it was the last
        one missing. If a router has marked one of them, that header is marked (RFC 3168 §5.3).

        `key` is what fragments of one datagram share: addresses, identification, and for IPv4 the
        protocol. `header` is everything before the payload as it was received, so for IPv6 its last
        eight bytes are the fragment header. `offset` is in bytes. Buffers are copied, and only if kept.

        A fragment which is the whole datagram (RFC 6946) passes through and touches nothing."""
        if offset == 0 and not more:
            return bytes(header), bytes(payload)
        cause = _flaw(header, offset, more, len(payload))
        if cause:
            self._drops[cause] += 1
            return None
        datagram = self._datagrams.get(key)
        if datagram is None:
            datagram = self._datagrams[key] = _Datagram(now + self._timeout)
            self._used += datagram.cost
        before = datagram.cost
        cause = datagram.insert(header, offset, more, payload)
        self._used += datagram.cost - before
        if cause:
            self._drops[cause] += 1
        elif datagram.complete:
            return self._finish(key, datagram)
        self._make_room()
        return None

    def next_deadline(self) -> float | None:
        """When the oldest datagram runs out of time."""
        for datagram in self._datagrams.values():
            return datagram.deadline
        return None

    def expire(self, now: float) -> list[bytes]:
        """Give up on the datagrams whose time has come. Returns the first fragments of those that had
        one, each a whole packet to quote in ICMP time exceeded, code 1 (RFC 1122 §3.3.2, RFC 8200 §4.5)."""
        quotes = []
        for key, datagram in self._due(now):
            self._forget(key, datagram)
            if not datagram.condemned:
                self._drops["fragment_timeout"] += 1
                if datagram.starts and datagram.starts[0] == 0:
                    quotes.append(datagram.header + datagram.pieces[0])
        return quotes

    def _due(self, now: float) -> Iterator[tuple[bytes, _Datagram]]:
        while self._datagrams:
            key, datagram = next(iter(self._datagrams.items()))
            if datagram.deadline > now:
                return
            yield key, datagram

    def _finish(self, key: bytes, datagram: _Datagram) -> tuple[bytes, bytes] | None:
        self._forget(key, datagram)
        if datagram.end > _room(datagram.header):
            self._drops["fragment_oversize"] += 1
            return None
        header = _marked(datagram.header) if datagram.marked else datagram.header
        return header, b"".join(datagram.pieces)

    def _make_room(self) -> None:
        while self._used > self._max_bytes or len(self._datagrams) > self._max_datagrams:
            key, datagram = next(iter(self._datagrams.items()))
            self._forget(key, datagram)
            self._drops["fragment_evicted"] += 1

    def _forget(self, key: bytes, datagram: _Datagram) -> None:
        del self._datagrams[key]
        self._used -= datagram.cost


class _Datagram:
    """One datagram under way: `pieces` at `starts`, sorted and disjoint; `end` is known (not -1) once the
    last fragment was seen. `marked`: a fragment has met congestion."""

    __slots__ = ("condemned", "cost", "deadline", "end", "filled", "header", "marked", "pieces", "starts")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.condemned = self.marked = False
        self.starts: list[int] = []
        self.pieces: list[bytes] = []
        self.header = b""
        self.end = -1
        self.filled = 0
        self.cost = FRAGMENT_COST

    @property
    def complete(self) -> bool:
        return self.filled == self.end

    def insert(self, header: Buffer, offset: int, more: bool, payload: Buffer) -> str:
        """Put a fragment in its place; returns why it was not, or an empty string."""
        if self.condemned:
            return "fragment_overlap"
        starts, pieces = self.starts, self.pieces
        at = bisect_left(starts, offset)
        stop = offset + len(payload)
        if at < len(starts) and starts[at] == offset and pieces[at] == payload and more == (stop != self.end):
            return "fragment_duplicate"
        if (
            (at > 0 and starts[at - 1] + len(pieces[at - 1]) > offset)
            or (at < len(starts) and starts[at] < stop)
            or (self.end >= 0 and (stop > self.end or not more))
            or (not more and at < len(starts))
        ):
            self._condemn()
            return "fragment_overlap"
        starts.insert(at, offset)
        pieces.insert(at, bytes(payload))
        self.filled += len(payload)
        self.cost += len(payload) + FRAGMENT_COST
        if header[1] >> _ecn_at(header) & CONGESTION_EXPERIENCED == CONGESTION_EXPERIENCED:
            self.marked = True
        if offset == 0:
            self.header = bytes(header)
            self.cost += len(header)
        if not more:
            self.end = stop
        return ""

    def _condemn(self) -> None:
        self.condemned = True
        self.starts, self.pieces, self.header = [], [], b""
        self.cost = FRAGMENT_COST


def _ecn_at(header: Buffer) -> int:
    """How far the ECN field is from the right end of the second byte."""
    return 0 if header[0] >> 4 == 4 else 4


def _marked(header: bytes) -> bytes:
    """The same, with the mark of a router; the checksum of IPv4 is as before."""
    return header[:1] + bytes((header[1] | CONGESTION_EXPERIENCED << _ecn_at(header),)) + header[2:]


def _room(header: Buffer) -> int:
    """The longest payload that the length field leaves after `header`: IPv4 counts its header in it,
    IPv6 only what follows the first 40 bytes, and the fragment header (8 bytes) goes away."""
    return LARGEST - len(header) + (0 if header[0] >> 4 == 4 else 48)


def _flaw(header: Buffer, offset: int, more: bool, length: int) -> str:
    """What is wrong with a fragment by itself, or an empty string."""
    if not length:
        return "fragment_empty"
    if more and length % 8:
        return "fragment_misaligned"
    if offset + length > _room(header):
        return "fragment_oversize"
    return ""
