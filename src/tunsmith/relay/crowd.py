"""How many flows there may be at a time. Where there are more, the longest idle make room.

A flow is a relay, a dial that waits for its upstream, or one of datagrams; all kinds count, and all can go.
"""

from __future__ import annotations

from collections.abc import Collection
from heapq import nsmallest
from typing import TYPE_CHECKING

from tunsmith.relay.udp_mapping import UdpFlow
from tunsmith.stack.request import FlowRequest

if TYPE_CHECKING:
    from collections import Counter

    from tunsmith.relay.dials import Dials
    from tunsmith.relay.dns_flow import DnsFlow
    from tunsmith.relay.tcp import TcpRelay
    from tunsmith.relay.udp import UdpRelay


class Crowd:
    """All flows of one engine, at most `limit`. Those that had to go are counted in `drops`."""

    def __init__(
        self,
        relays: Collection[TcpRelay | DnsFlow],
        dials: Dials,
        udp: UdpRelay,
        limit: int,
        drops: Counter[str],
    ) -> None:
        self._relays = relays
        self._dials = dials
        self._udp = udp
        self._limit = limit
        self._drops = drops

    def make_room(self) -> None:
        """Before a new flow. Some go at once, so that a flood does not sort again and again."""
        excess = len(self._relays) + len(self._dials.waiting) + len(self._udp.flows) - self._limit
        if excess < 0:
            return
        flows = [*self._relays, *self._dials.waiting, *self._udp.flows.values()]
        for flow in nsmallest(1 + excess + len(flows) // 64, flows, key=self._last_moved):
            self._drops["evicted"] += 1
            if isinstance(flow, FlowRequest):
                self._dials.give_up(flow, "evicted", None)
            elif isinstance(flow, UdpFlow):
                self._udp.end_flow(flow, "evicted")
            else:
                flow.abort("evicted")

    def _last_moved(self, flow: TcpRelay | DnsFlow | UdpFlow | FlowRequest) -> float:
        record = self._dials.waiting[flow].record if isinstance(flow, FlowRequest) else flow.record
        return record.last
