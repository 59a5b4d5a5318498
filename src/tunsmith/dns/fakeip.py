"""Fake addresses: one private address per name, so that names can cross a TUN, which carries only addresses.

A name owns one *slot*, a number; its IPv4 and IPv6 addresses are that number within either network. Slots
are taken in a circle, so a released address comes back as late as possible. When all are taken, or
the bound on names is reached, the name that was used longest ago loses its slot, unless a live flow holds
it (`pin`) or an answer that named it may still be believed (`TTL`). An address whose name is gone leads
nowhere: `name_of` says None while `contains` says True, and the flow is refused, never misrouted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from tunsmith.config import Network

TTL = 1
"""Seconds for which a client may believe an answer."""
NAMES = 32768
"""Names remembered at most: more than flows, so that live ones never take all slots."""


@dataclass(slots=True)
class _Entry:
    name: str
    given: float
    pins: int = 0


class FakeIpPool:
    """Names to fake addresses and back. Names are compared by RFC 4343, a trailing dot does not count."""

    __slots__ = ("_cursor", "_entries", "_idle", "_names", "_networks", "_reserved", "_size", "_slots")

    def __init__(
        self,
        network4: IPv4Network | None,
        network6: IPv6Network | None,
        reserved: Iterable[IPv4Address | IPv6Address] = (),
        names: int = NAMES,
    ) -> None:
        """Addresses come from the networks given, at least one, but never an address in `reserved`, nor the
        first and last of a network (network, subnet-router anycast, broadcast)."""
        networks: dict[int, IPv4Network | IPv6Network] = {
            net.version: net for net in (network4, network6) if net is not None
        }
        self._networks = {
            version: (int(net.network_address), int(net.broadcast_address), net.max_prefixlen // 8)
            for version, net in networks.items()
        }
        self._size = min(net.num_addresses for net in networks.values())
        self._reserved = {0, self._size - 1} | {
            int(address) - self._networks[address.version][0]
            for address in reserved
            if address.version in networks and address in networks[address.version]
        }
        free = self._size - sum(0 <= slot < self._size for slot in self._reserved)
        self._names = min(names, free)
        self._cursor = 0
        self._slots: dict[str, int] = {}
        self._entries: dict[int, _Entry] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()
        """Slots without live flows, the one used longest ago first."""

    @classmethod
    def of(cls, network: Network) -> FakeIpPool:
        """The pool that `network` describes, its own addresses spared."""
        own = (network.inside, network.gateway, network.inside6, network.gateway6)
        return cls(network.fake, network.fake6, own)

    def __len__(self) -> int:
        """Names remembered now."""
        return len(self._slots)

    def carries(self, version: int) -> bool:
        """Whether there are addresses of IP `version` (4 or 6)."""
        return version in self._networks

    def address_of(self, name: str, version: int, now: float) -> bytes | None:
        """The packed address of `name`, a new one if need be; None when every slot is held.
        `version` must be one that the pool `carries`; `now` is in seconds."""
        slot = self._slot_of(fold(name), now)
        if slot is None:
            return None
        base, _, width = self._networks[version]
        return (base + slot).to_bytes(width, "big")

    def name_of(self, packed: bytes) -> str | None:
        """The name that owns this address, in lower case; None for any other address."""
        entry = self._entries.get(self._slot_at(packed))
        return entry.name if entry is not None else None

    def contains(self, packed: bytes) -> bool:
        """Whether this address lies inside the networks, whoever owns it."""
        network = self._networks.get(4 if len(packed) == 4 else 6)
        return network is not None and network[0] <= int.from_bytes(packed, "big") <= network[1]

    def pin(self, packed: bytes) -> None:
        """A flow to this address begins: its name keeps it. Other addresses are ignored."""
        slot = self._slot_at(packed)
        entry = self._entries.get(slot)
        if entry is not None:
            entry.pins += 1
            self._idle.pop(slot, None)

    def unpin(self, packed: bytes) -> None:
        """A flow for which `pin` was called ends."""
        slot = self._slot_at(packed)
        entry = self._entries.get(slot)
        if entry is not None and entry.pins:
            entry.pins -= 1
            if not entry.pins:
                self._idle[slot] = None

    def _slot_at(self, packed: bytes) -> int:
        network = self._networks.get(4 if len(packed) == 4 else 6)
        return int.from_bytes(packed, "big") - network[0] if network is not None else -1

    def _slot_of(self, name: str, now: float) -> int | None:
        slot = self._slots.get(name)
        if slot is not None:
            entry = self._entries[slot]
            entry.given = now
            if not entry.pins:
                self._idle.move_to_end(slot)
            return slot
        if len(self._slots) >= self._names and not self._forget_oldest(now):
            return None
        slot = self._next_free()
        self._slots[name] = slot
        self._entries[slot] = _Entry(name, now)
        self._idle[slot] = None
        return slot

    def _forget_oldest(self, now: float) -> bool:
        slot = next(iter(self._idle), None)
        if slot is None or now < self._entries[slot].given + TTL:
            return False
        del self._idle[slot]
        del self._slots[self._entries.pop(slot).name]
        return True

    def _next_free(self) -> int:
        """The next slot of the circle that is neither reserved nor owned; the bound on names leaves one."""
        slot = self._cursor
        while slot in self._reserved or slot in self._entries:
            slot = (slot + 1) % self._size
        self._cursor = (slot + 1) % self._size
        return slot


def fold(name: str) -> str:
    """The form in which names are compared: ASCII lower case, no trailing dot."""
    return name.rstrip(".").translate(_LOWER)


_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
