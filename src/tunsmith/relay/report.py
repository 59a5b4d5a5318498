"""What is told about flows: one record each, given to whoever reports when it ends."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Protocol

from tunsmith.flow import Target
from tunsmith.wire.ip import IpFamily


@dataclass(slots=True)
class FlowRecord:
    """One flow, from the application's first packet to its end. Times are the engine's monotonic seconds.
    Text about it is made when somebody asks."""

    protocol: str
    family: IpFamily
    key: bytes
    """Addresses and ports of the packets from the application (IpFamily.split)."""
    target: Target
    """Where the upstream was asked to go: the name where there is one."""
    rule: str
    upstream: str
    started: float
    up: int = 0
    """Payload bytes from the application."""
    down: int = 0
    ended: float = 0.0
    outcome: str = "open"
    """How it ended: closed, refused, reset, timeout, ..."""
    pinned: bytes = b""
    """The fake address that is kept for this flow."""
    last: float = 0.0
    """When payload last moved."""
    name: str = ""
    """For people: what the application calls the destination, as far as its DNS queries tell; of a query, what it
    asks for."""

    @property
    def source(self) -> Target:
        """Who asked."""
        address, port, _, _ = self.family.split(self.key)
        return Target(ip_address(address).compressed, port)

    @property
    def destination(self) -> Target:
        """The address and port that the application used."""
        _, _, address, port = self.family.split(self.key)
        return Target(ip_address(address).compressed, port)


class Reporter(Protocol):
    """Who wants to know. Called from the event loop; must be quick."""

    def flow_ended(self, record: FlowRecord) -> None:
        """`record` is final."""

    def notice(self, text: str) -> None:
        """Something a person should know; one line."""


class Silent:
    """Tells nobody."""

    def flow_ended(self, record: FlowRecord) -> None:
        pass

    def notice(self, text: str) -> None:
        pass
