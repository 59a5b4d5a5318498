"""The path of a packet, on one page.

    device ──frame──> stack ──new flow──> name and rule ──> dial ──> relay <──bytes──> upstream
      ^                 │                                               │
      └────frames───────┴──────────────── text, FIN, RST, ICMP ─────────┘

 1. `_on_packets`   the device is readable: a batch of frames goes through `stack.receive_frame`
 2. `on_flow`       a SYN of a new flow: the name behind the address, the rule for it
 3. relay/dials.py  the upstream is dialed; only then SYN-ACK, or RST, or an ICMP error
 4. relay/tcp.py    text moves between connection and socket until both halves are closed
 5. `on_datagram`   the same for UDP: relay/udp.py; port 53 is answered by relay/dns_service.py
 6. alarm.py        the stack's timers; `_sweep` idle flows

One engine is one event loop's guest, holds no global, and owns its tasks, its clock and the device.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Container, Coroutine
from socket import AF_INET, AF_INET6, inet_ntop
from typing import TYPE_CHECKING, Any

from tunsmith.alarm import Alarm
from tunsmith.config import Settings
from tunsmith.device.base import FRAME_ROOM, TSO, Device
from tunsmith.dial.base import Stream
from tunsmith.flow import TCP, UDP, Action, Target, Verdict
from tunsmith.relay.crowd import Crowd
from tunsmith.relay.dials import AT_ONCE as DIALS_AT_ONCE
from tunsmith.relay.dials import Dials
from tunsmith.relay.dns_service import DnsService
from tunsmith.relay.drain import Drain
from tunsmith.relay.flows import FlowBook
from tunsmith.relay.poller import IN, NOTHING, Poller
from tunsmith.relay.report import FlowRecord, Reporter, Silent
from tunsmith.relay.tcp import TcpRelay
from tunsmith.relay.udp import UdpRelay
from tunsmith.rules.table import RuleTable
from tunsmith.stack.config import StackConfig
from tunsmith.stack.stack import Stack
from tunsmith.wire.icmp import IcmpError

if TYPE_CHECKING:
    from tunsmith.device.pcap import Capture
    from tunsmith.dial.base import Dialer
    from tunsmith.dial.escape import Escape
    from tunsmith.dns.fakeip import FakeIpPool
    from tunsmith.dns.slots import Slots
    from tunsmith.relay.dns import Resolver
    from tunsmith.relay.dns_flow import DnsFlow
    from tunsmith.relay.icmp import PingRelay
    from tunsmith.relay.loops import Loops
    from tunsmith.relay.neighbour import Neighbour
    from tunsmith.relay.publish import Publisher
    from tunsmith.stack.events import DatagramError, Echo
    from tunsmith.stack.request import FlowRequest
    from tunsmith.wire.ip import IpFamily

BATCH = 64
"""Frames read before sockets get their turn."""
SWEEP = 5.0
"""Seconds between looks at idle flows."""
CAPTURE_FLUSH = 0.2
"""Seconds that a captured packet may wait to be written."""
TIME_WAIT = 1.0
"""2 MSL on a wire inside this machine that reorders nothing."""
LOOP = Verdict(Action.REFUSE, "loop")
"""Of our own packets that come back."""


class Engine:
    """Takes flows from `device` to `dialer`. `start`, then it runs by itself until `close`. `clock` is
    monotonic, in seconds. `slots` is the table of fake addresses where it is shared with other engines."""

    def __init__(
        self,
        device: Device,
        dialer: Dialer,
        settings: Settings,
        reporter: Reporter | None = None,
        capture: Capture | None = None,
        escape: Escape | None = None,
        neighbour: Neighbour | None = None,
        clock: Callable[[], float] = time.monotonic,
        slots: Slots | None = None,
    ) -> None:
        if capture is not None:
            from tunsmith.device.pcap import PcapDevice

            device = PcapDevice(device, capture)
        self.device = device
        self.capture = capture
        self.escape = escape
        self.dialer = dialer
        self.settings = settings
        self.clock = clock
        self.rules = RuleTable(settings.network, dialer.wants_names)
        limits = settings.limits
        config = StackConfig(
            mtu=device.mtu,
            offload=device.offload & TSO == TSO,
            isn_secret=os.urandom(32),
            receive_buffer=limits.receive_buffer,
            receive_buffer_limit=limits.receive_buffer,
            send_buffer=limits.send_buffer,
            pending_limit=DIALS_AT_ONCE + BATCH,
            pending_per_source=DIALS_AT_ONCE + BATCH,
            connection_limit=limits.flows + DIALS_AT_ONCE,
            time_wait=TIME_WAIT,
        )
        self.stack = Stack(config, emit=device.write, handler=self)
        self.drops: Counter[str] = self.stack.drops
        self.relays: dict[TcpRelay | DnsFlow, None] = {}
        self.pool: FakeIpPool | None = None
        if dialer.wants_names:
            from tunsmith.dns.fakeip import FakeIpPool

            self.pool = FakeIpPool.of(settings.network, slots)
        self.book = FlowBook(dialer.label, self.pool, reporter or Silent(), self.drops, clock)
        self.dials = Dials(dialer, self.book, self._relay, clock)
        network = settings.network
        gateways = frozenset((network.gateway.compressed, network.gateway6.compressed))
        self.dns = DnsService(self.stack, self.book, gateways, self._make_resolver, self.spawn)
        self._loops: Loops | None = None
        if escape is not None and escape.underway is not None:
            from tunsmith.relay.loops import Loops

            self._loops = Loops(escape, escape.underway, self.book, neighbour)
        self._buffer = memoryview(bytearray(FRAME_ROOM))
        self._tasks: set[asyncio.Task[None]] = set()
        self._pings: PingRelay | None = None
        self._published: Publisher | None = None
        self._refused = b""
        """The datagram flow that was refused last."""
        self.on_device_lost: Callable[[], None] | None = None
        """Told once when there is nothing more to read and never will be."""
        self._closed = self._device_lost = False

    # --- life ---

    async def start(self) -> None:
        """Ask the upstream what it can do, and begin. Raises DialError where it can do nothing, UsageError where
        a port cannot be published; the engine is closed then, as it is when this is cancelled."""
        self._loop = asyncio.get_running_loop()
        self.poller = Poller(self._loop, self.stack.begin_batch, self._end_batch)
        self.udp = UdpRelay(
            self._loop,
            self.poller,
            self.stack,
            self.dialer,
            self.settings.limits,
            self.book,
        )
        self._crowd = Crowd(self.relays, self.dials, self.udp, self.settings.limits.flows, self.drops)
        self._alarm = Alarm(self._loop, self.clock, self.stack.handle_timeout, self.stack.next_deadline)
        self.stack.deadlines.on_earlier = self._alarm.set
        self._sweeper = self._loop.call_later(SWEEP, self._sweep)
        try:
            await self.dialer.start()
            if self.settings.publish:
                self._published = self._publish()
        except BaseException:
            self.close()
            raise
        self.poller.watch(self.device.fileno(), IN, self._on_packets)
        if self.capture is not None:
            self._flush_capture(self.capture)

    def _publish(self) -> Publisher:
        from tunsmith.relay.publish import Publisher, Surroundings

        around = Surroundings(
            self._loop,
            self.poller,
            self.stack,
            self.settings.network,
            self.settings.limits,
            self.drops,
            self.clock,
            self._admit,
            self._on_relay_end,
            self.book.end,
            self.udp.flows.__contains__,
        )
        return Publisher(self.settings.publish, around)

    async def drain(self, timeout: float, patience: float) -> bool:
        """Let what an application that has ended sent before reach its upstreams. At most `timeout` seconds, and
        `patience` without a full upstream taking a byte. True where there is more, and it went on moving."""
        drain = Drain(self.device, self.relays, self.udp, self.clock, timeout, patience)
        while not self._device_lost:
            self.stack.begin_batch()
            self._on_packets()
            self._end_batch()
            if drain.is_over():
                return drain.goes_on
            await asyncio.sleep(0.005)
        return False

    def close(self) -> None:
        """End all flows and give the device back. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._sweeper.cancel()
        for task in self._tasks:
            task.cancel()
        self.dials.close()
        for relay in list(self.relays):
            relay.abort("closed" if relay.finished else "stopped")
        self.udp.close()
        if self._pings is not None:
            self._pings.close()
        if self._published is not None:
            self._published.close()
        self._alarm.cancel()
        self._end_batch()
        self.poller.close()
        self.dialer.close()
        self.device.close()

    # --- the machine's own network ---

    def on_network_changed(self, addresses: Container[str], interface: str | None = None) -> int:
        """This machine has these `addresses` now, and our sockets are pinned to `interface`: flows that neither can
        serve end. Returns how many. A connection that was being made is forgotten, for the application's kernel
        asks again."""
        from tunsmith.relay.uplink import is_stranded, tell_the_deaf

        for request in list(self.dials.waiting):
            self.dials.give_up(request, "network changed", None)
        if self._pings is not None:
            self._pings.close()

        def lost(fd: int) -> bool:
            return is_stranded(fd, addresses, interface)

        streams = [relay for relay in self._streams() if lost(relay.sock.fileno())]
        for relay in streams:
            relay.abort("network changed")
        tell_the_deaf((relay.record for relay in streams), addresses, self.settings.network)
        return len(streams) + self.udp.end_where(lost, "network changed")

    def on_resumed(self) -> None:
        """This machine has slept: connections whose other ends are gone end within seconds."""
        from tunsmith.relay.uplink import QUESTIONED, leave_in_peace, question

        socks = [relay.sock for relay in self._streams()]
        question(socks)
        self._loop.call_later(QUESTIONED, leave_in_peace, socks)

    def _streams(self) -> list[TcpRelay]:
        return [relay for relay in self.relays if isinstance(relay, TcpRelay)]

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` as a task of this engine."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- 1: packets in ---

    def _on_packets(self, _: int = IN) -> None:
        read, buffer = self.device.read, self._buffer
        receive_frame = self.stack.receive_frame
        now = self.clock()
        try:
            for _ in range(BATCH):
                try:
                    length = read(buffer)
                except BlockingIOError:
                    break
                except OSError as error:
                    self._on_device_lost(error)
                    break
                try:
                    receive_frame(buffer, length, now)
                except Exception as error:  # what a handler raises costs its packet, nothing else
                    self._loop.call_exception_handler(
                        {"message": f"a packet was lost: {error!r}", "exception": error}
                    )
        finally:
            self.udp.flush()

    def _end_batch(self) -> None:
        """What a look of the poller led to leaves together."""
        self.stack.end_batch(self.clock())

    def _on_device_lost(self, error: OSError) -> None:
        if self._device_lost:
            return
        self._device_lost = True
        self.poller.change(self.device.fileno(), IN, NOTHING)
        self.book.notice(f"the TUN device is gone: {error.strerror or error}")
        if self.on_device_lost is not None:
            self.on_device_lost()

    # --- 2, 3, 4: TCP ---

    def on_flow(self, request: FlowRequest) -> None:
        """A new TCP flow: StackHandler."""
        address, port = request.destination
        verdict, target = self._decide(TCP, address, port)
        way = None
        if self._loops is not None:
            if self._loops.has_stream(request, target):
                verdict = LOOP
            way = self._loops.way_for(TCP, request.family, request.key, target, self.dials.targets)
        if verdict.action is Action.DIAL:
            self._crowd.make_room()
            record = self.book.enter("tcp", request.family, request.key, target, verdict)
            if way is not None:
                record.upstream = way.label
            self.dials.begin(request, record, way)
        elif verdict.action is Action.RESOLVE:
            self._crowd.make_room()
            record = self.book.enter("dns", request.family, request.key, target, verdict)
            flow = self.dns.open(request, record, self._on_relay_end)
            if flow is not None:
                self.relays[flow] = None
        elif verdict.action is Action.REFUSE:
            request.refuse(self.clock())
            self.book.refuse("tcp", request.family, request.key, target, verdict)
        else:
            request.drop()

    def _decide(self, protocol: int, address: bytes, port: int) -> tuple[Verdict, Target]:
        name = self.pool.name_of(address) if self.pool is not None else None
        verdict = self.rules.match(protocol, address, port, name)
        host = name or inet_ntop(AF_INET if len(address) == 4 else AF_INET6, address)
        return verdict, Target(host, port)

    def _relay(self, request: FlowRequest, record: FlowRecord, stream: Stream) -> None:
        relay = TcpRelay(self.poller, stream.sock, record, self._on_relay_end, self.clock)
        connection = request.accept(relay, self.clock())
        if connection is None:
            stream.sock.close()
            record.outcome = "given up"
            self.book.end(record)
            return
        self.relays[relay] = None
        relay.start(connection, stream.early)

    def _on_relay_end(self, relay: TcpRelay | DnsFlow) -> None:
        del self.relays[relay]
        self.book.end(relay.record)

    def _admit(self, relay: TcpRelay) -> None:
        """A client of a published port."""
        self._crowd.make_room()
        self.relays[relay] = None

    # --- 5: UDP, DNS, ping ---

    def on_datagram(self, family: IpFamily, key: bytes, data: memoryview, segment_size: int) -> None:
        """UDP payload: StackHandler."""
        flow = self.udp.flows.get(key)
        if flow is None:
            if self._published is not None and self._published.on_datagram(key, data, segment_size):
                return
            _, _, address, port = family.split(key)
            verdict, target = self._decide(UDP, address, port)
            way = None
            if self._loops is not None:
                if self._loops.has_datagram(family, key, target):
                    verdict = LOOP
                way = self._loops.way_for(UDP, family, key, target, self.dials.targets)
            if verdict.action is Action.RESOLVE:
                self.dns.on_datagram(family, key, bytes(data), segment_size, target, verdict)
                return
            if verdict.action is Action.DROP:
                self.drops[verdict.rule] += 1
                return
            if verdict.action is Action.REFUSE or not (way or self.dialer).carries_udp:
                self._refuse_datagram(family, key, len(data))
                if key != self._refused:  # a program that goes on trying is told of once
                    self._refused = key
                    self.book.refuse("udp", family, key, target, verdict)
                return
            self._crowd.make_room()
            record = self.book.enter("udp", family, key, target, verdict)
            self.book.pin(record)
            flow, fresh = self.udp.open(family, key, target, record)
            if fresh:
                self.spawn(self.udp.dial(flow.mapping, way))
        self.udp.on_datagram(flow, data, segment_size)

    def _refuse_datagram(self, family: IpFamily, key: bytes, length: int) -> None:
        self.drops["udp_refused"] += 1
        self.stack.send_datagram_error(family, key, IcmpError.PORT, self.clock(), length=length)

    def _make_resolver(self) -> Resolver:
        from tunsmith.relay.dns import Resolver

        on_name = self.capture.name if self.capture is not None else None
        return Resolver(
            self.dialer, self.settings, self.pool, counts=self.drops, on_name=on_name, escape=self.escape
        )

    def on_datagram_error(self, error: DatagramError) -> None:
        """The application's host did not take an answer: StackHandler. A closed port closes its flows."""
        key = error.family.key(error.destination, error.destination_port, error.source, error.source_port)
        if self._published is not None and self._published.on_datagram_error(key, error):
            return
        flow = self.udp.flows.get(key)
        if flow is not None and error.error is IcmpError.PORT:
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
                self.book,
            )
        verdict, target = self._decide(echo.family.icmp, echo.destination, 0)
        if self._loops is not None and self._loops.has_echo(echo, target):
            verdict = LOOP
        self._pings.on_echo(echo, target, verdict)

    # --- 6: time ---

    def _sweep(self) -> None:
        """Close flows that have been idle for longer than their kind allows."""
        self._sweeper = self._loop.call_later(SWEEP, self._sweep)
        now = self.clock()
        self.udp.expire(now)
        if self._pings is not None:
            self._pings.expire(now)
        if self._published is not None:
            self._published.expire(now)
        self.dials.expire(now - self.settings.limits.dial, IcmpError.HOST)
        for relay in list(self.relays):
            relay.expire(self.settings.limits, now)

    def _flush_capture(self, capture: Capture) -> None:
        """Whoever looks at the capture meanwhile sees it grow."""
        capture.flush()
        if capture.active and not self._closed:
            self._loop.call_later(CAPTURE_FLUSH, self._flush_capture, capture)
