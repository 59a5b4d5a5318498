"""What an application that has ended sent before must still reach its upstreams.

Its kernel may hold megabytes of it, and ends each flow by a FIN. A flow without one belongs to a program that lives
on, and is waited for while its bytes come.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunsmith.device.base import Device
    from tunsmith.relay.dns_flow import DnsFlow
    from tunsmith.relay.tcp import TcpRelay
    from tunsmith.relay.udp import UdpRelay

QUIET = 0.5
"""Seconds in which the kernel of the application would have sent something again (its RTO is 0.2 s)."""


class Drain:
    """Says after each turn of packets whether it was the last: `is_over`. It is, at the latest, `timeout` seconds
    from now, or after `patience` without a full upstream taking a byte."""

    def __init__(
        self,
        device: Device,
        relays: Iterable[TcpRelay | DnsFlow],
        udp: UdpRelay,
        clock: Callable[[], float],
        timeout: float,
        patience: float,
    ) -> None:
        self._device = select.poll()
        self._device.register(device, select.POLLIN)
        self._relays = relays
        self._udp = udp
        self._clock = clock
        self._timeout = timeout
        self._patience = patience
        self._began = self._moved = clock()
        self._before: tuple[int, int] | None = None
        self.goes_on = False
        """It is over only because time is: there is more, and it went on moving."""

    def is_over(self) -> bool:
        """Look at all flows once."""
        unfinished = [relay for relay in self._relays if not relay.finished]
        if not unfinished and self._udp.drained and not self._device.poll(0):
            return True
        now = self._clock()
        full = [relay for relay in unfinished if relay.blocked]
        state = sum(relay.record.up for relay in self._relays), sum(relay.undelivered for relay in full)
        if self._before not in (None, state):
            self._moved = now
        self._before = state
        if now - self._moved >= (self._patience if full else QUIET):
            return True
        if now - self._began >= self._timeout:
            self.goes_on = self._moved - self._began > QUIET  # at first buffers fill up, and that is all
            return True
        return False
