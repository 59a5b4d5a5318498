"""The IP host: demultiplexing, and everything that is not inside one TCP connection.

    receive_frame ── TCP ── connection.on_segment | FlowRequest | TIME-WAIT | RST
                  ├─ UDP ── handler.on_datagram
                  └─ rest ─ fragments, options, extension headers, ICMP: the careful path (input.py)

Pure: packets and the time come in, frames go out through `emit`, events through handlers (events.py).
A frame is a virtio header and an IP packet (wire/vnet.py). Peers cannot make it raise: what is wrong with
a packet is counted in `drops` under a fixed word.
"""

from __future__ import annotations

from collections import Counter, deque
from contextlib import contextmanager
from hashlib import blake2b
from typing import TYPE_CHECKING

from tunsmith.stack.config import StackConfig
from tunsmith.stack.cookies import Cookies
from tunsmith.stack.deadlines import Deadlines
from tunsmith.stack.events import ConnectionHandler, Event, EventQueue, PingHandler, StackHandler
from tunsmith.stack.input import Input
from tunsmith.stack.listener import Listeners
from tunsmith.stack.opening import Opening
from tunsmith.stack.output import Emit, Parts, Segmenting
from tunsmith.stack.ports import EphemeralPorts, KeyedRandom
from tunsmith.stack.ratelimit import BlurredLimit, RateLimit
from tunsmith.stack.request import FlowRequest
from tunsmith.stack.states import Entry, states_of
from tunsmith.stack.tcp.algorithms import algorithm
from tunsmith.stack.tcp.connection import Connection
from tunsmith.stack.tcp.policy import Options
from tunsmith.stack.tcp.segments import bare_segment, reset_for
from tunsmith.stack.tcp.state import State
from tunsmith.stack.tcp.timewait import TimeWait, TimeWaitTable
from tunsmith.wire.icmp import IcmpError
from tunsmith.wire.ip import IPV4, IPV6, WHOLE, IpFamily, is_unicast
from tunsmith.wire.tcp import (
    ACK,
    CWR,
    ECE,
    FIN,
    RST,
    SYN,
    TIMESTAMP_WORD,
    TcpOptions,
    build_options,
    parse_options,
)
from tunsmith.wire.vnet import GSO_UDP_L4, PLAIN, VNET_HDR_LEN

if TYPE_CHECKING:
    from collections.abc import Iterator

TCP_PROTOCOL = 6
UDP_PROTOCOL = 17
LARGEST_WINDOW = 65535 << 14
"""RFC 7323 §2.3."""
NO_TEXT = memoryview(b"")
ROOM = 96
"""Bytes that must be readable behind any frame, so that one fixed layout can be unpacked."""


class Stack(Opening):
    """A host made of packets. Without `emit`, frames are kept for `frames_to_send`; without `handler`,
    events are kept for `poll_event`. All times are the owner's monotonic seconds."""

    def __init__(
        self,
        config: StackConfig | None = None,
        *,
        emit: Emit | None = None,
        handler: StackHandler | None = None,
    ) -> None:
        self.config = config = config or StackConfig()
        self.queue = EventQueue()
        self.outbox: deque[bytes] = deque()
        self.handler: StackHandler = handler or self.queue
        self.ping_handler: PingHandler | None = None
        """Who hears of the answers to pings of ours; None: nobody sends any."""
        device: Emit = emit or self._keep
        self.wire = self.emit = device if config.offload else Segmenting(device)
        self.congestion = algorithm(config.congestion)
        self.ecn = config.ecn != "off"
        self.drops: Counter[str] = Counter()
        self.connections: dict[bytes, Connection] = {}
        self.requests: dict[bytes, FlowRequest] = {}
        self.requests_by_source: dict[bytes, int] = {}
        self.listeners = Listeners()
        self.cookies = Cookies(config.isn_secret)
        random = config.random or KeyedRandom(config.isn_secret)
        self.challenges = BlurredLimit(config.challenge_ack_rate, random)
        self.fragment_id = int.from_bytes(random(4), "big")  # RFC 7739 §5.1
        self.ports = EphemeralPorts(*config.ephemeral_ports, config.isn_secret, random)
        self.deadlines = Deadlines()
        self.time_waits = TimeWaitTable(config.time_wait_limit)
        self.refusals = RateLimit(config.refusal_rate, config.refusal_rate)
        self.icmp_errors = RateLimit(config.icmp_rate, config.icmp_burst)
        self.input = Input(self)
        limit = config.receive_buffer_limit
        self.largest_receive_buffer = max(
            config.receive_buffer, min(4 * config.receive_buffer if limit is None else limit, LARGEST_WINDOW)
        )
        self.receive_grown = 0
        """Bytes by which receive buffers have outgrown `receive_buffer`."""
        self.largest_send_buffer = config.send_buffer_limit if config.send_buffer is None else 0
        self.send_grown = 0
        """Bytes by which send buffers have outgrown SEND_BUFFER."""
        self.options = config.options or (None if config.path_mtu_discovery else Options())
        """Those of connections that come without; None: nothing that needs a policy."""
        self.batching = False
        self.acks_due: list[Connection] = []
        self._held: list[Parts] = []
        """Frames of the present batch: TCP and ICMP. Datagrams are not held, for they may be many and large."""
        self.addresses = None if config.any_destination else frozenset(config.addresses)
        """The addresses that are ours; None: all of them."""

    def states(self) -> Iterator[Entry]:
        """All listeners and connections with their states, RFC 9293 §3.3.2."""
        return states_of(self)

    # --- the clock and the wire ---

    def next_deadline(self) -> float | None:
        """The exact time of the earliest timer, or None."""
        return self.deadlines.earliest()

    def handle_timeout(self, now: float) -> None:
        """Run what is due; afterwards nothing is."""
        self.deadlines.run(now)

    def poll_event(self) -> Event | None:
        """The next event, when no handler was given."""
        return self.queue.events.popleft() if self.queue.events else None

    def frames_to_send(self) -> Iterator[bytes]:
        """Drain what is to be sent, in order, when no `emit` was given."""
        while self.outbox:
            yield self.outbox.popleft()

    def _keep(self, parts: Parts) -> None:
        self.outbox.append(b"".join(parts))

    @contextmanager
    def batch(self, now: float) -> Iterator[None]:
        """All that happens inside belongs together: ACKs due leave once, at the end, and so do segments. Who waits
        for them is woken once, and has more to do then: that is worth an eighth of all connections a second."""
        self.begin_batch()
        try:
            yield
        finally:
            self.end_batch(now)

    def set_wire(self, wire: Emit) -> None:
        """From now on frames go to `wire`."""
        self.wire = wire
        if not self.batching:
            self.emit = wire

    def begin_batch(self) -> None:
        """See `batch`; `end_batch` must follow."""
        if not self.batching:
            self.batching = True
            self.emit = self._held.append

    def end_batch(self, now: float) -> None:
        """Send what waited for the end of the batch, if there is one."""
        if not self.batching:
            return
        self.batching = False
        for connection in self.acks_due:
            connection.ack_queued = False
            if connection.receiver.unacked and connection.state is not State.CLOSED:
                connection.send_ack(now)
        self.acks_due.clear()
        wire = self.emit = self.wire
        held, self._held = self._held, []
        for parts in held:
            wire(parts)

    def receive(self, packet: bytes, now: float, *, vnet: bytes = PLAIN) -> None:
        """One IP packet. `vnet` is its virtio header: what is known of its checksum and segments."""
        frame = b"".join((vnet, packet, bytes(ROOM)))
        self.receive_frame(memoryview(frame), VNET_HDR_LEN + len(packet), now)

    def receive_frame(self, frame: memoryview, length: int, now: float) -> None:
        """One frame in the first `length` bytes of `frame`, which has at least ROOM bytes behind them.
        The buffer is the caller's again after the call. Never raises for anything a peer can send."""
        first = frame[VNET_HDR_LEN]
        if first == 0x45:
            family, protocol = IPV4, frame[VNET_HDR_LEN + 9]
        elif first >> 4 == 6:
            family, protocol = IPV6, frame[VNET_HDR_LEN + 6]
        else:
            self.input.receive(frame[:length], now)
            return
        if protocol == TCP_PROTOCOL:
            self._receive_tcp(family, frame, length, now)
        elif protocol == UDP_PROTOCOL:
            self._receive_udp(family, frame, length, now)
        else:
            self.input.receive(frame[:length], now)

    # --- TCP ---

    def _receive_tcp(self, family: IpFamily, frame: memoryview, length: int, now: float) -> None:
        (
            vouched,
            ip_length,
            fragment,
            _,
            key,
            seq,
            ack,
            offset_flags,
            window,
            option_word,
            tsval,
            tsecr,
        ) = family.tcp_layout.unpack_from(frame)
        start = family.payload_at
        end = ip_length + family.end_bias
        text = start + (offset_flags >> 12) * 4
        if fragment not in WHOLE:
            self.input.receive(frame[:length], now)
            return
        if end > length or text > end or offset_flags < 0x5000:
            self.drops["tcp_length"] += 1
            return
        if not vouched and not self.input.verify(family, frame, start, end, key, TCP_PROTOCOL):
            return
        flags = offset_flags & 0xFF
        options = None
        if option_word != TIMESTAMP_WORD or text != start + 32:
            tsval, tsecr = None, 0
            if text != start + 20:
                options = parse_options(frame[start + 20 : text])
                tsval, tsecr = options.timestamp or (None, 0)
        data = frame[text:end] if text < end else NO_TEXT
        connection = self.connections.get(key)
        if connection is not None:
            if connection.ecn is not None:
                connection.ecn.on_packet(family.ecn_field(frame), seq, ack, flags, now)
            connection.on_segment(seq, ack, flags, window, tsval, tsecr, options, data, now)
            return
        if self.listeners and flags & (SYN | ACK | RST) == ACK:
            segment = (seq, ack, flags, window, tsval, tsecr, options, data, now)
            if self.redeem(family, key, segment):
                return
        self._receive_stray(family, key, seq, ack, flags, tsval, options, len(data), now)

    def _receive_stray(
        self,
        family: IpFamily,
        key: bytes,
        seq: int,
        ack: int,
        flags: int,
        tsval: int | None,
        options: TcpOptions | None,
        length: int,
        now: float,
    ) -> None:
        """A segment without a connection: TIME-WAIT, LISTEN or CLOSED. RFC 9293 §3.10.7.1, §3.10.7.2."""
        request = self.requests.get(key)
        if request is not None:
            if flags & RST and (seq - request.isn - 1) & 0xFFFFFFFF < 65536:
                request.cancelled = True
                self.withdraw(request)
                if request.on_cancelled is not None:
                    request.on_cancelled()
            return
        record = self.time_waits.records.get(key)
        opens = flags & (SYN | ACK | RST | FIN) == SYN
        if record is not None and not (
            opens and record.may_reopen(seq, tsval if self.config.timestamps else None)
        ):
            self._answer_from_time_wait(record, key, seq, flags, length, now)
            return
        if flags & RST:
            return
        source, source_port, destination, port = family.split(key)
        if self.addresses is not None and destination not in self.addresses:
            self.drops["not_our_address"] += 1
            return
        if not (port and source_port and is_unicast(source) and is_unicast(destination)):
            self.drops["martian"] += 1
            return
        if opens:
            if options is None:
                options = TcpOptions(timestamp=None if tsval is None else (tsval, 0))
            options.ecn = self.ecn and flags & (ECE | CWR) == ECE | CWR
            listener = self.listeners.find(destination, port) if self.listeners else None
            if listener is not None:
                listener.on_syn(family, key, seq, options, now)
                return
            if self.config.flow_requests:
                self._request(family, key, source, seq, options)
                return
        elif not flags & ACK and self.listeners and self.listeners.find(destination, port) is not None:
            self.drops["tcp_without_ack"] += 1  # RFC 9293 §3.10.7.2 fourth
            return
        self.drops["tcp_no_connection"] += 1
        self.emit((reset_for(family, key, seq, ack, flags, length + bool(flags & SYN) + bool(flags & FIN)),))

    def _request(self, family: IpFamily, key: bytes, source: bytes, isn: int, options: TcpOptions) -> None:
        config = self.config
        if (
            len(self.requests) >= config.pending_limit
            or self.requests_by_source.get(source, 0) >= config.pending_per_source
        ):
            self.drops["syn_flood"] += 1  # silence: a real client tries again, RFC 4987 §3
            return
        request = FlowRequest(self, family, key, isn, options)
        self.requests[key] = request
        self.requests_by_source[source] = self.requests_by_source.get(source, 0) + 1
        self.handler.on_flow(request)

    def _answer_from_time_wait(
        self, record: TimeWait, key: bytes, seq: int, flags: int, length: int, now: float
    ) -> None:
        """RST is ignored (RFC 1337), and so is an ACK that agrees with us: its sender may be waiting, too.
        Anything else is told, at a bounded rate, where we were; the FIN again makes us wait anew."""
        agrees = seq == record.rcv_nxt & 0xFFFFFFFF and not length and not flags & (SYN | FIN)
        if flags & RST or agrees or not self.challenges.allow(now):
            return
        if flags & FIN and (seq + length + 1 - record.rcv_nxt) & 0xFFFFFFFF == 0:
            record.until = now + self.config.time_wait
            self.time_waits.add(key, record)
        options = b""
        if record.ts_recent is not None:
            stamp = (int(now * 1000) + record.ts_offset) & 0xFFFFFFFF
            options = build_options(TcpOptions(timestamp=(stamp, record.ts_recent)))
        frame = bare_segment(
            record.family,
            record.family.swap(key),
            record.snd_nxt,
            record.rcv_nxt,
            ACK,
            record.window,
            options,
        )
        self.emit((frame,))

    def accept(
        self,
        request: FlowRequest,
        handler: ConnectionHandler | None,
        now: float,
        options: Options | None = None,
    ) -> Connection | None:
        """See FlowRequest.accept."""
        return self.admit(request, handler or self.queue, now, options) if self.withdraw(request) else None

    def refuse(self, request: FlowRequest, now: float, error: IcmpError | None = None) -> None:
        """See FlowRequest.refuse and FlowRequest.unreachable."""
        if not self.withdraw(request):
            return
        if error is None:
            self._reset(request)
            return
        family = request.family
        source, _, destination, _ = family.split(request.key)
        syn = bare_segment(family, request.key, request.isn, 0, SYN)[VNET_HDR_LEN:]
        self.send_error(family, destination, source, error, syn, now)

    def _reset(self, request: FlowRequest) -> None:
        self.emit((reset_for(request.family, request.key, request.isn, 0, SYN, 1),))

    def withdraw(self, request: FlowRequest) -> bool:
        """Forget `request`; False when it was already answered or cancelled."""
        if self.requests.get(request.key) is not request:
            return False
        del self.requests[request.key]
        source = request.key[: request.family.address_length]
        left = self.requests_by_source[source] - 1
        if left:
            self.requests_by_source[source] = left
        else:
            del self.requests_by_source[source]
        return True

    def mss(self, family: IpFamily, key: bytes) -> int:
        """The largest segment that our link to the source of `key` carries."""
        mtu = self.config.mtu if self.route_mtu is None else self.route_mtu(key[: family.address_length])
        return mtu - family.header_length - 20

    def initial_sequence(self, key: bytes, now: float) -> int:
        """RFC 6528: a 4 µs clock plus a keyed hash of the connection's ends."""
        if self.config.isn is not None:
            return self.config.isn(key, now) & 0xFFFFFFFF
        digest = blake2b(key, key=self.config.isn_secret, digest_size=4).digest()
        return (int(now * 250_000) + int.from_bytes(digest, "big")) & 0xFFFFFFFF

    def wait_out(self, connection: Connection, now: float) -> None:
        """Keep a TIME-WAIT record for `connection`."""
        sender, receiver = connection.sender, connection.receiver
        self.time_waits.add(
            connection.key,
            TimeWait(
                connection.family,
                sender.snd_nxt,
                receiver.rcv_nxt,
                min(receiver.window() >> connection.rcv_scale, 65535),
                connection.ts_recent if connection.timestamps else None,
                connection.ts_offset,
                now + self.config.time_wait,
            ),
        )
        self.deadlines.schedule(self.time_waits, self.time_waits.timers[0])

    def forget(self, connection: Connection) -> None:
        """`connection` is closed."""
        self.connections.pop(connection.key, None)

    # --- UDP ---

    def _receive_udp(self, family: IpFamily, frame: memoryview, length: int, now: float) -> None:
        (vouched, gso_type, gso_size, ip_length, fragment, _, key, udp_length, checksum) = (
            family.udp_layout.unpack_from(frame)
        )
        if fragment not in WHOLE:
            self.input.receive(frame[:length], now)
            return
        start = family.payload_at
        end = ip_length + family.end_bias
        if gso_type == GSO_UDP_L4:
            gso_size = gso_size >> 8 | (gso_size & 0xFF) << 8
        else:
            gso_size = 0
            if start + udp_length < end:
                end = start + udp_length
        if self.addresses is not None and key[family.address_length : -4] not in self.addresses:
            self.drops["not_our_address"] += 1
            return
        if end > length or udp_length < 8 or start + 8 > end or (not gso_size and start + udp_length > end):
            self.drops["udp_length"] += 1
            return
        if not vouched:
            if (
                family is IPV6
                and not checksum  # RFC 8200 §8.1
                and int.from_bytes(key[-2:], "big") not in self.config.zero_checksum_ports
            ):
                self.drops["udp_checksum_missing"] += 1
                return
            if not self.input.verify(family, frame, start, end if checksum else start, key, UDP_PROTOCOL):
                return
        self.handler.on_datagram(family, key, frame[start + 8 : end], gso_size)
