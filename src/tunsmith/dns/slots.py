"""Which name owns which slot of a pool of fake addresses.

Slots are taken in a circle, so a released one comes back as late as possible. When all are taken, or the bound on
names is reached, the name that was used longest ago loses its slot, unless a live flow holds it (`pin`) or an answer
that named it may still be believed (`TTL`).

`Slots` is the contract, `MemorySlots` one engine's own table of them. Several engines share one by asking its keeper
(workers/names.py).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

TTL = 1
"""Seconds for which a client may believe an answer."""
NAMES = 32768
"""Names remembered at most: more than flows, so that live ones never take all slots."""


class Slots(Protocol):
    """Names, folded, and the slots they own."""

    def __len__(self) -> int:
        """Names remembered now."""

    def slot_of(self, name: str, now: float) -> int | None:
        """The slot of `name`, a new one if need be; None when every slot is held. `now` is in seconds."""

    def name_at(self, slot: int) -> str | None:
        """The name that owns `slot`, if one does; any number may be asked for."""

    def pin(self, slot: int) -> None:
        """A flow begins: the owner of `slot` keeps it. A slot that nobody owns is ignored."""

    def unpin(self, slot: int) -> None:
        """A flow for which `pin` was called ends."""


@dataclass(slots=True)
class _Entry:
    name: str
    given: float
    pins: int = 0


class MemorySlots:
    """Slots 0 to `size` without those in `reserved`, for at most `names` names."""

    __slots__ = ("_cursor", "_entries", "_idle", "_limit", "_names", "_reserved", "_size")

    def __init__(self, size: int, reserved: set[int], names: int = NAMES) -> None:
        self._size = size
        self._reserved = reserved
        self._limit = min(names, size - sum(0 <= slot < size for slot in reserved))
        self._cursor = 0
        self._names: dict[str, int] = {}
        self._entries: dict[int, _Entry] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()
        """Slots without live flows, the one used longest ago first."""

    def __len__(self) -> int:
        return len(self._names)

    def slot_of(self, name: str, now: float) -> int | None:
        slot = self._names.get(name)
        if slot is not None:
            entry = self._entries[slot]
            entry.given = now
            if not entry.pins:
                self._idle.move_to_end(slot)
            return slot
        if len(self._names) >= self._limit and not self._forget_oldest(now):
            return None
        slot = self._next_free()
        self._names[name] = slot
        self._entries[slot] = _Entry(name, now)
        self._idle[slot] = None
        return slot

    def name_at(self, slot: int) -> str | None:
        entry = self._entries.get(slot)
        return entry.name if entry is not None else None

    def pin(self, slot: int) -> None:
        entry = self._entries.get(slot)
        if entry is not None:
            entry.pins += 1
            self._idle.pop(slot, None)

    def unpin(self, slot: int) -> None:
        entry = self._entries.get(slot)
        if entry is not None and entry.pins:
            entry.pins -= 1
            if not entry.pins:
                self._idle[slot] = None

    def _forget_oldest(self, now: float) -> bool:
        slot = next(iter(self._idle), None)
        if slot is None or now < self._entries[slot].given + TTL:
            return False
        del self._idle[slot]
        del self._names[self._entries.pop(slot).name]
        return True

    def _next_free(self) -> int:
        """The next slot of the circle that is neither reserved nor owned; the bound on names leaves one."""
        slot = self._cursor
        while slot in self._reserved or slot in self._entries:
            slot = (slot + 1) % self._size
        self._cursor = (slot + 1) % self._size
        return slot
