"""Who is where on an Ethernet link: the neighbour cache of RFC 4861 §7.3, for IPv4 as well.

                    first packet            answer                    30 s
            (none) ─────────────▶ INCOMPLETE ──────▶ REACHABLE ──────────────▶ STALE
                                  │ 3 questions         ▲   ▲                    │ packet
                                  ▼                     │   │ heard of it        ▼
                                FAILED                  └── PROBE ◀──── 5 s ── DELAY
                                                              │ 3 questions
                                                              ▼
                                                            (none)

Packets to a neighbour that is being looked for wait in a bounded queue. One that does not answer has FAILED: what
waited, and what comes in the next second, is unreachable.

Pure. The link (ethernet.py) sends questions and packets; this file decides when. Each entry is a Timed. Every
bound has a reason: looking for neighbours that do not exist is what a scan makes us do (RFC 6583), so it may take
half the cache at most and never pushes out those that exist.
"""

from __future__ import annotations

from collections import Counter, deque
from enum import Enum
from typing import Protocol

from tunsmith.stack.deadlines import Deadlines
from tunsmith.stack.output import Parts
from tunsmith.stack.tcp.timers import NEVER

REACHABLE_TIME = 30.0
RETRANS_TIMER = 1.0
DELAY_FIRST_PROBE_TIME = 5.0
MAX_MULTICAST_SOLICIT = 3
MAX_UNICAST_SOLICIT = 3
"""RFC 4861 §10."""
FAILED_TIME = 1.0
"""How long a neighbour that did not answer is not asked again."""

ENTRIES = 1024
PENDING_BYTES = 212_992
"""What may wait for one neighbour; Linux has the same (unres_qlen_bytes)."""
PENDING_TOTAL = 4 << 20


class State(Enum):
    """RFC 4861 §7.3.2; FAILED is Linux's word for what the RFC deletes."""

    INCOMPLETE = "incomplete"
    REACHABLE = "reachable"
    STALE = "stale"
    DELAY = "delay"
    PROBE = "probe"
    FAILED = "failed"


_UNRESOLVED = frozenset({State.INCOMPLETE, State.FAILED})


class Link(Protocol):
    """What carries out the decisions."""

    def solicit(self, address: bytes, mac: bytes | None) -> None:
        """Ask who has `address`: everybody, or only `mac`."""

    def transmit(self, parts: Parts, mac: bytes) -> None:
        """Send a frame to `mac`."""

    def unreachable(self, frame: bytes, forwarded: bool) -> None:
        """`frame` had to be given up, since its neighbour does not answer."""


class Neighbour:
    """One entry. `usable` says that packets may go to `mac` without further thought."""

    __slots__ = (
        "__weakref__", "address", "cache", "mac", "pending", "pending_bytes", "probes", "scheduled", "state",
        "timers", "usable",
    )  # fmt: skip

    def __init__(self, cache: NeighbourCache, address: bytes) -> None:
        self.cache = cache
        self.address = address
        self.mac = b""
        self.state = State.INCOMPLETE
        self.usable = False
        self.probes = 0
        self.pending: deque[tuple[bytes, bool]] | None = None
        self.pending_bytes = 0
        self.timers = [NEVER]
        self.scheduled = NEVER

    def on_timeout(self, now: float) -> None:
        """The time of the present state is over."""
        self.timers[0] = NEVER
        self.cache.on_timeout(self, now)


class NeighbourCache:
    """The neighbours of one link, both families. `drops` counts packets lost here: `neighbour_limit` (too many
    are being looked for), `neighbour_queue` (too many wait)."""

    def __init__(self, link: Link, deadlines: Deadlines, drops: Counter[str], limit: int = ENTRIES) -> None:
        self.entries: dict[bytes, Neighbour] = {}
        self._link = link
        self._deadlines = deadlines
        self._drops = drops
        self._limit = limit
        self._unresolved = 0
        self._pending_bytes = 0

    # --- packets to neighbours ---

    def send(self, address: bytes, parts: Parts, now: float, *, forwarded: bool = False) -> None:
        """Send a frame to the neighbour `address`, now or when it is found; it is copied if it has to wait."""
        entry = self.entries.get(address)
        if entry is None:
            entry = self._look_for(address, now)
            if entry is None:
                return
        if entry.state is State.STALE:
            self._enter(entry, State.DELAY, now + DELAY_FIRST_PROBE_TIME)
        if entry.usable:
            self._link.transmit(parts, entry.mac)
        elif entry.state is State.FAILED:
            self._link.unreachable(b"".join(parts), forwarded)
        else:
            self._wait(entry, b"".join(parts), forwarded)

    def _look_for(self, address: bytes, now: float) -> Neighbour | None:
        if self._unresolved >= self._limit // 2:
            self._drops["neighbour_limit"] += 1
            return None
        entry = self._add(address)
        entry.probes = 1
        self._enter(entry, State.INCOMPLETE, now + RETRANS_TIMER)
        self._link.solicit(address, None)
        return entry

    def _wait(self, entry: Neighbour, frame: bytes, forwarded: bool) -> None:
        if self._pending_bytes + len(frame) > PENDING_TOTAL:
            self._drops["neighbour_queue"] += 1
            return
        if entry.pending is None:
            entry.pending = deque()
        entry.pending.append((frame, forwarded))
        entry.pending_bytes += len(frame)
        self._pending_bytes += len(frame)
        while entry.pending_bytes > PENDING_BYTES:  # the oldest goes: RFC 4861 §7.2.2
            length = len(entry.pending.popleft()[0])
            entry.pending_bytes -= length
            self._pending_bytes -= length
            self._drops["neighbour_queue"] += 1

    # --- what neighbours say ---

    def on_advertisement(
        self, address: bytes, mac: bytes | None, now: float, *, solicited: bool, override: bool
    ) -> None:
        """`address` says where it is, RFC 4861 §7.2.5; to those who did not ask it means nothing."""
        entry = self.entries.get(address)
        if entry is None:
            return
        if entry.state in _UNRESOLVED:
            if mac is not None:
                self._found(entry, mac, now, reachable=solicited)
            return
        moved = mac is not None and mac != entry.mac
        if moved and not override:
            if entry.state is State.REACHABLE:
                self._enter(entry, State.STALE, NEVER)
            return
        if mac is not None:
            entry.mac = mac
        if solicited:
            self._enter(entry, State.REACHABLE, now + REACHABLE_TIME)
        elif moved:
            self._enter(entry, State.STALE, NEVER)

    def on_sight(self, address: bytes, mac: bytes, now: float) -> None:
        """`address` asked us something and is at `mac`: it will want an answer. RFC 4861 §7.2.3, RFC 826."""
        entry = self.entries.get(address)
        if entry is None:
            entry = self._add(address)
        if entry.state in _UNRESOLVED:
            self._found(entry, mac, now, reachable=False)
        elif mac != entry.mac:
            entry.mac = mac
            self._enter(entry, State.STALE, NEVER)

    def _found(self, entry: Neighbour, mac: bytes, now: float, *, reachable: bool) -> None:
        entry.mac = mac
        if reachable:
            self._enter(entry, State.REACHABLE, now + REACHABLE_TIME)
        else:
            self._enter(entry, State.STALE, NEVER)
        for frame, _ in self._take_pending(entry):
            self._link.transmit((frame,), mac)

    # --- time ---

    def on_timeout(self, entry: Neighbour, now: float) -> None:
        """The time of the state of `entry` is over."""
        if entry.state is State.INCOMPLETE:
            if entry.probes < MAX_MULTICAST_SOLICIT:
                self._ask_again(entry, State.INCOMPLETE, now)
            else:
                self._enter(entry, State.FAILED, now + FAILED_TIME)
                for frame, forwarded in self._take_pending(entry):
                    self._link.unreachable(frame, forwarded)
        elif entry.state is State.REACHABLE:
            self._enter(entry, State.STALE, NEVER)
        elif entry.state is State.DELAY:
            entry.probes = 0
            self._ask_again(entry, State.PROBE, now)
        elif entry.state is State.PROBE and entry.probes < MAX_UNICAST_SOLICIT:
            self._ask_again(entry, State.PROBE, now)
        else:
            self._remove(entry)

    def _ask_again(self, entry: Neighbour, state: State, now: float) -> None:
        entry.probes += 1
        self._enter(entry, state, now + RETRANS_TIMER)
        self._link.solicit(entry.address, entry.mac if state is State.PROBE else None)

    # --- entries ---

    def _enter(self, entry: Neighbour, state: State, until: float) -> None:
        self._unresolved += (state in _UNRESOLVED) - (entry.state in _UNRESOLVED)
        entry.state = state
        entry.usable = state in (State.REACHABLE, State.DELAY, State.PROBE)
        entry.timers[0] = until
        if until < NEVER:
            self._deadlines.schedule(entry, until)

    def _add(self, address: bytes) -> Neighbour:
        """A new entry, INCOMPLETE; the oldest that was found makes room."""
        if len(self.entries) >= self._limit:
            self._remove(next(entry for entry in self.entries.values() if entry.state not in _UNRESOLVED))
        entry = self.entries[address] = Neighbour(self, address)
        self._unresolved += 1
        return entry

    def _remove(self, entry: Neighbour) -> None:
        entry.timers[0] = NEVER
        entry.usable = False
        self._unresolved -= entry.state in _UNRESOLVED
        self._take_pending(entry)
        del self.entries[entry.address]

    def _take_pending(self, entry: Neighbour) -> deque[tuple[bytes, bool]]:
        pending = entry.pending or deque()
        self._pending_bytes -= entry.pending_bytes
        entry.pending, entry.pending_bytes = None, 0
        return pending
