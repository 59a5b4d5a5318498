"""Fake addresses: one private address per name, so that names can cross a TUN, which carries only addresses.

A name owns one *slot*, a number (dns/slots.py); its IPv4 and IPv6 addresses are that number within either network.
An address whose name is gone leads nowhere: `name_of` says None while `contains` says True, and the flow is
refused, never misrouted.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from tunsmith.config import Network
from tunsmith.dns.slots import NAMES, MemorySlots, Slots


class FakeIpPool:
    """Names to fake addresses and back. Names are compared by RFC 4343, a trailing dot does not count."""

    __slots__ = ("_networks", "_slots")

    def __init__(
        self,
        network4: IPv4Network | None,
        network6: IPv6Network | None,
        reserved: Iterable[IPv4Address | IPv6Address] = (),
        names: int = NAMES,
        slots: Slots | None = None,
    ) -> None:
        """Addresses come from the networks given, at least one, but never an address in `reserved`, nor the
        first and last of a network (network, subnet-router anycast, broadcast). `slots` is kept by somebody who was
        told the same; None: by this pool."""
        networks: dict[int, IPv4Network | IPv6Network] = {
            net.version: net for net in (network4, network6) if net is not None
        }
        self._networks = {
            version: (int(net.network_address), int(net.broadcast_address), net.max_prefixlen // 8)
            for version, net in networks.items()
        }
        size = min(net.num_addresses for net in networks.values())
        taken = {0, size - 1} | {
            int(address) - self._networks[address.version][0]
            for address in reserved
            if address.version in networks and address in networks[address.version]
        }
        self._slots = slots if slots is not None else MemorySlots(size, taken, names)

    @classmethod
    def of(cls, network: Network, slots: Slots | None = None) -> FakeIpPool:
        """The pool that `network` describes, its own addresses spared."""
        own = (network.inside, network.gateway, network.inside6, network.gateway6)
        return cls(network.fake, network.fake6, own, slots=slots)

    def __len__(self) -> int:
        """Names remembered now."""
        return len(self._slots)

    @property
    def slots(self) -> Slots:
        """Who owns which number."""
        return self._slots

    def carries(self, version: int) -> bool:
        """Whether there are addresses of IP `version` (4 or 6)."""
        return version in self._networks

    def address_of(self, name: str, version: int, now: float) -> bytes | None:
        """The packed address of `name`, a new one if need be; None when every slot is held.
        `version` must be one that the pool `carries`; `now` is in seconds."""
        slot = self._slots.slot_of(fold(name), now)
        if slot is None:
            return None
        base, _, width = self._networks[version]
        return (base + slot).to_bytes(width, "big")

    def name_of(self, packed: bytes) -> str | None:
        """The name that owns this address, in lower case; None for any other address."""
        return self._slots.name_at(self._slot_at(packed)) if self.contains(packed) else None

    def contains(self, packed: bytes) -> bool:
        """Whether this address lies inside the networks, whoever owns it."""
        network = self._networks.get(4 if len(packed) == 4 else 6)
        return network is not None and network[0] <= int.from_bytes(packed, "big") <= network[1]

    def pin(self, packed: bytes) -> None:
        """A flow to this address begins: its name keeps it. Other addresses are ignored."""
        self._slots.pin(self._slot_at(packed))

    def unpin(self, packed: bytes) -> None:
        """A flow for which `pin` was called ends."""
        self._slots.unpin(self._slot_at(packed))

    def _slot_at(self, packed: bytes) -> int:
        network = self._networks.get(4 if len(packed) == 4 else 6)
        return int.from_bytes(packed, "big") - network[0] if network is not None else -1


def fold(name: str) -> str:
    """The form in which names are compared: ASCII lower case, no trailing dot."""
    return name.rstrip(".").translate(_LOWER)


_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
