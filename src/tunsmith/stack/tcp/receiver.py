"""The receiving half of a connection: order, buffer, window, SACK blocks. RFC 9293 §3.10.7.4, RFC 2018.

Text in order goes straight to the owner as a view of the device buffer; what the owner does not take is
copied and waits in `ready`. Text out of order waits in islands (islands.py). The window never shrinks: `rcv_adv`, the
right edge promised to the peer, only grows (RFC 9293 §3.8.6), and grows in useful steps (§3.8.6.2.2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tunsmith.stack.tcp.islands import Edges, Islands

if TYPE_CHECKING:
    from tunsmith.stack.tcp.connection import Connection

Data = bytes | memoryview

CLOT = 4096
"""Up to how many bytes text that waits is joined."""


class Receiver:
    """Variables of RFC 9293 §3.3.1 (`rcv_*`). `deliver(connection, view)` offers text in order and returns how many
    bytes were taken (ConnectionHandler.on_data); the view is only valid during the call."""

    __slots__ = (
        "deliver",
        "duplicate",
        "fin_at",
        "islands",
        "limit",
        "mss",
        "rcv_adv",
        "rcv_nxt",
        "ready",
        "ready_bytes",
        "unacked",
    )

    def __init__(self, irs: int, limit: int, deliver: Callable[[Connection, memoryview], int]) -> None:
        self.rcv_nxt = irs + 1
        self.rcv_adv = self.rcv_nxt
        self.limit = limit
        self.mss = 536
        self.deliver = deliver
        self.ready: list[Data] = []
        self.ready_bytes = 0
        self.islands: Islands | None = None
        """What waits behind a hole; there only as long as something does."""
        self.duplicate: Edges | None = None
        """What came twice last, to be told once (D-SACK, RFC 2883)."""
        self.fin_at: int | None = None
        self.unacked = 0
        """Bytes in order since the last ACK left."""

    def window(self) -> int:
        """Bytes the peer may send beyond `rcv_nxt`, as of now; moves `rcv_adv`."""
        right = self.rcv_nxt + self.limit - self.ready_bytes
        step = right - self.rcv_adv
        if step >= self.mss or 2 * step >= self.limit:
            self.rcv_adv = right
        return self.rcv_adv - self.rcv_nxt

    def window_is_worth_telling(self) -> bool:
        """Whether an update would move the right edge by a quarter of the buffer or open a closed window,
        and by enough to be a step that `window` takes."""
        gain = self.rcv_nxt + self.limit - self.ready_bytes - self.rcv_adv
        if gain < min(self.mss, self.limit // 2):
            return False
        return gain >= self.limit // 4 or self.rcv_adv == self.rcv_nxt

    def advance(self, data: memoryview, connection: Connection) -> None:
        """Take text that is next."""
        length = len(data)
        self.rcv_nxt += length
        self.unacked += length
        taken = 0 if self.ready else self.deliver(connection, data)
        if taken < length:
            self._keep(bytes(data[taken:]))

    def on_text(self, seq: int, data: memoryview, connection: Connection) -> None:
        """Take text that is not just what is next with nothing behind it: an immediate ACK is due (RFC 5681 §4.2)."""
        if self.fin_at is not None:
            data = data[: max(self.fin_at - seq, 0)]
        if seq < self.rcv_nxt:
            self.duplicate = (seq, self.rcv_nxt)
            data = data[self.rcv_nxt - seq :]
            seq = self.rcv_nxt
        data = data[: max(self.rcv_adv - seq, 0)]
        if not data:
            return
        if seq == self.rcv_nxt:
            self.advance(data, connection)
            self._join_islands(connection)
        else:
            if self.islands is None:
                self.islands = Islands()
            self.duplicate = self.islands.add(seq, bytes(data)) or self.duplicate

    def _keep(self, data: bytes) -> None:
        """Add to `ready`. Small neighbours are joined: an object a byte would be fifty times the text."""
        ready = self.ready
        if ready and len(ready[-1]) + len(data) <= CLOT:
            ready[-1] = b"".join((ready[-1], data))
        else:
            ready.append(data)
        self.ready_bytes += len(data)

    def _join_islands(self, connection: Connection) -> None:
        """Deliver the islands that the advance has reached."""
        islands = self.islands
        if islands is None:
            return
        while island := islands.reached(self.rcv_nxt):
            for view in island.text(self.rcv_nxt):
                self.advance(view, connection)
        if not islands:
            self.islands = None

    def sack_blocks(self, most: int, dsack: bool) -> list[Edges]:
        """What to tell in the SACK option: with `dsack` what came twice, once (RFC 2883 §4), then the islands."""
        blocks = self.islands.blocks() if self.islands is not None else []
        if self.duplicate is not None and dsack:
            blocks.insert(0, self.duplicate)
        self.duplicate = None
        return blocks[:most]

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
            data = self.ready.pop(0)
            if len(data) > left:
                view = memoryview(data)
                self.ready.insert(0, view[left:])
                data = view[:left]
            parts.append(data)
            left -= len(data)
            self.ready_bytes -= len(data)
        return parts[0] if len(parts) == 1 and isinstance(parts[0], bytes) else b"".join(parts)
