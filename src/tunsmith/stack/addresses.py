"""The addresses of one Ethernet link that are ours, and how we make sure of it.

An address is *tentative* until it has been probed for and nobody spoke up (RFC 4862 §5.4; the same probe in ARP's
words for IPv4, RFC 5227 §2.1). Then it is announced, for caches and switches that remember somebody else. If
somebody has it, or probes for it at the same time, it is a *duplicate* and stays unused. Somebody who claims it
later is told off, once in ten seconds (RFC 5227 §2.4 b), and reported.

Pure. The link (ethernet.py) sends probes and announcements; each address is a Timed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from enum import Enum
from typing import Protocol

from tunsmith.stack.deadlines import Deadlines
from tunsmith.stack.tcp.timers import NEVER

PROBES = 1
PROBE_INTERVAL = 1.0
"""RFC 4862 §5.1: DupAddrDetectTransmits and RetransTimer."""
DEFEND_INTERVAL = 10.0

OnConflict = Callable[[bytes, bytes], None]
"""Called with an address of ours and the MAC of the station that claims it."""


class Standing(Enum):
    """What an address may be used for: nothing yet, everything, nothing."""

    TENTATIVE = "tentative"
    PREFERRED = "preferred"
    DUPLICATE = "duplicate"


class Link(Protocol):
    """What carries out the decisions."""

    def probe(self, address: bytes) -> None:
        """Ask whether somebody has `address`, without claiming it."""

    def announce(self, address: bytes) -> None:
        """Say to everybody that `address` is here."""


class OwnAddress:
    """One address and its standing. A Timed."""

    __slots__ = ("__weakref__", "address", "book", "defended_at", "probes", "scheduled", "standing", "timers")

    def __init__(self, book: AddressBook, address: bytes) -> None:
        self.book = book
        self.address = address
        self.standing = Standing.TENTATIVE
        self.probes = 0
        self.defended_at = -NEVER
        self.timers = [NEVER]
        self.scheduled = NEVER

    def on_timeout(self, now: float) -> None:
        """Nobody has spoken up for a while."""
        self.timers[0] = NEVER
        self.book.on_silence(self, now)


class AddressBook:
    """All addresses of ours on one link. `usable` is what we answer for and send from. Conflicts are counted as
    `address_conflict` and told to `on_conflict`."""

    def __init__(
        self, link: Link, deadlines: Deadlines, drops: Counter[str], on_conflict: OnConflict | None
    ) -> None:
        self.entries: dict[bytes, OwnAddress] = {}
        self.usable: set[bytes] = set()
        self.on_usable: Callable[[bytes], None] | None = None
        """Called with each address that becomes usable."""
        self._link = link
        self._deadlines = deadlines
        self._drops = drops
        self._on_conflict = on_conflict

    @property
    def tentative(self) -> bool:
        """Whether some address is still being probed for."""
        return any(entry.standing is Standing.TENTATIVE for entry in self.entries.values())

    def add(self, address: bytes, now: float, *, probe: bool) -> None:
        """Begin to use `address`: after probing for it, or at once."""
        entry = self.entries[address] = OwnAddress(self, address)
        if probe:
            self.on_silence(entry, now)
        else:
            self._prefer(entry)

    def on_silence(self, entry: OwnAddress, now: float) -> None:
        """The next probe; after the last one the address is ours."""
        if entry.probes == PROBES:
            self._prefer(entry)
            return
        entry.probes += 1
        entry.timers[0] = now + PROBE_INTERVAL
        self._deadlines.schedule(entry, entry.timers[0])
        self._link.probe(entry.address)

    def _prefer(self, entry: OwnAddress) -> None:
        entry.standing = Standing.PREFERRED
        self.usable.add(entry.address)
        self._link.announce(entry.address)
        if self.on_usable is not None:
            self.on_usable(entry.address)

    def on_claim(self, address: bytes, mac: bytes, now: float) -> None:
        """The station `mac` uses `address`, or is about to."""
        entry = self.entries.get(address)
        if entry is None or entry.standing is Standing.DUPLICATE:
            return
        self._drops["address_conflict"] += 1
        if entry.standing is Standing.TENTATIVE:
            entry.standing = Standing.DUPLICATE
            entry.timers[0] = NEVER
        elif now - entry.defended_at >= DEFEND_INTERVAL:
            entry.defended_at = now
            self._link.announce(address)
        if self._on_conflict is not None:
            self._on_conflict(address, mac)
