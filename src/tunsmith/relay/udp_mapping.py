"""Who talks to whom through one source port of the application: endpoint-independent mapping, RFC 4787 REQ-1.

A flow is the source port and one destination. Datagrams from upstream name a peer; this finds the flow they
belong to and the address that the application knows the peer by.
"""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_address

from tunsmith.dial.base import Datagrams
from tunsmith.flow import Target
from tunsmith.relay.report import FlowRecord
from tunsmith.wire.ip import IpFamily

PEERS = 1024
"""Peers remembered for one source port; more are let through all the same."""


class UdpFlow:
    """One source port talking to one destination."""

    __slots__ = (
        "gathered",
        "gathered_bytes",
        "key",
        "mapping",
        "peers",
        "record",
        "settled",
        "size",
        "target",
    )

    def __init__(self, mapping: UdpMapping, key: bytes, target: Target, record: FlowRecord) -> None:
        self.mapping = mapping
        self.key = key
        self.target = target
        self.record = record
        self.peers: list[Target] = [target]
        """Those whose answers are counted for it, among the mapping's peers."""
        self.settled = not target.is_name
        """Whether it is known who answers for its target: the address that it is, or the first behind its name."""
        self.gathered: list[bytes] = []
        self.gathered_bytes = 0
        self.size = 0


class UdpMapping:
    """One source port of the application and its upstream port, once that is open."""

    __slots__ = ("_drops", "datagrams", "family", "flows", "peers", "source", "waiting")

    def __init__(self, family: IpFamily, source: bytes, drops: Counter[str]) -> None:
        self._drops = drops
        self.family = family
        self.source = source
        self.datagrams: Datagrams | None = None
        self.flows: dict[bytes, UdpFlow] = {}
        """At least one, except before the first and after the last."""
        self.peers: dict[Target, tuple[bytes, UdpFlow]] = {}
        """Upstream peer -> key of the packets to the application, and the flow they are counted for."""
        self.waiting: list[tuple[UdpFlow, bytes, int]] = []

    def enter(self, key: bytes, target: Target, record: FlowRecord) -> UdpFlow:
        """A new flow from this port to `target`, which the application calls the destination in `key`."""
        flow = UdpFlow(self, key, target, record)
        self.flows[key] = flow
        self.peers[target] = (self.family.swap(key), flow)
        return flow

    def leave(self, flow: UdpFlow) -> None:
        """`flow` is over."""
        self.flows.pop(flow.key, None)
        for peer in flow.peers:
            if peer in self.peers and self.peers[peer][1] is flow:
                del self.peers[peer]

    def meet(self, peer: Target) -> tuple[bytes, UdpFlow] | None:
        """As in `peers`, for a peer the application never wrote to by this address. If it wrote to a name at that
        port, the proxy has resolved it: the answer comes from the fake address. Otherwise a stranger, let
        through (endpoint-independent filtering, RFC 4787 §5). None where no address could stand for it."""
        known = self._named(peer) or self._stranger(peer)
        if known is None:
            self._drops["udp_stranger"] += 1
        elif len(self.peers) > PEERS:
            self._drops["udp_peers"] += 1
        else:
            self.peers[peer] = known
            known[1].peers.append(peer)
        return known

    def _named(self, peer: Target) -> tuple[bytes, UdpFlow] | None:
        """The flow to a name that has not been answered; of several, that which spoke last, for it is a guess."""
        candidates = [
            flow for flow in self.flows.values() if not flow.settled and flow.target.port == peer.port
        ]
        if not candidates:
            return None
        flow = max(candidates, key=lambda candidate: candidate.record.last)
        flow.settled = True
        return self.family.swap(flow.key), flow

    def _stranger(self, peer: Target) -> tuple[bytes, UdpFlow] | None:
        n = self.family.address_length
        try:
            address = ip_address(peer.host).packed
        except ValueError:
            return None
        if len(address) != n or not self.flows:
            return None
        port = int.from_bytes(self.source[n:], "big")
        key = self.family.key(address, peer.port, self.source[:n], port)
        return key, next(iter(self.flows.values()))
