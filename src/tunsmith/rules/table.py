"""What happens to a new flow, decided once from its protocol, destination and port.

From the most to the least specific:

1. Our own gateway: port 53 is DNS, all else is refused.
2. Addresses that no flow may leave for: silence for those meant for many or for nobody (multicast,
   broadcast, unspecified, link-local), a refusal for loopback, which would be the caller's own machine.
3. Through a proxy (`wants_names`), port 53 at any address is DNS, so that nothing escapes to a hard-wired
   resolver, and a fake address leads somewhere only while a name owns it.
4. The upstream.
"""

from __future__ import annotations

from tunsmith.config import Network
from tunsmith.flow import TCP, UDP, Action, Verdict

DNS = Verdict(Action.RESOLVE, "dns")
VIA = Verdict(Action.DIAL, "via")
GATEWAY = Verdict(Action.REFUSE, "gateway")
INSIDE = Verdict(Action.REFUSE, "inside")
LOOPBACK = Verdict(Action.REFUSE, "loopback")
STALE_NAME = Verdict(Action.REFUSE, "fake address without a name")
MULTICAST = Verdict(Action.DROP, "multicast")
BROADCAST = Verdict(Action.DROP, "broadcast")
UNSPECIFIED = Verdict(Action.DROP, "unspecified")
LINK_LOCAL = Verdict(Action.DROP, "link-local")
MARTIAN = Verdict(Action.DROP, "martian")

_DNS_PORT = 53
_ZEROS = bytes(10)
_UNSPECIFIED6 = bytes(16)
_LOOPBACK6 = bytes(15) + b"\1"


class RuleTable:
    """The rules of one engine."""

    __slots__ = ("_exact", "_fake4", "_fake6", "_gateways", "_wants_names")

    def __init__(self, network: Network, wants_names: bool) -> None:
        self._wants_names = wants_names
        self._gateways = frozenset((network.gateway.packed, network.gateway6.packed))
        self._exact = {
            network.inside.packed: INSIDE,
            network.inside6.packed: INSIDE,
            b"\xff\xff\xff\xff": BROADCAST,
            _UNSPECIFIED6: UNSPECIFIED,
            _LOOPBACK6: LOOPBACK,
        }
        if wants_names:
            self._exact[network.fake.broadcast_address.packed] = BROADCAST
        self._fake4 = (network.fake.network_address.packed, network.fake.broadcast_address.packed)
        self._fake6 = (network.fake6.network_address.packed, network.fake6.broadcast_address.packed)

    def match(self, protocol: int, destination: bytes, port: int, name: str | None = None) -> Verdict:
        """The verdict for a new flow. `destination` is packed, `port` is 0 where the protocol has none,
        `name` is the name that owns a fake destination, if one does."""
        is_dns = port == _DNS_PORT and protocol in (UDP, TCP)
        if destination in self._gateways:
            return DNS if is_dns else GATEWAY
        special = self._exact.get(destination) or (
            self._special4(destination) if len(destination) == 4 else _special6(destination)
        )
        if special is not None:
            return special
        if self._wants_names:
            if is_dns:
                return DNS
            if name is None and self._is_fake(destination):
                return STALE_NAME
        return VIA

    def _special4(self, destination: bytes) -> Verdict | None:
        first = destination[0]
        if first == 127:
            return LOOPBACK
        if first == 0:
            return UNSPECIFIED
        if 224 <= first < 240:
            return MULTICAST
        # Directly, cloud machines need their metadata service (169.254.169.254), and the kernel knows which
        # link is meant. Behind a proxy no link is.
        if self._wants_names and first == 169 and destination[1] == 254:
            return LINK_LOCAL
        return None

    def _is_fake(self, destination: bytes) -> bool:
        first, last = self._fake4 if len(destination) == 4 else self._fake6
        return first <= destination <= last


def _special6(destination: bytes) -> Verdict | None:
    first = destination[0]
    if first == 0xFF:
        return MULTICAST
    if first == 0xFE and destination[1] & 0xC0 == 0x80:
        return LINK_LOCAL
    # IPv4-mapped and IPv4-compatible addresses name IPv4 sockets inside a machine and never travel (RFC 4942
    # §2.2); dialed, ::ffff:127.0.0.1 would be the caller's loopback.
    if destination.startswith(_ZEROS) and destination[10:12] in (b"\0\0", b"\xff\xff"):
        return MARTIAN
    return None
