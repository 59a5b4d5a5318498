"""The receiving half of a connection: order, buffer, window, SACK blocks. RFC 9293 §3.10.7.4, RFC 2018.

Text in order goes straight to the owner as a view of the device buffer; what the owner does not take is
copied and waits in `ready`. Text out of order waits in `islands`. The window never shrinks: `rcv_adv`, the
right edge promised to the peer, only grows (RFC 9293 §3.8.6), and grows in useful steps (§3.8.6.2.2).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

Data = bytes | memoryview

MAX_ISLANDS = 1024
"""Pieces held out of order; more is a peer that sends confetti, and the newest are dropped."""

CLOT = 4096
"""Up to how many bytes text that waits is joined."""


class Receiver:
    """Variables of RFC 9293 §3.3.1 (`rcv_*`). `deliver(view)` offers text in order and returns how many
    bytes were taken; the view is only valid during the call."""

    __slots__ = (
        "deliver",
        "fin_at",
        "islands",
        "islands_bytes",
        "limit",
        "mss",
        "rcv_adv",
        "rcv_nxt",
        "ready",
        "ready_bytes",
        "recent",
        "unacked",
    )

    def __init__(self, irs: int, limit: int, deliver: Callable[[Data], int]) -> None:
        self.rcv_nxt = irs + 1
        self.rcv_adv = self.rcv_nxt
        self.limit = limit
        self.mss = 536
        self.deliver = deliver
        self.ready: deque[Data] = deque()
        self.ready_bytes = 0
        self.islands: list[tuple[int, bytes]] = []
        self.islands_bytes = 0
        self.recent: list[int] = []
        """Where islands grew, the latest first: their order in the SACK option (RFC 2018 §4)."""
        self.fin_at: int | None = None
        self.unacked = 0
        """Bytes in order since the last ACK left."""

    def window(self) -> int:
        """Bytes the peer may send beyond `rcv_nxt`, as of now; moves `rcv_adv`."""
        right = self.rcv_nxt + self.limit - self.ready_bytes - self.islands_bytes
        step = right - self.rcv_adv
        if step >= self.mss or step >= self.limit // 2:
            self.rcv_adv = right
        return max(self.rcv_adv - self.rcv_nxt, 0)

    def window_is_worth_telling(self) -> bool:
        """Whether an update would move the right edge by a quarter of the buffer or open a closed window,
        and by enough to be a step that `window` takes."""
        gain = self.rcv_nxt + self.limit - self.ready_bytes - self.islands_bytes - self.rcv_adv
        if gain < min(self.mss, self.limit // 2):
            return False
        return gain >= self.limit // 4 or self.rcv_adv == self.rcv_nxt

    def on_text(self, seq: int, data: memoryview) -> bool:
        """Take a segment's text. Returns whether it arrived in order with nothing waiting behind a hole;
        otherwise an immediate ACK is due (RFC 5681 §4.2)."""
        if seq == self.rcv_nxt and not self.islands and self.fin_at is None:
            self._advance(data)
            return True
        if self.fin_at is not None:
            data = data[: max(self.fin_at - seq, 0)]
        if seq < self.rcv_nxt:
            data = data[self.rcv_nxt - seq :]
            seq = self.rcv_nxt
        data = data[: max(self.rcv_adv - seq, 0)]
        if not data:
            return False
        if seq == self.rcv_nxt:
            self._advance(data)
            self._join_islands()
        else:
            self._store(seq, bytes(data))
        return False

    def _advance(self, data: Data) -> None:
        length = len(data)
        self.rcv_nxt += length
        self.unacked += length
        taken = 0 if self.ready else self.deliver(data)
        if taken < length:
            self._keep(bytes(data[taken:]))

    def _keep(self, data: bytes) -> None:
        """Add to `ready`. Small neighbours are joined: an object a byte would be fifty times the text."""
        ready = self.ready
        if ready and len(ready[-1]) + len(data) <= CLOT:
            ready[-1] = b"".join((ready[-1], data))
        else:
            ready.append(data)
        self.ready_bytes += len(data)

    def _join_islands(self) -> None:
        """Deliver the islands that the advance has reached."""
        while self.islands and self.islands[0][0] <= self.rcv_nxt:
            seq, data = self.islands.pop(0)
            self.islands_bytes -= len(data)
            if seq + len(data) > self.rcv_nxt:
                self._advance(memoryview(data)[self.rcv_nxt - seq :])

    def _store(self, seq: int, data: bytes) -> None:
        """Keep only what no island holds yet, so that a byte counts and is delivered once; what arrived
        first stays (RFC 9293 §3.10.7.4 allows either, and this cannot be rewritten by an attacker)."""
        self.recent = [seq, *self.recent[:7]]
        pieces: list[tuple[int, bytes]] = []
        end = seq + len(data)
        at = seq
        for start, held in self.islands:
            if start >= end:
                break
            if start > at:
                pieces.append((at, data[at - seq : start - seq]))
            at = max(at, start + len(held))
        if at < end:
            pieces.append((at, data[at - seq :]))
        if len(self.islands) + len(pieces) > MAX_ISLANDS:
            return
        self.islands.extend(pieces)
        self.islands.sort()
        self.islands_bytes += sum(len(piece) for _, piece in pieces)

    def sack_blocks(self, most: int) -> list[tuple[int, int]]:
        """Contiguous ranges held, those that grew last first. RFC 2018 §4."""
        ranges: list[tuple[int, int]] = []
        for seq, data in self.islands:
            if ranges and ranges[-1][1] == seq:
                ranges[-1] = (ranges[-1][0], seq + len(data))
            else:
                ranges.append((seq, seq + len(data)))
        latest: list[tuple[int, int]] = []
        for seq in self.recent:
            for edges in ranges:
                if edges[0] <= seq < edges[1] and edges not in latest:
                    latest.append(edges)
        return (latest + [edges for edges in ranges if edges not in latest])[:most]

    def read(self, most: int, peek: bool = False) -> bytes:
        """Up to `most` bytes in order; empty when there are none."""
        parts: list[Data] = []
        left = min(most, self.ready_bytes)
        if peek:
            for data in self.ready:
                if left <= 0:
                    break
                parts.append(data[:left])
                left -= len(parts[-1])
            return b"".join(parts)
        while left:
            data = self.ready.popleft()
            if len(data) > left:
                view = memoryview(data)
                self.ready.appendleft(view[left:])
                data = view[:left]
            parts.append(data)
            left -= len(data)
            self.ready_bytes -= len(data)
        return parts[0] if len(parts) == 1 and isinstance(parts[0], bytes) else b"".join(parts)
