"""How large a receive buffer must be: dynamic right-sizing, as Linux does it.

A window that is twice what the owner reads in a round trip lets a sender double its rate in each of them, as
slow start does, and promises no memory to connections that do not use it. The buffer only grows: the right edge
of the window is never taken back (RFC 9293 §3.8.6). All buffers of a stack share one budget for that.

Nothing is measured until a connection has received a good part of its first window.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunsmith.stack.tcp.connection import Connection

UNKNOWN_RTT = 0.1
"""Seconds, where the handshake was no sample and we have sent nothing since."""
LEAST_RTT = 0.0001
LOOKS = 8
"""How often a window's worth of text is looked at."""


class Tuning:
    """The measurement under way: since `at` the owner has read from `position` on. `grown`: bytes by which the
    buffer has outgrown its beginning."""

    __slots__ = ("at", "grown", "position")

    def __init__(self, position: int, now: float) -> None:
        self.at = now
        self.position = position
        self.grown = 0

    def measure(self, connection: Connection, position: int, now: float) -> None:
        """The owner has read up to `position`. Once a round trip is over, see whether the window was large enough."""
        rtt = max(connection.sender.rtt.srtt or UNKNOWN_RTT, LEAST_RTT)
        elapsed = now - self.at
        if elapsed < rtt:
            return
        wanted = int(2 * (position - self.position) * rtt / elapsed)
        self.at = now
        self.position = position
        stack, receiver = connection.stack, connection.receiver
        left = stack.config.receive_memory - stack.receive_grown
        more = min(wanted, stack.largest_receive_buffer) - receiver.limit
        if more > 0 < left:
            more = min(more, left)
            receiver.limit += more
            self.grown += more
            stack.receive_grown += more
