"""The path of a packet, on one page.

    device ──frame──> stack ──new flow──> name and rule ──> dial ──> relay <──bytes──> upstream
      ^                 │                                               │
      └────frames───────┴──────────────── text, FIN, RST, ICMP ─────────┘

 1. `_on_packets`   the device is readable: a batch of frames goes through `stack.receive_frame`
 2. `on_flow`       a SYN of a new flow: the name behind the address, the rule for it
 3. `_open_tcp`     the upstream is dialed; only then SYN-ACK, or RST, or an ICMP error
 4. relay/tcp.py    text moves between connection and socket until both halves are closed
 5. `on_datagram`   the same for UDP: relay/udp.py; port 53 is answered by relay/dns.py
 6. `_on_deadline`  the stack's timers; `_sweep` idle flows

One engine is one event loop's guest, holds no global, and owns its tasks, its clock and the device.
"""

from __future__ import annotations

import asyncio
import os
import select
import time
from collections import Counter
from collections.abc import Coroutine
from functools import partial
from heapq import nsmallest
from socket import AF_INET, AF_INET6, inet_ntop
from typing import TYPE_CHECKING, Any, NamedTuple

from tunsmith.config import Settings
from tunsmith.device.base import FRAME_ROOM, TSO, Device
from tunsmith.dial.base import Stream
from tunsmith.errors import DialError, ProxyError, UsageError
from tunsmith.flow import TCP, UDP, Action, Target, Verdict
from tunsmith.relay.faults import icmp_for, outcome_of
from tunsmith.relay.poller import IN, NOTHING, Poller
from tunsmith.relay.report import FlowRecord, Reporter, Silent
from tunsmith.relay.tcp import TcpRelay
from tunsmith.relay.udp import UdpFlow, UdpRelay
from tunsmith.rules.table import RuleTable
from tunsmith.stack.config import StackConfig
from tunsmith.stack.request import FlowRequest
from tunsmith.stack.stack import Stack
from tunsmith.wire.icmp import IcmpError

if TYPE_CHECKING:
    from tunsmith.device.pcap import Capture
    from tunsmith.dial.base import Dialer
    from tunsmith.dns.fakeip import FakeIpPool
    from tunsmith.relay.dns import Resolver
    from tunsmith.relay.dns_flow import DnsFlow
    from tunsmith.relay.icmp import PingRelay
    from tunsmith.relay.publish import Publisher
    from tunsmith.stack.events import DatagramError, Echo
    from tunsmith.wire.ip import IpFamily

BATCH = 64
"""Frames read before sockets get their turn."""
SWEEP = 5.0
"""Seconds between looks at idle flows."""
QUIET = 0.5
"""Seconds in which the kernel of the application would have sent something again (its RTO is 0.2 s)."""
DIALS = 1024
"""Flows waiting for their upstream at a time. Of a program that gave up waiting nothing is heard, so when
there are more, the oldest is the one to forget: a scan past silent hosts must not hide the others."""
REPEAT = 60.0
"""Seconds before a complaint about the upstream is repeated."""
CAPTURE_FLUSH = 0.2
"""Seconds that a captured packet may wait to be written."""
TIME_WAIT = 1.0
"""2 MSL on a wire inside this machine that reorders nothing."""


class Dial(NamedTuple):
    """A flow whose upstream is being connected."""

    record: FlowRecord
    task: asyncio.Future[Stream]


class Engine:
    """Takes flows from `device` to `dialer`. `start`, then it runs by itself until `close`."""

    def __init__(
        self,
        device: Device,
        dialer: Dialer,
        settings: Settings,
        reporter: Reporter | None = None,
        capture: Capture | None = None,
    ) -> None:
        if capture is not None:
            from tunsmith.device.pcap import PcapDevice

            device = PcapDevice(device, capture)
        self.device = device
        self.capture = capture
        self.dialer = dialer
        self.settings = settings
        self.reporter: Reporter = reporter or Silent()
        self.rules = RuleTable(settings.network, dialer.wants_names)
        limits = settings.limits
        config = StackConfig(
            mtu=device.mtu,
            offload=device.offload & TSO == TSO,
            isn_secret=os.urandom(32),
            receive_buffer=limits.receive_buffer,
            send_buffer=limits.send_buffer,
            pending_limit=DIALS + BATCH,
            pending_per_source=DIALS + BATCH,
            connection_limit=limits.flows + DIALS,
            time_wait=TIME_WAIT,
        )
        self.stack = Stack(config, emit=device.write, handler=self)
        self.drops: Counter[str] = self.stack.drops
        self.relays: dict[TcpRelay | DnsFlow, None] = {}
        self.dials: dict[FlowRequest, Dial] = {}
        """Flows waiting for their upstream, oldest first."""
        self.pool: FakeIpPool | None = None
        if dialer.wants_names:
            from tunsmith.dns.fakeip import FakeIpPool

            self.pool = FakeIpPool.of(settings.network)
        self._buffer = memoryview(bytearray(FRAME_ROOM))
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake_at = float("inf")
        self._timer: asyncio.TimerHandle | None = None
        self._resolver: Resolver | None = None
        self._pings: PingRelay | None = None
        self._published: Publisher | None = None
        self._complaints: dict[type[DialError], float] = {}
        self._closed = self._device_lost = False

    # --- life ---

    async def start(self) -> None:
        """Learn what the upstream can do and begin. Raises DialError where it can do nothing, UsageError where
        a port cannot be published; the engine is closed then."""
        self._loop = asyncio.get_running_loop()
        await self.dialer.start()
        self.poller = Poller(self._loop)
        self.udp = UdpRelay(
            self._loop,
            self.poller,
            self.stack,
            self.dialer,
            self.settings.limits,
            self.drops,
            self._ended,
            self._complain,
        )
        self.stack.deadlines.on_earlier = self._wake
        self.poller.watch(self.device.fileno(), IN, self._on_packets)
        self._sweeper = self._loop.call_later(SWEEP, self._sweep)
        if self.capture is not None:
            self._flush_capture(self.capture)
        if self.settings.publish:
            try:
                self._published = self._publish()
            except UsageError:
                self.close()
                raise

    def _publish(self) -> Publisher:
        from tunsmith.relay.publish import Publisher, Surroundings

        around = Surroundings(
            self._loop,
            self.poller,
            self.stack,
            self.settings.network,
            self.settings.limits,
            self.drops,
            self._admit,
            self._on_relay_end,
            self._ended,
            self.udp.flows.__contains__,
        )
        return Publisher(self.settings.publish, around)

    async def drain(self, timeout: float) -> None:
        """Let what an application that has ended sent before reach its upstreams.

        Its kernel may still hold megabytes, and ends each flow by a FIN; a flow without one belongs to a program
        that lives on. At most `timeout` seconds, and QUIET seconds without a byte moving."""
        until = time.monotonic() + timeout
        moved, patience = -1, until
        device = select.poll()
        device.register(self.device, select.POLLIN)
        while not self._device_lost:
            self._on_packets()
            unfinished = [
                relay for relay in self.relays if isinstance(relay, TcpRelay) and not relay.finished
            ]
            if not unfinished and self.udp.drained and not device.poll(0):
                return
            now = time.monotonic()
            sent = sum(relay.record.up for relay in self.relays)
            if sent != moved or any(relay.blocked for relay in unfinished):
                moved, patience = sent, now + QUIET
            if now >= min(until, patience):
                return
            await asyncio.sleep(0.005)

    def close(self) -> None:
        """End all flows and give the device back. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if not self._device_lost:
            self.poller.change(self.device.fileno(), IN, NOTHING)
        self._sweeper.cancel()
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        for request in list(self.dials):
            self._give_up(request, "stopped", None)
        for relay in list(self.relays):
            if isinstance(relay, TcpRelay):
                relay.abort("stopped")
        self.udp.close()
        if self._pings is not None:
            self._pings.close()
        if self._published is not None:
            self._published.close()
        self.poller.close()
        self.dialer.close()
        self.device.close()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` as a task of this engine."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- 1: packets in ---

    def _on_packets(self, _: int = IN) -> None:
        read, buffer = self.device.read, self._buffer
        stack = self.stack
        receive_frame = stack.receive_frame
        now = time.monotonic()
        stack.batching = True
        try:
            for _ in range(BATCH):
                receive_frame(buffer, read(buffer), now)
        except BlockingIOError:
            pass
        except OSError as error:
            self._on_device_lost(error)
        stack.end_batch(now)
        self.udp.flush()

    def _on_device_lost(self, error: OSError) -> None:
        if self._device_lost:
            return
        self._device_lost = True
        self.poller.change(self.device.fileno(), IN, NOTHING)
        self.reporter.notice(f"the TUN device is gone: {error.strerror or error}")

    # --- 2, 3, 4: TCP ---

    def on_flow(self, request: FlowRequest) -> None:
        """A new TCP flow: StackHandler."""
        address, port = request.destination
        verdict, target = self._decide(TCP, address, port)
        if verdict.action is Action.DIAL:
            self._make_room()
            self._dial(request, self._record("tcp", request.family, request.key, target, verdict))
        elif verdict.action is Action.RESOLVE:
            self._open_dns(request, self._record("dns", request.family, request.key, target, verdict))
        elif verdict.action is Action.REFUSE:
            request.refuse(time.monotonic())
        else:
            request.drop()

    def _decide(self, protocol: int, address: bytes, port: int) -> tuple[Verdict, Target]:
        name = self.pool.name_of(address) if self.pool is not None else None
        verdict = self.rules.match(protocol, address, port, name)
        host = name or inet_ntop(AF_INET if len(address) == 4 else AF_INET6, address)
        return verdict, Target(host, port)

    def _record(
        self, protocol: str, family: IpFamily, key: bytes, target: Target, verdict: Verdict
    ) -> FlowRecord:
        now = time.monotonic()
        upstream = self.dialer.label if verdict.action is Action.DIAL else "tunsmith"
        record = FlowRecord(protocol, family, key, target, verdict.rule, upstream, now, last=now)
        if self._resolver is not None:
            n = family.address_length
            record.name = self._resolver.name_of(key[n : 2 * n]) or ""
        return record

    def _dial(self, request: FlowRequest, record: FlowRecord) -> None:
        self._pin(record)
        try:
            opening = self.dialer.begin(record.target)
        except DialError as error:
            self._refuse(request, record, error)
            return
        if isinstance(opening, Stream):
            self._relay(request, record, opening)
        else:
            if len(self.dials) >= DIALS:
                self._give_up(next(iter(self.dials)), "given up", None)
            task = asyncio.ensure_future(opening)
            self.dials[request] = Dial(record, task)
            task.add_done_callback(partial(self._on_dialed, request))

    def _on_dialed(self, request: FlowRequest, task: asyncio.Future[Stream]) -> None:
        dial = self.dials.pop(request, None)
        if dial is None:  # given up, perhaps in the moment between its end and this call
            if not task.cancelled() and task.exception() is None:
                task.result().sock.close()
            return
        try:
            stream = task.result()
        except DialError as error:
            self._refuse(request, dial.record, error)
        else:
            self._relay(request, dial.record, stream)

    def _give_up(self, request: FlowRequest, outcome: str, error: IcmpError | None) -> None:
        """End a dial, which closes what it has opened. Without `error` the application hears nothing."""
        record, task = self.dials.pop(request)
        task.cancel()
        if error is None:
            request.drop()
        else:
            request.unreachable(error, time.monotonic())
        record.outcome = outcome
        self.drops[f"dial_{outcome}"] += 1
        self._ended(record)

    def _relay(self, request: FlowRequest, record: FlowRecord, stream: Stream) -> None:
        relay = TcpRelay(self.poller, stream.sock, record, self._on_relay_end)
        connection = request.accept(relay, time.monotonic())
        if connection is None:
            stream.sock.close()
            record.outcome = "given up"
            self._ended(record)
            return
        self.relays[relay] = None
        relay.start(connection, stream.early)

    def _refuse(self, request: FlowRequest, record: FlowRecord, error: DialError) -> None:
        meaning = icmp_for(error)
        now = time.monotonic()
        if meaning is None:
            request.refuse(now)
        else:
            request.unreachable(meaning, now)
        record.outcome = outcome_of(error)
        self.drops[f"dial_{record.outcome}"] += 1
        self._ended(record)
        self._complain(error)

    def _complain(self, error: DialError) -> None:
        """What is wrong with the upstream or with us, not with one destination, is worth a line."""
        kind = type(error)
        if kind is DialError or isinstance(error, ProxyError):
            now = time.monotonic()
            if now - self._complaints.get(kind, -REPEAT) >= REPEAT:
                self._complaints[kind] = now
                self.reporter.notice(str(error))

    def _on_relay_end(self, relay: TcpRelay | DnsFlow) -> None:
        del self.relays[relay]
        self._ended(relay.record)

    def _pin(self, record: FlowRecord) -> None:
        """Keep the fake address of a flow from being given to another name while the flow lives."""
        if self.pool is not None and record.target.is_name:
            n = record.family.address_length
            record.pinned = record.key[n : 2 * n]
            self.pool.pin(record.pinned)

    def _ended(self, record: FlowRecord) -> None:
        """The one exit of every flow."""
        record.ended = time.monotonic()
        if record.pinned and self.pool is not None:
            self.pool.unpin(record.pinned)
            record.pinned = b""
        self.reporter.flow_ended(record)

    def _admit(self, relay: TcpRelay) -> None:
        """A client of a published port."""
        self._make_room()
        self.relays[relay] = None

    def _make_room(self) -> None:
        """Before a new flow: too many, and the longest idle go, some at once so that a flood does not sort
        again and again."""
        excess = len(self.relays) + len(self.dials) + len(self.udp.flows) - self.settings.limits.flows
        if excess < 0:
            return
        flows: list[TcpRelay | UdpFlow | FlowRequest] = [*self.udp.flows.values(), *self.dials]
        flows += [relay for relay in self.relays if isinstance(relay, TcpRelay)]
        for flow in nsmallest(1 + excess + len(flows) // 64, flows, key=self._last_moved):
            self.drops["evicted"] += 1
            if isinstance(flow, TcpRelay):
                flow.abort("evicted")
            elif isinstance(flow, UdpFlow):
                self.udp.end_flow(flow, "evicted")
            else:
                self._give_up(flow, "evicted", None)

    def _last_moved(self, flow: TcpRelay | UdpFlow | FlowRequest) -> float:
        return self.dials[flow].record.last if isinstance(flow, FlowRequest) else flow.record.last

    # --- 5: UDP, DNS, ping ---

    def on_datagram(self, family: IpFamily, key: bytes, data: memoryview, segment_size: int) -> None:
        """UDP payload: StackHandler."""
        flow = self.udp.flows.get(key)
        if flow is None:
            if self._published is not None and self._published.on_datagram(key, data, segment_size):
                return
            _, _, address, port = family.split(key)
            verdict, target = self._decide(UDP, address, port)
            if verdict.action is Action.RESOLVE:
                self.spawn(self._resolve(family, key, bytes(data), target, verdict))
                return
            if verdict.action is Action.DROP:
                self.drops[verdict.rule] += 1
                return
            if verdict.action is Action.REFUSE or not self.dialer.carries_udp:
                self._refuse_datagram(family, key, len(data))
                return
            self._make_room()
            record = self._record("udp", family, key, target, verdict)
            self._pin(record)
            flow, fresh = self.udp.open(family, key, target, record)
            if fresh:
                self.spawn(self.udp.dial(flow.mapping))
        self.udp.on_datagram(flow, data, segment_size)

    def _refuse_datagram(self, family: IpFamily, key: bytes, length: int) -> None:
        self.drops["udp_refused"] += 1
        self.stack.send_datagram_error(family, key, IcmpError.PORT, time.monotonic(), length=length)

    def resolver(self) -> Resolver:
        """The DNS side, made at the first query: it costs start-up time that many programs never need."""
        if self._resolver is None:
            from tunsmith.relay.dns import Resolver

            on_name = self.capture.name if self.capture is not None else None
            self._resolver = Resolver(
                self.dialer, self.settings, self.pool, counts=self.drops, on_name=on_name
            )
        return self._resolver

    def _asked_server(self, target: Target) -> Target | None:
        network = self.settings.network
        gateways = (network.gateway.compressed, network.gateway6.compressed)
        return None if target.host in gateways or target.is_name else target

    async def _resolve(
        self, family: IpFamily, key: bytes, query: bytes, target: Target, verdict: Verdict
    ) -> None:
        record = self._record("dns", family, key, target, verdict)
        reply = await self.resolver().resolve(query, tcp=False, server=self._asked_server(target))
        record.up = len(query)
        if reply is not None:
            record.down = len(reply)
            self.stack.send_datagram(family, family.swap(key), reply)
        record.outcome = "answered" if reply is not None else "dropped"
        self._ended(record)

    def _open_dns(self, request: FlowRequest, record: FlowRecord) -> None:
        from tunsmith.relay.dns_flow import DnsFlow

        server = self._asked_server(record.target)
        flow = DnsFlow(self.resolver(), server, record, self.spawn, self._on_relay_end)
        if request.accept(flow, time.monotonic()) is not None:
            self.relays[flow] = None

    def on_datagram_error(self, error: DatagramError) -> None:
        """The application's host refused an answer: StackHandler. Its port is closed, so is the flow."""
        key = error.family.key(error.destination, error.destination_port, error.source, error.source_port)
        if self._published is not None and self._published.on_datagram_error(key, error):
            return
        flow = self.udp.flows.get(key)
        if flow is not None:
            self.udp.end(flow.mapping, "application closed its port")

    def on_echo(self, echo: Echo) -> None:
        """A ping: StackHandler."""
        if self._pings is None:
            from tunsmith.relay.icmp import PingRelay

            self._pings = PingRelay(
                self.poller,
                self.stack,
                self.dialer,
                self.settings.network,
                self.reporter,
                self._record,
                self.drops,
            )
        verdict, target = self._decide(echo.family.icmp, echo.destination, 0)
        self._pings.on_echo(echo, target, verdict)

    # --- 6: time ---

    def _wake(self, due: float) -> None:
        """The stack's earliest deadline may have moved to `due`."""
        if due < self._wake_at:
            if self._timer is not None:
                self._timer.cancel()
            self._wake_at = due
            self._timer = self._loop.call_later(max(0.0, due - time.monotonic()), self._on_deadline)

    def _on_deadline(self) -> None:
        now = time.monotonic()
        self._timer, self._wake_at = None, float("inf")
        self.stack.handle_timeout(now)
        due = self.stack.next_deadline()
        if due is not None:
            self._wake(due)

    def _sweep(self) -> None:
        """Close flows that have been idle for longer than their kind allows."""
        now = time.monotonic()
        self.udp.expire(now)
        if self._pings is not None:
            self._pings.expire(now)
        if self._published is not None:
            self._published.expire(now)
        waiting_since = now - self.settings.limits.dial
        for request in [
            request for request, dial in self.dials.items() if dial.record.started < waiting_since
        ]:
            self._give_up(request, "timeout", IcmpError.HOST)
        oldest = now - self.settings.limits.tcp_idle
        for relay in [relay for relay in self.relays if relay.record.last < oldest]:
            if isinstance(relay, TcpRelay):
                relay.abort("idle")
        self._sweeper = self._loop.call_later(SWEEP, self._sweep)

    def _flush_capture(self, capture: Capture) -> None:
        """Whoever looks at the capture meanwhile sees it grow."""
        capture.flush()
        if capture.active and not self._closed:
            self._loop.call_later(CAPTURE_FLUSH, self._flush_capture, capture)
