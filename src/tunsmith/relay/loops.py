"""What goes round in a circle: our own packets, and those of a proxy on this machine (relay/neighbour.py).

Our own packets that come back in by the TUN are cut, counted as `loop`, and told once in a while.

Routes are planned so that this cannot happen; it does where somebody deletes the rule for our mark, say. Left
alone, each flow would then make the next one, for ever. dial/underway.py knows our packets again.
"""

from __future__ import annotations

from ipaddress import ip_address
from socket import AF_INET, AF_INET6, inet_ntop
from typing import TYPE_CHECKING

from tunsmith.dial.escape import Escape
from tunsmith.flow import Target
from tunsmith.host.link import is_local

if TYPE_CHECKING:
    from collections.abc import Callable

    from tunsmith.dial.base import Dialer
    from tunsmith.dial.underway import Underway
    from tunsmith.relay.flows import FlowBook
    from tunsmith.relay.neighbour import Neighbour
    from tunsmith.stack.events import Echo
    from tunsmith.stack.request import FlowRequest
    from tunsmith.wire.ip import IpFamily

REPEAT = 60.0
"""Seconds before it is told again."""


class Loops:
    """Looks at each new flow. Each method says whether it is one of ours, and counts and tells it."""

    def __init__(
        self, escape: Escape, underway: Underway, book: FlowBook, neighbour: Neighbour | None
    ) -> None:
        self._escape = escape
        self._underway = underway
        self._book = book
        self._neighbour = neighbour
        self._told = float("-inf")

    def way_for(
        self, protocol: int, family: IpFamily, key: bytes, target: Target, asked: Callable[[], set[Target]]
    ) -> Dialer | None:
        """How a flow goes out that is the proxy's own, None for all others. `asked` tells where the proxy has just
        been asked to go."""
        if self._neighbour is None or not self._neighbour.sends(
            protocol, family, key, target, asked(), self._book
        ):
            return None
        return self._neighbour.direct

    def has_stream(self, request: FlowRequest, target: Target) -> bool:
        """`request` is for `target`."""
        if not self._underway.has_target(target):
            return False
        address, port = request.source
        return self._underway.has_stream(_target(address, port), target) and self._cut("connection", target)

    def has_datagram(self, family: IpFamily, key: bytes, target: Target) -> bool:
        """A datagram with `key` is for `target`."""
        address, port, _, _ = family.split(key)
        return self._underway.has_port(port) and _is_ours(address) and self._cut("UDP socket", target)

    def has_echo(self, echo: Echo, target: Target) -> bool:
        """`echo` is for `target`."""
        return (
            self._underway.has_identifier(echo.identifier)
            and _is_ours(echo.source)
            and self._cut("ping", target)
        )

    def _cut(self, what: str, target: Target) -> bool:
        self._book.drops["loop"] += 1
        now = self._book.clock()
        if now - self._told >= REPEAT:
            self._told = now
            place = target if target.port else target.host
            self._book.notice(
                f"routing loop: our own {what} to {place} came back through the TUN, and was cut: {self._cause()}"
            )
        return True

    def _cause(self) -> str:
        if self._escape.mark:
            return f"mark {self._escape.mark:#x} is no longer led past it; look at `ip rule`, and start tunsmith again"
        if self._escape.interface is not None:
            return f"{self._escape.interface} does not lead past it; look at `ip route`"
        return "there is no route past it; look at `ip route`"


def _target(address: bytes, port: int) -> Target:
    return Target(inet_ntop(AF_INET if len(address) == 4 else AF_INET6, address), port)


def _is_ours(source: bytes) -> bool:
    """Not a host behind us, whose ports are its own."""
    return is_local(ip_address(source))
