"""UDP between the application and an upstream: one upstream port per source port (RFC 4787 REQ-1).

Datagrams that arrive in one batch for one peer and of one size leave in one system call (UDP_SEGMENT);
super-datagrams of the device leave as they are. The other way, UDP_GRO and equal neighbours become one
super-datagram into the device. A mapping lives as long as its kind of traffic says: a question without
an answer 30 s, a conversation 120 s, QUIC 180 s.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import partial

from tunsmith.config import Limits
from tunsmith.dial.base import Dialer
from tunsmith.dial.errnos import CONGESTED, dial_error
from tunsmith.errors import DialUnsupported
from tunsmith.flow import Target
from tunsmith.relay.faults import dial_failure, icmp_for, outcome_of, words_for
from tunsmith.relay.flows import FlowBook
from tunsmith.relay.poller import IN, Poller
from tunsmith.relay.report import FlowRecord
from tunsmith.relay.udp_mapping import UdpFlow, UdpMapping
from tunsmith.stack.stack import Stack
from tunsmith.wire.icmp import IcmpError, meaning_of
from tunsmith.wire.ip import IPV4, IpFamily

GATHER_BYTES = 61440
GATHER_COUNT = 64
"""UDP_MAX_SEGMENTS of the kernel."""
RECEIVES = 64
"""Upstream reads before other flows get their turn."""
WAITING = 32
"""Datagrams kept while an upstream port is being opened."""
QUIC_PORTS = frozenset({443, 8443})


class UdpRelay:
    """All UDP of one engine."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        poller: Poller,
        stack: Stack,
        dialer: Dialer,
        limits: Limits,
        book: FlowBook,
    ) -> None:
        self._loop = loop
        self._poller = poller
        self._stack = stack
        self._dialer = dialer
        self._limits = limits
        self._book = book
        self._clock = book.clock
        self._drops = book.drops
        self.flows: dict[bytes, UdpFlow] = {}
        self.mappings: dict[bytes, UdpMapping] = {}
        self._gathering: list[UdpFlow] = []

    # --- application to upstream ---

    def open(self, family: IpFamily, key: bytes, target: Target, record: FlowRecord) -> tuple[UdpFlow, bool]:
        """A new flow. Returns it and whether its mapping is new and wants `dial`."""
        n = family.address_length
        source = key[:n] + key[2 * n : 2 * n + 2]
        mapping = self.mappings.get(source)
        fresh = mapping is None
        if mapping is None:
            mapping = self.mappings[source] = UdpMapping(family, source, self._drops)
        flow = self.flows[key] = mapping.enter(key, target, record)
        return flow, fresh

    async def dial(self, mapping: UdpMapping, dialer: Dialer | None = None) -> None:
        """Open the upstream port, by `dialer` where it is not the usual one, and send what waited; on failure tell
        the application."""
        family = socket.AF_INET if mapping.family is IPV4 else socket.AF_INET6
        try:
            datagrams = await (dialer or self._dialer).open_datagrams(family)
        except Exception as fault:
            error = dial_failure(fault, "UDP")
            # No UDP at all is a closed port, not a protocol that is missing: QUIC falls back from that.
            meaning = None if isinstance(error, DialUnsupported) else icmp_for(error)
            for flow in mapping.flows.values():
                self._refuse(flow, meaning or IcmpError.PORT)
            self.end(mapping, outcome_of(error))
            self._book.complain(error)
            return
        if self.mappings.get(mapping.source) is not mapping:
            datagrams.close()
            return
        mapping.datagrams = datagrams
        self._poller.watch(datagrams.fileno(), IN, partial(self._on_upstream_readable, mapping))
        for flow, data, segment_size in mapping.waiting:
            self._send(flow, [data], segment_size)
        mapping.waiting.clear()

    def on_datagram(self, flow: UdpFlow, data: memoryview, segment_size: int) -> None:
        """Gather; `flush` sends. A super-datagram goes at once, and an empty one, which would vanish among others."""
        mapping = flow.mapping
        record = flow.record
        length = len(data)
        record.up += length
        if mapping.datagrams is None:
            if len(mapping.waiting) < WAITING:
                mapping.waiting.append((flow, bytes(data), segment_size))
            else:
                self._drops["udp_waiting"] += 1
            return
        gathered = flow.gathered
        if segment_size or not length:
            if gathered:
                self._flush(flow)
            self._send(flow, [data], segment_size)
            return
        if gathered:
            if (
                length > flow.size
                or len(gathered) >= GATHER_COUNT
                or flow.gathered_bytes + length > GATHER_BYTES
            ):
                self._flush(flow)
                self._begin(flow, length)
        else:
            self._begin(flow, length)
        gathered.append(bytes(data))
        flow.gathered_bytes += length
        if length < flow.size:
            self._flush(flow)

    def _begin(self, flow: UdpFlow, size: int) -> None:
        flow.size = size
        self._gathering.append(flow)

    def flush(self) -> None:
        """End of a batch: everything gathered leaves."""
        if self._gathering:
            for flow in self._gathering:
                if flow.gathered:
                    self._flush(flow)
            self._gathering.clear()

    def _flush(self, flow: UdpFlow) -> None:
        gathered = flow.gathered
        self._send(flow, gathered, flow.size if len(gathered) > 1 else 0)
        gathered.clear()
        flow.gathered_bytes = 0

    def _send(self, flow: UdpFlow, parts: list[bytes] | list[memoryview], segment_size: int) -> None:
        flow.record.last = self._clock()
        datagrams = flow.mapping.datagrams
        if datagrams is None:
            return
        try:
            datagrams.send(parts, segment_size, flow.target)
        except BlockingIOError:
            self._drops["udp_upstream_full"] += len(parts)
        except OSError as error:
            if error.errno in CONGESTED:
                self._drops["udp_upstream_full"] += len(parts)
                return
            self._drops["udp_send_failed"] += 1
            self._refuse(flow, icmp_for(dial_error(error.errno or 0, flow.target)) or IcmpError.PORT)

    # --- upstream to application ---

    def _on_upstream_readable(self, mapping: UdpMapping, _: int = IN) -> None:
        datagrams = mapping.datagrams
        if datagrams is None:
            return
        receive = datagrams.receive
        peer: Target | None = None
        held: list[bytes] = []
        size = held_bytes = 0
        over = ""
        try:
            for _ in range(RECEIVES):
                data, segment_size, source = receive()
                length = len(data)
                if held and (
                    source is not peer
                    or segment_size
                    or not length
                    or length > size
                    or held_bytes + length > GATHER_BYTES
                    or len(held[-1]) < size
                ):
                    self._deliver(mapping, peer, held, size)
                    held = []
                if segment_size or not length:  # an empty datagram would vanish among others
                    self._deliver(mapping, source, [data], segment_size)
                    continue
                if not held:
                    peer, size, held_bytes = source, length, 0
                held.append(data)
                held_bytes += length
            else:  # the rest of a batch may be in hand already, with nothing left to make the descriptor ready
                self._loop.call_soon(self._on_upstream_readable, mapping)
        except BlockingIOError:
            pass
        except EOFError:
            over = "proxy closed the association"
        except OSError:
            over = "upstream failed"
            self._drops["udp_upstream_failed"] += 1
        if held:
            self._deliver(mapping, peer, held, size)
        if over:
            self.end(mapping, over)
            return
        for fault in datagrams.faults():
            self._on_fault(mapping, fault.target, fault.icmp_type, fault.icmp_code, fault.mtu)

    def _deliver(self, mapping: UdpMapping, peer: Target | None, parts: list[bytes], size: int) -> None:
        if peer is None:
            return
        known = mapping.peers.get(peer) or mapping.meet(peer)
        if known is None:
            return
        key, flow = known
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        record = flow.record
        record.down += len(data)
        record.last = self._clock()
        self._stack.send_datagram(mapping.family, key, data, size if len(data) > size else 0)

    # --- faults ---

    def _on_fault(self, mapping: UdpMapping, peer: Target, icmp_type: int, code: int, mtu: int) -> None:
        known = mapping.peers.get(peer)
        error = meaning_of(mapping.family, icmp_type, code)
        if known is not None and error is not None:
            self._refuse(known[1], error, mtu)

    def _refuse(self, flow: UdpFlow, error: IcmpError, mtu: int = 0) -> None:
        if error is not IcmpError.TOO_BIG:  # a narrower path is no end
            flow.record.outcome = words_for(error)
        self._stack.send_datagram_error(
            flow.mapping.family, flow.key, error, self._clock(), mtu=mtu, length=flow.size
        )

    # --- the end ---

    def expire(self, now: float) -> None:
        """Close flows that have been idle for longer than their kind allows."""
        for flow in [flow for flow in self.flows.values() if now - flow.record.last >= self._patience(flow)]:
            self.end_flow(flow, "idle")

    def _patience(self, flow: UdpFlow) -> float:
        if not flow.record.down:
            return self._limits.udp_one_shot
        return self._limits.udp_quic if flow.target.port in QUIC_PORTS else self._limits.udp_two_way

    def end_flow(self, flow: UdpFlow, outcome: str) -> None:
        """Forget one flow; its upstream port closes with the last one on it."""
        mapping = flow.mapping
        self.flows.pop(flow.key, None)
        mapping.leave(flow)
        if flow.record.outcome == "open":
            flow.record.outcome = outcome
        self._book.end(flow.record)
        if not mapping.flows:
            self._close(mapping)

    def end(self, mapping: UdpMapping, outcome: str) -> None:
        """Close an upstream port and every flow on it."""
        for flow in list(mapping.flows.values()):
            self.end_flow(flow, outcome)

    def end_where(self, lost: Callable[[int], bool], outcome: str) -> int:
        """Close every upstream port whose descriptor is `lost`, with all flows on it; returns how many flows."""
        ended = [
            mapping
            for mapping in self.mappings.values()
            if mapping.datagrams is not None and lost(mapping.datagrams.fileno())
        ]
        flows = sum(len(mapping.flows) for mapping in ended)
        for mapping in ended:
            self.end(mapping, outcome)
        return flows

    def _close(self, mapping: UdpMapping) -> None:
        self.mappings.pop(mapping.source, None)
        mapping.waiting.clear()
        if mapping.datagrams is not None:
            self._poller.forget(mapping.datagrams.fileno())
            mapping.datagrams.close()
            mapping.datagrams = None

    @property
    def drained(self) -> bool:
        """Whether no datagram waits for its upstream port to be opened."""
        return not any(mapping.waiting for mapping in self.mappings.values())

    def close(self) -> None:
        """End everything."""
        for mapping in list(self.mappings.values()):
            self.end(mapping, "closed")
