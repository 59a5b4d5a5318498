"""The book of flows: every flow is entered when it begins and leaves by one door when it ends.

Here is what concerns flows of all kinds: their records, the fake addresses they hold, what is said of
upstreams that fail. The engine decides what happens to a flow, the relays move its bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from tunsmith.errors import DialError, ProxyError
from tunsmith.flow import Action, Target, Verdict
from tunsmith.relay.report import FlowRecord, Reporter

if TYPE_CHECKING:
    from tunsmith.dns.fakeip import FakeIpPool
    from tunsmith.wire.ip import IpFamily

News = TypeVar("News", FlowRecord, str)

REPEAT = 60.0
"""Seconds before the same complaint about the upstream is made again."""


class FlowBook:
    """Records of one engine. `label` names the upstream; `name_of` knows names that were looked up."""

    def __init__(
        self,
        label: str,
        pool: FakeIpPool | None,
        reporter: Reporter,
        drops: Counter[str],
        clock: Callable[[], float],
    ) -> None:
        self.drops = drops
        self.name_of: Callable[[bytes], str | None] | None = None
        self._label = label
        self.clock = clock
        self._pool = pool
        self.reporter = reporter
        self._complaints: dict[type[DialError], float] = {}

    def enter(
        self, protocol: str, family: IpFamily, key: bytes, target: Target, verdict: Verdict
    ) -> FlowRecord:
        """The record of a flow that begins now; `key` is that of the application's packets."""
        now = self.clock()
        upstream = self._label if verdict.action is Action.DIAL else "tunsmith"
        record = FlowRecord(protocol, family, key, target, verdict.rule, upstream, now, last=now)
        if self.name_of is not None:
            n = family.address_length
            record.name = self.name_of(key[n : 2 * n]) or ""
        return record

    def pin(self, record: FlowRecord) -> None:
        """Keep the fake address of a flow from being given to another name while the flow lives."""
        if self._pool is not None and record.target.is_name:
            n = record.family.address_length
            record.pinned = record.key[n : 2 * n]
            self._pool.pin(record.pinned)

    def end(self, record: FlowRecord) -> None:
        """The one door out. `record.outcome` has been set."""
        record.ended = self.clock()
        if record.pinned and self._pool is not None:
            self._pool.unpin(record.pinned)
            record.pinned = b""
        self._tell(self.reporter.flow_ended, record)

    def refuse(self, protocol: str, family: IpFamily, key: bytes, target: Target, verdict: Verdict) -> None:
        """Enter a flow that `verdict` ends before it begins."""
        record = self.enter(protocol, family, key, target, verdict)
        record.outcome = "refused"
        self.end(record)

    def complain(self, error: DialError) -> None:
        """What is wrong with the upstream or with us, not with one destination, is worth a line."""
        kind = type(error)
        if kind is DialError or isinstance(error, ProxyError):
            now = self.clock()
            if now - self._complaints.get(kind, -REPEAT) >= REPEAT:
                self._complaints[kind] = now
                self.notice(str(error))

    def notice(self, text: str) -> None:
        """A line for whoever reports."""
        self._tell(self.reporter.notice, text)

    def _tell(self, listener: Callable[[News], None], news: News) -> None:
        try:
            listener(news)
        except Exception:  # flows end in the middle of packets: a pipe that nobody reads must not hurt others
            self.drops["report_failed"] += 1
