"""TIME-WAIT, RFC 9293 §3.10.7.4 and RFC 6191: records that answer for connections that are over.

A record is a fifth of a connection. All wait equally long, so they expire in the order they came; when
there are too many the oldest goes, as Linux does with `tcp_max_tw_buckets`.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from tunsmith.stack.tcp.timers import NEVER
from tunsmith.wire.ip import IpFamily


@dataclass(slots=True)
class TimeWait:
    """What is left of a connection. `ts_recent` is None without timestamps; `ts_offset` of our clock."""

    family: IpFamily
    snd_nxt: int
    rcv_nxt: int
    window: int
    ts_recent: int | None
    ts_offset: int
    until: float

    def may_reopen(self, seq32: int, tsval: int | None) -> bool:
        """Whether a SYN begins a new incarnation: its timestamp or its ISN is newer. RFC 6191 §2. `tsval` is
        None where the new incarnation would have no timestamps."""
        if tsval is not None:
            if self.ts_recent is None:
                return True
            if tsval != self.ts_recent:
                return not (tsval - self.ts_recent) & 0x80000000
        return not (seq32 - self.rcv_nxt - 1) & 0x80000000


class TimeWaitTable:
    """Records by key. A Timed for the stack's deadlines."""

    __slots__ = ("__weakref__", "limit", "records", "scheduled", "timers")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.records: OrderedDict[bytes, TimeWait] = OrderedDict()
        self.timers = [NEVER]
        self.scheduled = NEVER

    def add(self, key: bytes, record: TimeWait) -> None:
        """Keep `record` until its time; may push out the oldest."""
        self.records.pop(key, None)
        if len(self.records) >= self.limit:
            self.records.popitem(last=False)
        self.records[key] = record
        self._arm()

    def remove(self, key: bytes) -> None:
        """A new incarnation has begun."""
        del self.records[key]
        self._arm()

    def on_timeout(self, now: float) -> None:
        """Let go of what is due."""
        while self.records and self.records[next(iter(self.records))].until <= now:
            self.records.popitem(last=False)
        self._arm()

    def _arm(self) -> None:
        self.timers[0] = self.records[next(iter(self.records))].until if self.records else NEVER
