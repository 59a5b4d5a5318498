"""A TCP flow that wants to be accepted: the SYN is here, nothing has been answered.

The owner dials its upstream first and then says what happened, so that the application sees the truth:
SYN-ACK, RST, an ICMP error, or silence. Retransmissions of the SYN meanwhile are not answered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tunsmith.wire.icmp import IcmpError
from tunsmith.wire.ip import IpFamily
from tunsmith.wire.tcp import TcpOptions

if TYPE_CHECKING:
    from tunsmith.stack.events import ConnectionHandler
    from tunsmith.stack.stack import Stack
    from tunsmith.stack.tcp.connection import Connection
    from tunsmith.stack.tcp.policy import Options


class FlowRequest:
    """One SYN. Exactly one of `accept`, `refuse`, `unreachable`, `drop` ends it; later calls do nothing.
    `cancelled` is true once the peer gave up (RST) before an answer; `on_cancelled`, where it is set, is called
    then."""

    __slots__ = ("cancelled", "family", "isn", "key", "on_cancelled", "options", "stack")

    def __init__(self, stack: Stack, family: IpFamily, key: bytes, isn: int, options: TcpOptions) -> None:
        self.stack = stack
        self.family = family
        self.key = key
        self.isn = isn
        """The peer's initial sequence number."""
        self.options = options
        self.cancelled = False
        self.on_cancelled: Callable[[], None] | None = None

    @property
    def source(self) -> tuple[bytes, int]:
        """Who asks."""
        address, port, _, _ = self.family.split(self.key)
        return address, port

    @property
    def destination(self) -> tuple[bytes, int]:
        """Where it wants to go."""
        _, _, address, port = self.family.split(self.key)
        return address, port

    def accept(
        self, handler: ConnectionHandler | None, now: float, options: Options | None = None
    ) -> Connection | None:
        """Send SYN-ACK. None when the peer has given up or the stack is full (the flow was reset)."""
        return self.stack.accept(self, handler, now, options)

    def refuse(self, now: float) -> None:
        """RST: connection refused."""
        self.stack.refuse(self, now)

    def unreachable(self, error: IcmpError, now: float) -> None:
        """An ICMP error instead of an answer."""
        self.stack.refuse(self, now, error)

    def drop(self) -> None:
        """Silence. A retransmitted SYN asks again."""
        self.stack.withdraw(self)
