"""How large buffers must be: dynamic right-sizing, as Linux does it.

Receive buffers: a window that is twice what the owner reads in a round trip never holds up a sender who keeps his
rate, and promises no memory to connections that do not use it. One in slow start has doubled what is in flight by
the time a round trip is measured, and does so once more until the next is: four times, then. The buffer only grows:
the right edge of the window is never taken back (RFC 9293 §3.8.6). Nothing is measured until a connection has
received a quarter of its first window.

Send buffers: what is in flight stays in the buffer until it is acknowledged, so one of two congestion windows
keeps the path full and lets slow start go on. It grows when its owner waits for room.

All receive buffers of a stack share one budget for growing, and so do all send buffers.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunsmith.stack.tcp.connection import Connection

UNKNOWN_RTT = 0.1
"""Seconds, where the handshake was no sample and we have sent nothing since."""
LEAST_RTT = 0.0001
LOOKS = 8
"""How often a window's worth of text is looked at."""


class Tuning:
    """The measurement under way: since `at` the owner has read from `position` on. `grown`, `send_grown`: bytes by
    which the buffers have outgrown their beginning."""

    __slots__ = ("_read", "at", "grown", "position", "send_grown")

    def __init__(self, position: int, now: float) -> None:
        self.at = now
        self.position = position
        self._read = inf
        """In the last round trip; at first nobody knows."""
        self.grown = self.send_grown = 0

    def measure(self, connection: Connection, position: int, now: float) -> None:
        """The owner has read up to `position`. Once a round trip is over, see whether the window was large enough."""
        rtt = max(connection.sender.rtt.srtt or UNKNOWN_RTT, LEAST_RTT)
        elapsed = now - self.at
        if elapsed < rtt:
            return
        read = (position - self.position) * rtt / elapsed
        wanted = int(2 * read + 4 * min(max(read - self._read, 0.0), read / 2))
        self._read = read
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

    def grow_send_buffer(self, connection: Connection) -> None:
        """Make the send buffer twice the congestion window."""
        stack, sender = connection.stack, connection.sender
        left = stack.config.send_memory - stack.send_grown
        more = min(2 * sender.cc.cwnd, stack.largest_send_buffer) - sender.limit
        if more > 0 < left:
            more = min(more, left)
            sender.limit += more
            self.send_grown += more
            stack.send_grown += more
