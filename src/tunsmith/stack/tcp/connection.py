"""One TCP connection: RFC 9293 §3.10.7 in its order, with the halves in sender.py and receiver.py.

A segment enters `on_segment`. The usual one, in order and in ESTABLISHED, skips the checks that cannot
fail for it; all others go through acceptability, RST, SYN, ACK, text and FIN as the RFC lists them.
Leaving segments are built by `_emit`: one pack of the TCP header behind a cached IP header.

ACKs: at once for two segments' worth of text, anything out of order, and FIN; otherwise the delayed-ACK
timer. While the stack holds a batch (`Stack.batch`), ACKs that are due wait for its end, so that a burst
of super-segments costs one ACK.
"""

from __future__ import annotations

import errno
from struct import Struct
from typing import TYPE_CHECKING

from tunsmith.errors import LocalError
from tunsmith.stack.tcp.receiver import Receiver
from tunsmith.stack.tcp.rtt import RttEstimator
from tunsmith.stack.tcp.sender import Data, Sender
from tunsmith.stack.tcp.state import (
    ON_FIN_ACKED,
    ON_FIN_RECEIVED,
    ON_FIN_SENT,
    RECEIVING,
    TO_BE_RESET,
    State,
)
from tunsmith.stack.tcp.timers import COUNT, DELAYED_ACK, LINGER, NEVER, PERSIST, RETRANSMIT
from tunsmith.wire.checksum import partial, pseudo_sum
from tunsmith.wire.ip import IpFamily
from tunsmith.wire.seq import widen
from tunsmith.wire.tcp import (
    ACK,
    CHECKSUM_OFFSET,
    FIN,
    HEADER_LENGTH,
    RST,
    SYN,
    TIMESTAMP_LENGTH,
    TIMESTAMP_WORD,
    URG,
    TcpOptions,
    build_options,
)
from tunsmith.wire.vnet import GSO_NONE, NEEDS_CSUM, VNET

if TYPE_CHECKING:
    from tunsmith.stack.events import ConnectionHandler
    from tunsmith.stack.stack import Stack

ESTABLISHED = State.ESTABLISHED
CLOSED = State.CLOSED
UNUSUAL = FIN | SYN | RST | URG

HEADER = Struct(">4sIIHHHH")
"""ports, seq, ack, offset and flags, window, checksum, urgent pointer."""
HEADER_WITH_TIMESTAMP = Struct(">4sIIHHHHIII")
LARGEST_PACKET = 65535
RTO_AFTER_LOST_SYN = 3.0
"""RFC 6298 (5.7)."""


def _emit_nothing(seq: int, data: Data, flags: int, now: float) -> None:
    """The wire of a closed connection."""


def _take_nothing(data: Data) -> int:
    """The owner of a closed connection."""
    return len(data)


class Connection:
    """A connection, from SYN to CLOSED. `key` is that of arriving segments (IpFamily.key order).

    Owners use: `send`, `read`, `shutdown`, `close`, `abort` and the properties; everything else belongs to
    the stack. Methods that take `now` want the stack's clock, in seconds."""

    __slots__ = (
        "_ip_headers",
        "_ports",
        "_pseudo",
        "_reverse",
        "_vnet",
        "_vnet_gso",
        "ack_queued",
        "error",
        "family",
        "fin_seen",
        "handler",
        "iss",
        "key",
        "owner_closed",
        "peer_mss",
        "rcv_scale",
        "receiver",
        "sack_ok",
        "scheduled",
        "sender",
        "snd_scale",
        "stack",
        "state",
        "syn_at",
        "timers",
        "timestamps",
        "ts_offset",
        "ts_recent",
        "want_write",
    )

    def __init__(
        self, stack: Stack, family: IpFamily, key: bytes, iss: int, irs: int, handler: ConnectionHandler
    ) -> None:
        config = stack.config
        self.stack = stack
        self.family = family
        self.key = key
        self.handler = handler
        self.state = State.SYN_RECEIVED
        self.error = 0
        self.iss = iss
        self.timers = [NEVER] * COUNT
        self.scheduled = NEVER
        rtt = RttEstimator(config.initial_rto, config.min_rto, config.max_rto)
        self.sender = Sender(iss, config.send_buffer, rtt, self.timers, self._emit)
        self.sender.no_delay = config.no_delay
        self.receiver = Receiver(irs, config.receive_buffer, self._deliver)
        self.timestamps = config.timestamps
        self.ts_recent = 0
        self.ts_offset = iss & 0x7FFFFFFF
        self.sack_ok = False
        self.snd_scale = self.rcv_scale = 0
        self.syn_at = NEVER
        """When our SYN was sent, if once."""
        self.peer_mss = 536
        self.fin_seen = self.owner_closed = self.want_write = self.ack_queued = False
        self._reverse = reverse = family.swap(key)
        self._ports = reverse[-4:]
        self._pseudo = pseudo_sum(reverse[:-4], 6, 0)
        self._ip_headers: dict[int, bytes] = {}
        self._vnet = VNET.pack(NEEDS_CSUM, GSO_NONE, 0, 0, family.header_length, CHECKSUM_OFFSET)
        self._vnet_gso = self._vnet

    # --- what owners see ---

    @property
    def source(self) -> tuple[bytes, int]:
        """The peer's address and port."""
        address, port, _, _ = self.family.split(self.key)
        return address, port

    @property
    def destination(self) -> tuple[bytes, int]:
        """Our address and port: where the peer wanted to go."""
        _, _, address, port = self.family.split(self.key)
        return address, port

    @property
    def space(self) -> int:
        """Bytes `send` would take now."""
        return self.sender.space

    @property
    def readable_bytes(self) -> int:
        """Text in order that waits for `read`."""
        return self.receiver.ready_bytes

    @property
    def at_end(self) -> bool:
        """The peer has closed its half and everything was read."""
        return self.fin_seen and not self.receiver.ready

    def send(self, data: bytes, now: float) -> int:
        """Queue `data` and send what the windows allow. Returns the bytes taken, 0 when the buffer is full;
        `on_writable` follows then. `data` is kept, not copied. Raises LocalError EPIPE after `shutdown`,
        and the connection's error once it is closed."""
        if self.sender.fin_queued or self.state is CLOSED:
            raise LocalError(self.error or errno.EPIPE, "send on a connection that is closed for sending")
        sender = self.sender
        length = len(data)
        if not length:
            return 0
        space = sender.limit - sender.queued - sender.snd_nxt + sender.snd_una
        if length > space:
            self.want_write = True
            if space <= 0:
                return 0
            length = space
            data = data[:space]
        if self.state is State.SYN_RECEIVED or self.state is State.SYN_SENT:
            sender.enqueue(data)
        else:
            sender.push(data, length, now)
            self._schedule()
        return length

    def read(self, most: int, now: float, *, peek: bool = False) -> bytes:
        """Up to `most` bytes of text; empty when there are none (see `at_end`). Tells the peer when the
        window has opened enough."""
        data = self.receiver.read(most, peek)
        if data and not peek and self.receiver.window_is_worth_telling() and self.state in RECEIVING:
            self.send_ack(now)
        return data

    def shutdown(self, now: float) -> None:
        """No more will be sent: FIN after what is queued. RFC 9293 §3.10.4. Idempotent."""
        if self.sender.fin_queued or self.state is CLOSED:
            return
        self.sender.fin_queued = True
        if self.state in ON_FIN_SENT and self.state is not State.SYN_RECEIVED:
            self.state = ON_FIN_SENT[self.state]
            self.sender.output(now)
        self._schedule()

    def close(self, now: float) -> None:
        """The owner is done with both halves. Unread text, now or later, is answered with RST
        (RFC 9293 §3.10.4, RFC 2525 §2.17); otherwise an orderly close. `on_closed` follows, maybe at once."""
        if self.state is CLOSED:
            return
        self.owner_closed = True
        if self.receiver.ready or self.receiver.islands:
            self._abort(errno.ECONNABORTED, now)
            return
        if self.state is State.SYN_SENT:
            self._finish(errno.ECONNABORTED)
            return
        self.shutdown(now)
        if self.state is State.FIN_WAIT_2:
            self.timers[LINGER] = now + self.stack.config.fin_wait_2
            self._schedule()

    def abort(self, now: float) -> None:
        """RST, and gone, without `on_closed`. RFC 9293 §3.10.5."""
        self._abort(errno.ECONNABORTED, now, tell=False)

    def _abort(self, error: int, now: float, *, tell: bool = True) -> None:
        if self.state in TO_BE_RESET:
            self._emit(self.sender.acceptable(), b"", RST | ACK, now)
        self._finish(error, tell)

    # --- opening ---

    def negotiate(self, options: TcpOptions, mss: int) -> None:
        """Take the peer's SYN options. `mss` is the largest our own link carries. RFC 9293 §3.7.1, RFC 7323 §2, §3."""
        config = self.stack.config
        self.timestamps = config.timestamps and options.timestamp is not None
        if options.timestamp is not None:
            self.ts_recent = options.timestamp[0]
        self.sack_ok = config.sack and options.sack_permitted
        if config.window_scaling and options.window_scale is not None:
            self.snd_scale = options.window_scale
            self.rcv_scale = self.own_scale()
        self.peer_mss = options.mss or (536 if self.family.version == 4 else 1220)
        self.set_mss(min(self.peer_mss, mss))

    def own_scale(self) -> int:
        """The window scale that lets 16 bits tell the whole receive buffer."""
        return max(0, (self.stack.config.receive_buffer - 1).bit_length() - 16)

    def set_mss(self, mss: int) -> None:
        """Send segments of `mss` with options, from now on. RFC 9293 §3.7.1: options come out of it."""
        sender = self.sender
        option_length = TIMESTAMP_LENGTH if self.timestamps else 0
        sender.mss = max(mss - option_length, 32)
        overhead = self.family.header_length + HEADER_LENGTH + option_length
        sender.super_segment = (LARGEST_PACKET - overhead) // sender.mss * sender.mss
        self.receiver.mss = sender.mss
        self._vnet_gso = VNET.pack(
            NEEDS_CSUM,
            self.family.gso_tcp,
            overhead,
            sender.mss,
            self.family.header_length,
            CHECKSUM_OFFSET,
        )

    def start_congestion(self) -> None:
        """Begin with the initial window, RFC 6928, once the MSS is known."""
        config = self.stack.config
        self.sender.cc = config.congestion(self.sender.mss, config.initial_window * self.sender.mss)

    def send_syn(self, flags: int, now: float) -> None:
        """Send SYN or SYN-ACK with our options; arms the retransmission timer."""
        config = self.stack.config
        opening = flags == SYN
        options = TcpOptions(
            mss=self.stack.mss(self.family),
            window_scale=(
                self.own_scale() if (config.window_scaling if opening else self.rcv_scale) else None
            ),
            sack_permitted=config.sack if opening else self.sack_ok,
            timestamp=(self.ts_now(now), 0 if opening else self.ts_recent) if self.timestamps else None,
        )
        receiver = self.receiver
        window = min(receiver.window(), 65535)
        receiver.rcv_adv = receiver.rcv_nxt + window
        ack = 0 if opening else receiver.rcv_nxt
        self._emit_raw(self.iss, ack, flags, window, build_options(options), b"")
        sender = self.sender
        self.syn_at = now if sender.snd_max == self.iss else NEVER
        sender.snd_nxt = sender.snd_max = self.iss + 1
        self.timers[RETRANSMIT] = now + sender.rtt.rto
        self._schedule()

    def _establish(self, ack: int, seq: int, window: int, now: float) -> None:
        sender = self.sender
        sender.snd_una = ack
        if window >= 0:
            sender.snd_wnd = sender.max_wnd = window
            sender.snd_wl1, sender.snd_wl2 = seq, ack
        if self.syn_at != NEVER:
            sender.rtt.on_sample(now - self.syn_at)
        elif sender.timeouts:
            sender.rtt.rto = RTO_AFTER_LOST_SYN
            sender.cc.cwnd = sender.mss  # RFC 5681 §3.1
        sender.timeouts = 0
        self.timers[RETRANSMIT] = NEVER
        self.state = ESTABLISHED
        if sender.fin_queued:
            self.state = State.FIN_WAIT_1
        self.handler.on_established(self)

    # --- arriving segments ---

    def on_segment(
        self,
        seq32: int,
        ack32: int,
        flags: int,
        window: int,
        tsval: int | None,
        tsecr: int,
        options: TcpOptions | None,
        data: memoryview,
        now: float,
    ) -> None:
        """One segment. `window` is unscaled; `tsval` is None without a timestamp; `options` only where
        there was more than a timestamp. RFC 9293 §3.10.7."""
        receiver = self.receiver
        seq = widen(seq32, receiver.rcv_nxt)
        ack = widen(ack32, self.sender.snd_una)
        window <<= self.snd_scale
        if (
            self.state is not ESTABLISHED
            or flags & UNUSUAL
            or seq != receiver.rcv_nxt
            or not flags & ACK
            or len(data) > receiver.rcv_adv - seq
            or (tsval is None) is self.timestamps
        ):
            if self.state is State.SYN_SENT:
                self._on_segment_in_syn_sent(seq32, ack, flags, window, tsval, options, now)
                return
            if not self._is_acceptable(seq, ack, flags, tsval, data, now):
                if self.state is not CLOSED:
                    self._settle(now)
                return
            data, flags = self._trim(seq, flags, data)
        elif self.timestamps:
            if (tsval - self.ts_recent) & 0x80000000:  # type: ignore[operator]  # tsval is not None here
                self._refuse(len(data), now)
                return
            if not receiver.unacked:  # RFC 7323 §4.3: the segment that our next ACK answers
                self.ts_recent = tsval  # type: ignore[assignment]
        if not self._process_ack(seq, ack, flags, window, tsecr, options, len(data), now):
            return
        if data:
            self._process_text(seq, data, now)
        if self.state is CLOSED:
            return
        if flags & FIN:
            self._process_fin(seq + len(data), now, told=bool(data))
            if self.state is CLOSED:
                return
        sender = self.sender
        if self.want_write or sender.queue or sender.fin_queued is not sender.fin_sent:
            self._settle(now)
        else:
            self._schedule()

    def _settle(self, now: float) -> None:
        """After an ACK: send what it made room for, on the wire and in the buffer."""
        sender = self.sender
        if sender.waiting:
            sender.output(now)
        if self.want_write and sender.space > sender.limit // 4:
            self.want_write = False
            self.handler.on_writable(self)
        self._schedule()

    def _is_acceptable(
        self, seq: int, ack: int, flags: int, tsval: int | None, data: memoryview, now: float
    ) -> bool:
        """First to fourth check of RFC 9293 §3.10.7.4, with RFC 5961 and RFC 7323 §5. Returns whether
        the ACK, the text and the FIN of the segment are to be processed."""
        receiver = self.receiver
        old_timestamp = (
            self.timestamps
            and tsval is not None
            and bool((tsval - self.ts_recent) & 0x80000000)
            and not flags & RST
        )
        length = len(data) + bool(flags & SYN) + bool(flags & FIN)
        edge = max(receiver.rcv_adv, receiver.rcv_nxt)
        if length:
            inside = seq < edge and seq + length > receiver.rcv_nxt
        else:
            inside = receiver.rcv_nxt <= seq <= edge
        if flags & RST:
            if not inside:
                self.stack.drops["rst_outside_window"] += 1
            elif seq == receiver.rcv_nxt:
                self._on_reset()
            else:  # RFC 5961 §3.2
                self._challenge(now)
            return False
        if old_timestamp or not inside:
            if self.state is State.SYN_RECEIVED and flags & SYN and seq + 1 == receiver.rcv_nxt:
                if not flags & ACK:
                    self.send_syn(SYN | ACK, now)  # our SYN-ACK was lost
                    return False
                if ack != self.iss + 1:
                    return False
                self._establish(ack, seq, -1, now)  # simultaneous open
            probe = length and seq == receiver.rcv_nxt and not receiver.window()
            if (
                flags & ACK
                and not old_timestamp
                and self.state is not State.SYN_RECEIVED
                and (probe or seq + length <= receiver.rcv_nxt)
            ):
                # Text was seen already, or the window is closed: the ACK field still counts.
                self._process_ack(seq, ack, flags, -1, 0, None, length, now)
            if self.state is not CLOSED:
                self._refuse(length, now)
            return False
        if flags & SYN:  # RFC 5961 §4.2
            self._challenge(now)
            return False
        if not flags & ACK:
            self.stack.drops["tcp_without_ack"] += 1
            return False
        if self.timestamps and tsval is None:  # RFC 7323 §3.2
            self.stack.drops["tcp_without_timestamp"] += 1
            return False
        if tsval is not None and seq <= receiver.rcv_nxt - receiver.unacked:  # RFC 7323 §4.3
            self.ts_recent = tsval
        return True

    def _refuse(self, length: int, now: float) -> None:
        """An unacceptable segment: say what we expect, RFC 9293 §3.10.7.4 first. At a bounded rate for those
        that carry nothing, or two ends that disagree would answer each other's answers for ever."""
        self.stack.drops["tcp_unacceptable"] += 1
        if length or self.stack.challenges.allow(now):
            self.send_ack(now)

    def _trim(self, seq: int, flags: int, data: memoryview) -> tuple[memoryview, int]:
        """Cut what lies beyond the window; a FIN behind the cut is not here yet."""
        room = max(self.receiver.rcv_adv - seq, 0)
        if len(data) > room:
            return data[:room], flags & ~FIN
        return data, flags

    def _on_segment_in_syn_sent(
        self,
        seq32: int,
        ack: int,
        flags: int,
        window: int,
        tsval: int | None,
        options: TcpOptions | None,
        now: float,
    ) -> None:
        """RFC 9293 §3.10.7.3."""
        acceptable = bool(flags & ACK) and ack == self.iss + 1
        if flags & ACK and not acceptable:
            if not flags & RST:
                self._emit(ack, b"", RST, now)
            return
        if flags & RST:
            if acceptable:
                self._finish(errno.ECONNREFUSED)
            return
        if not flags & SYN:
            return
        options = options or TcpOptions(timestamp=None if tsval is None else (tsval, 0))
        self.receiver.rcv_nxt = self.receiver.rcv_adv = seq32 + 1
        self.negotiate(options, self.stack.mss(self.family))
        self.start_congestion()
        unscaled = window  # RFC 7323 §2.2: the window of a SYN is never scaled, and snd_scale was 0 on entry
        if acceptable:
            self._establish(ack, seq32, unscaled, now)
            if self.state is CLOSED:
                return
            self.send_ack(now)
            self.sender.output(now)
            self._schedule()
        else:  # simultaneous open
            self.state = State.SYN_RECEIVED
            self.sender.snd_wnd = self.sender.max_wnd = unscaled
            self.send_syn(SYN | ACK, now)

    def _process_ack(
        self,
        seq: int,
        ack: int,
        flags: int,
        window: int,
        tsecr: int,
        options: TcpOptions | None,
        length: int,
        now: float,
    ) -> bool:
        """Fifth check of RFC 9293 §3.10.7.4. `window` -1: do not take the window. Returns whether the
        rest of the segment counts."""
        sender = self.sender
        if self.state is State.SYN_RECEIVED:
            if ack != self.iss + 1:
                self._emit(ack, b"", RST, now)
                return False
            self._establish(ack, seq, window, now)
            if self.state is CLOSED:
                return False
        snd_una = sender.snd_una
        if ack > snd_una:
            if ack > sender.snd_max:  # RFC 5961 §5.2
                self._challenge(now)
                return False
            rtt = None
            if sender.retransmits and self.timestamps and tsecr:
                rtt = ((self.ts_now(now) - tsecr) & 0xFFFFFFFF) / 1000
            sender.on_ack(ack, rtt, now)
            if sender.fin_sent and not sender.inflight:
                self._on_fin_acked(now)
                if self.state is CLOSED:
                    return False
        elif ack < snd_una:
            if ack < snd_una - max(sender.max_wnd, 65535):  # RFC 5961 §5.2
                self._challenge(now)
                return False
            return True  # its window is as old as its ACK
        elif not sender.inflight:
            sender.timeouts = 0  # the peer answers our probes
        elif (
            not length
            and not flags & FIN
            and (window == sender.snd_wnd or (options is not None and options.sack))
        ):
            sender.on_duplicate_ack(now)
        if window >= 0 and (sender.snd_wl1 < seq or (sender.snd_wl1 == seq and sender.snd_wl2 <= ack)):
            if window > sender.snd_wnd:
                self.timers[PERSIST] = NEVER
                sender.probes = 0
                if window > sender.max_wnd:
                    sender.max_wnd = window
            sender.snd_wnd = window
            sender.snd_wl1, sender.snd_wl2 = seq, ack
        return True

    def _process_text(self, seq: int, data: memoryview, now: float) -> None:
        """Seventh check of RFC 9293 §3.10.7.4, and when to acknowledge: RFC 5681 §4.2, RFC 9293 §3.8.6.3."""
        if self.state not in RECEIVING or self.fin_seen:
            return
        receiver = self.receiver
        if self.owner_closed:
            if seq + len(data) > receiver.rcv_nxt:
                self._abort(errno.ECONNRESET, now)
            return
        in_order = receiver.on_text(seq, data)
        if self.state is CLOSED:
            return
        if not in_order:
            self.send_ack(now)
        elif receiver.unacked >= 2 * receiver.mss:
            if self.stack.batching:
                if not self.ack_queued:
                    self.ack_queued = True
                    self.stack.acks_due.append(self)
            else:
                self.send_ack(now)
        elif self.timers[DELAYED_ACK] == NEVER:
            self.timers[DELAYED_ACK] = now + self.stack.config.delayed_ack
        if receiver.fin_at is not None and receiver.rcv_nxt == receiver.fin_at:
            self._process_fin(receiver.fin_at, now)

    def _process_fin(self, fin_at: int, now: float, *, told: bool = False) -> None:
        """Eighth check of RFC 9293 §3.10.7.4. A FIN behind a hole waits until the text before it came.
        `told`: the text in front of it has been acknowledged already if there is a hole."""
        receiver = self.receiver
        if self.fin_seen:
            self.send_ack(now)
            return
        if receiver.rcv_nxt != fin_at:
            if fin_at > receiver.rcv_nxt:
                if receiver.fin_at is None:
                    receiver.fin_at = fin_at
                if not told:
                    self.send_ack(now)
            return
        self.fin_seen = True
        receiver.rcv_nxt += 1
        receiver.rcv_adv = max(receiver.rcv_adv, receiver.rcv_nxt)
        self.state = ON_FIN_RECEIVED[self.state]
        self.send_ack(now)
        self.handler.on_fin(self)
        if self.state is State.TIME_WAIT:
            self._enter_time_wait(now)

    def _on_fin_acked(self, now: float) -> None:
        state = ON_FIN_ACKED[self.state]
        if state is CLOSED:
            self._finish(0)
            return
        self.state = state
        if state is State.TIME_WAIT:
            self._enter_time_wait(now)
        elif self.owner_closed:
            self.timers[LINGER] = now + self.stack.config.fin_wait_2

    def _on_reset(self) -> None:
        """Second check of RFC 9293 §3.10.7.4."""
        if self.state in (State.CLOSING, State.LAST_ACK, State.TIME_WAIT):
            self._finish(0)
        elif self.state is State.CLOSE_WAIT:
            self._finish(errno.EPIPE)
        elif self.state is State.SYN_RECEIVED:
            self._finish(errno.ECONNREFUSED)
        else:
            self._finish(errno.ECONNRESET)

    def _challenge(self, now: float) -> None:
        """RFC 5961: answer a doubtful segment with what we know, at a bounded rate (§7)."""
        self.stack.drops["tcp_challenged"] += 1
        if self.stack.challenges.allow(now):
            self.send_ack(now)

    def _deliver(self, data: Data) -> int:
        return self.handler.on_data(self, data)  # type: ignore[arg-type]

    # --- leaving segments ---

    def ts_now(self, now: float) -> int:
        """Our timestamp clock: milliseconds (RFC 7323 §5.4), offset per connection."""
        return (int(now * 1000) + self.ts_offset) & 0xFFFFFFFF

    def send_ack(self, now: float) -> None:
        """A pure ACK of everything received, with SACK blocks where there is a hole."""
        receiver = self.receiver
        sender = self.sender
        seq = sender.snd_nxt if sender.snd_nxt == sender.snd_max else sender.acceptable()
        if not (self.sack_ok and receiver.islands):
            self._emit(seq, b"", ACK, now)
            return
        blocks = tuple(
            (start & 0xFFFFFFFF, end & 0xFFFFFFFF)
            for start, end in receiver.sack_blocks(3 if self.timestamps else 4)
        )
        stamp = (self.ts_now(now), self.ts_recent) if self.timestamps else None
        options = build_options(TcpOptions(timestamp=stamp, sack=blocks))
        window = min(receiver.window() >> self.rcv_scale, 65535)
        self._emit_raw(seq, receiver.rcv_nxt, ACK, window, options, b"")
        self._acknowledged()

    def _acknowledged(self) -> None:
        self.receiver.unacked = 0
        self.timers[DELAYED_ACK] = NEVER

    def _emit(self, seq: int, data: Data, flags: int, now: float) -> None:
        """Send one segment, a super-segment when `data` is longer than the MSS. Carries the ACK."""
        receiver = self.receiver
        length = len(data)
        window = receiver.window() >> self.rcv_scale
        if window > 65535:
            window = 65535
        ack = receiver.rcv_nxt & 0xFFFFFFFF if flags & ACK else 0
        if self.timestamps:
            tcp_length = 32 + length
            tcp = HEADER_WITH_TIMESTAMP.pack(
                self._ports,
                seq & 0xFFFFFFFF,
                ack,
                0x8000 | flags,
                window,
                partial(self._pseudo + tcp_length),
                0,
                TIMESTAMP_WORD,
                (int(now * 1000) + self.ts_offset) & 0xFFFFFFFF,
                self.ts_recent,
            )
        else:
            tcp_length = 20 + length
            tcp = HEADER.pack(
                self._ports,
                seq & 0xFFFFFFFF,
                ack,
                0x5000 | flags,
                window,
                partial(self._pseudo + tcp_length),
                0,
            )
        receiver.unacked = 0
        self.timers[DELAYED_ACK] = NEVER
        vnet = self._vnet_gso if length > self.sender.mss else self._vnet
        ip = self._ip_headers.get(tcp_length) or self._ip_header(tcp_length)
        if length:
            self.stack.emit((vnet + ip + tcp, data))
        else:
            self.stack.emit((vnet + ip + tcp,))

    def _emit_raw(self, seq: int, ack: int, flags: int, window: int, options: bytes, data: bytes) -> None:
        """Send a segment with the given options."""
        tcp_length = HEADER_LENGTH + len(options) + len(data)
        tcp = HEADER.pack(
            self._ports,
            seq & 0xFFFFFFFF,
            ack & 0xFFFFFFFF,
            (HEADER_LENGTH + len(options)) << 10 | flags,
            window,
            partial(self._pseudo + tcp_length),
            0,
        )
        self.stack.emit((self._vnet + self._ip_header(tcp_length) + tcp + options + data,))

    def _ip_header(self, tcp_length: int) -> bytes:
        """The IP header for a segment of `tcp_length`. Kept for the few lengths that recur."""
        n = self.family.address_length
        header = self.family.header(self._reverse[:n], self._reverse[n : 2 * n], 6, tcp_length)
        if len(self._ip_headers) > 3:
            self._ip_headers.clear()
        self._ip_headers[tcp_length] = header
        return header

    # --- time ---

    def _schedule(self) -> None:
        due = min(self.timers)
        if due < self.scheduled:
            self.stack.deadlines.schedule(self, due)

    def on_timeout(self, now: float) -> None:
        """Run the timers that are due."""
        timers = self.timers
        if timers[LINGER] <= now:
            self._finish(0)
            return
        if timers[DELAYED_ACK] <= now:
            self.send_ack(now)
        if timers[PERSIST] <= now:
            self._on_persist_timeout(now)
        if timers[RETRANSMIT] <= now:
            self._on_retransmit_timeout(now)

    def _on_persist_timeout(self, now: float) -> None:
        sender, retries = self.sender, self.stack.config.retries
        # RFC 9293 §3.8.6.1: a peer that answers is probed for ever, unless nobody waits for it any more.
        if sender.timeouts >= retries or (self.owner_closed and sender.probes >= retries):
            self._finish(errno.ETIMEDOUT)
            return
        sender.probe(now)

    def _on_retransmit_timeout(self, now: float) -> None:
        config = self.stack.config
        sender = self.sender
        opening = self.state in (State.SYN_RECEIVED, State.SYN_SENT)
        if self.state is State.SYN_RECEIVED:
            limit = config.synack_retries
        else:
            limit = config.syn_retries if opening else config.retries
        if sender.timeouts >= limit:
            self._finish(errno.ETIMEDOUT)
        elif opening:
            sender.timeouts += 1
            sender.rtt.on_timeout()
            self.send_syn(SYN if self.state is State.SYN_SENT else SYN | ACK, now)
        else:
            sender.on_retransmit_timeout(now)

    def on_icmp_error(self, code: int, seq32: int, mtu: int, now: float) -> None:
        """An ICMP error quotes a segment of ours. Ignored unless it quotes something in flight
        (RFC 5927 §4.1). `mtu` > 0: the path is narrower. `code`: errno, fatal only while opening (§5.2)."""
        sender = self.sender
        if not sender.snd_una <= widen(seq32, sender.snd_una) < sender.snd_max:
            self.stack.drops["icmp_quote_outside_window"] += 1
            return
        opening = self.state in (State.SYN_SENT, State.SYN_RECEIVED)
        if mtu:
            if opening:
                return  # a SYN is too big for no path
            mss = max(mtu, self.family.minimum_mtu if self.family.version == 6 else 68)
            mss -= self.family.header_length + HEADER_LENGTH
            if mss - (TIMESTAMP_LENGTH if self.timestamps else 0) < sender.mss:
                self.set_mss(mss)
                sender.cc.on_mss(sender.mss)
                sender.restart()
                sender.output(now)
                self._schedule()
        elif opening:
            self._finish(code)

    # --- the end ---

    def _enter_time_wait(self, now: float) -> None:
        """Hand over to a record that only answers: RFC 9293 §3.10.7.4, TIME-WAIT."""
        self.stack.wait_out(self, now)
        self._finish(0)

    def _finish(self, error: int, tell: bool = True) -> None:
        if self.state is CLOSED:
            return
        self.state = CLOSED
        self.error = error
        self.timers[:] = [NEVER] * COUNT
        self.sender.queue.clear()
        self.sender.inflight.clear()
        self.receiver.islands.clear()
        self.sender.emit = _emit_nothing  # these two were cycles: freed now, not when gc gets to it
        self.receiver.deliver = _take_nothing
        self.stack.forget(self)
        if tell:
            self.handler.on_closed(self, error)
