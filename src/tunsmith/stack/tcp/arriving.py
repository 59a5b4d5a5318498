"""Segments that arrive at a connection: RFC 9293 §3.10.7.4, in its order; how one opens is in handshake.py.

The usual segment, in order and inside the window, skips the checks that cannot fail for it; all others go
through acceptability, RST, SYN, ACK, text and FIN as the RFC lists them.

ACKs: at once for two segments' worth of text, anything out of order, and FIN; otherwise the delayed-ACK
timer. While the stack holds a batch (`Stack.batch`), ACKs that are due wait for its end, so that a burst
of super-segments costs one ACK.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, cast

from tunsmith.stack.tcp.handshake import Handshake
from tunsmith.stack.tcp.state import ON_FIN_ACKED, ON_FIN_RECEIVED, RECEIVING, State
from tunsmith.stack.tcp.timers import DELAYED_ACK, LINGER, NEVER, PERSIST, RETRANSMIT
from tunsmith.stack.tcp.tuning import LOOKS, Tuning
from tunsmith.wire.seq import widen
from tunsmith.wire.tcp import ACK, FIN, RST, SYN, TcpOptions

if TYPE_CHECKING:
    from tunsmith.stack.tcp.connection import Connection

CLOSED = State.CLOSED
SYN_SENT = State.SYN_SENT
SYN_RECEIVED = State.SYN_RECEIVED
CHECKED = SYN | RST | ACK
"""Flags of which the usual segment has ACK alone."""
NOTHING_TO_SETTLE = frozenset({SYN_RECEIVED, State.CLOSED})


class Arriving(Handshake):
    """What the peer's segments do to a connection. Half a class: it is only ever a Connection, which says
    how one ends."""

    __slots__ = ()

    def _abort(self, error: int, now: float, *, tell: bool = True) -> None:
        raise NotImplementedError

    def _enter_time_wait(self, now: float) -> None:
        raise NotImplementedError

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
        if self.policy is not None:
            self.policy.heard_at = now
        receiver, sender = self.receiver, self.sender
        seq = receiver.rcv_nxt
        ack = widen(ack32, sender.snd_una)
        window <<= self.snd_scale
        if (
            self.state is SYN_SENT
            or flags & CHECKED != ACK
            or seq32 != seq & 0xFFFFFFFF
            or len(data) + (flags & FIN) > receiver.rcv_adv - seq
            or (tsval is None) is self.timestamps
        ):
            seq = widen(seq32, seq)
            if self.state is SYN_SENT:
                self._on_segment_in_syn_sent(seq32, ack, flags, window, tsval, options, now)
                return
            if not self._is_acceptable(seq, ack, flags, tsval, tsecr, data, now):
                if self.state not in NOTHING_TO_SETTLE:
                    self._settle(now)
                return
            data, flags = self._trim(seq, flags, data)
        elif tsval is not None:
            if (tsval - self.ts_recent) & 0x80000000 and not self._is_outdated(tsecr, now):
                self._refuse(len(data) + (flags & FIN), now)
                return
            if not receiver.unacked:  # RFC 7323 §4.3: the segment that our next ACK answers
                self.ts_recent = tsval
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
        timers = self.timers
        if self.want_write or sender.troubled or sender.queue or sender.fin_queued is not sender.fin_sent:
            self._settle(now)
        elif timers[DELAYED_ACK] < self.scheduled or timers[RETRANSMIT] < self.scheduled:
            self._schedule()  # no other timer begins to run where all is quiet

    def _settle(self, now: float) -> None:
        """After an ACK: send what it made room for, on the wire and in the buffer."""
        sender = self.sender
        if sender.waiting:
            sender.output(now)
        if self.want_write:
            if sender.cc.cwnd > sender.limit >> 1:
                self._grow_send_buffer(now)
            if sender.space > sender.limit // 4:
                self.want_write = False
                self.handler.on_writable(cast("Connection", self))
        self._schedule()

    def _is_acceptable(
        self, seq: int, ack: int, flags: int, tsval: int | None, tsecr: int, data: memoryview, now: float
    ) -> bool:
        """First to fourth check of RFC 9293 §3.10.7.4, with RFC 5961 and RFC 7323 §5. Returns whether
        the ACK, the text and the FIN of the segment are to be processed."""
        receiver = self.receiver
        old_timestamp = (
            self.timestamps
            and tsval is not None
            and bool((tsval - self.ts_recent) & 0x80000000)
            and not flags & RST
            and not self._is_outdated(tsecr, now)
        )
        length = len(data) + bool(flags & SYN) + bool(flags & FIN)
        edge = max(receiver.rcv_adv, receiver.rcv_nxt)
        if length and not flags & RST:
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
            if self.state is SYN_RECEIVED and flags & SYN and seq + 1 == receiver.rcv_nxt:
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
                and self.state is not SYN_RECEIVED
                and (probe or seq + length <= receiver.rcv_nxt)
            ):
                # Text was seen already, or the window is closed: the ACK field still counts.
                self._process_ack(seq, ack, flags, -1, 0, None, length, now)
            if self.state is not CLOSED:
                if data and seq + len(data) <= receiver.rcv_nxt:
                    receiver.duplicate = (seq, seq + len(data))
                self._refuse(length, now)
            return False
        if flags & SYN:
            if self.state is not SYN_RECEIVED or self.active:  # RFC 5961 §4.2
                self._challenge(now)
            elif seq + 1 == receiver.rcv_nxt:  # the same again, with text
                self.send_syn(SYN | ACK, now)
            else:  # RFC 9293 §3.10.7.4 fourth: back to LISTEN
                self._finish(errno.ECONNRESET)
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

    def _is_outdated(self, tsecr: int, now: float) -> bool:
        """Whether the timestamp that we remember of the peer is half a turn of the clock old, RFC 7323 §5.5: so old
        is what it echoes, then, which is the last that it heard of us."""
        return bool(tsecr and (self.ts_now(now) - tsecr) & 0x80000000)

    def _refuse(self, length: int, now: float) -> None:
        """An unacceptable segment: say what we expect, RFC 9293 §3.10.7.4 first. At a bounded rate for those
        that carry nothing, or two ends that disagree would answer each other's answers for ever."""
        self.stack.drops["tcp_unacceptable"] += 1
        if length or self.stack.refusals.allow(now):
            self.send_ack(now)

    def _trim(self, seq: int, flags: int, data: memoryview) -> tuple[memoryview, int]:
        """Cut what lies beyond the window; a FIN behind the cut is not here yet."""
        room = max(self.receiver.rcv_adv - seq, 0)
        if len(data) > room:
            return data[:room], flags & ~FIN
        return data, flags

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
        if self.state is SYN_RECEIVED:
            if ack != self.iss + 1:
                if not self._answers_cookie(ack, now):
                    self._emit(ack, b"", RST, now)
                    return False
                ack = self.iss + 1
            self._establish(ack, seq, window, now)
            if self.state is CLOSED:
                return False
        snd_una = sender.snd_una
        blocks = options.sack if options is not None and sender.sack_ok else ()
        if ack > snd_una:
            if ack > sender.snd_max:  # RFC 5961 §5.2
                self._challenge(now)
                return False
            if blocks or sender.troubled:
                echoed_rtt = None
                if self.timestamps and tsecr:
                    echoed_rtt = ((self.ts_now(now) - tsecr) & 0xFFFFFFFF) / 1000
                sender.on_trouble(ack, blocks, False, echoed_rtt, now)
            else:
                sender.on_ack(ack, now)
            if sender.fin_sent and not sender.inflight:
                self._on_fin_acked(now)
                if self.state is CLOSED:
                    return False
        elif ack < snd_una:
            if ack < snd_una - max(sender.max_wnd, 65535):  # RFC 5961 §5.2
                self._challenge(now)
                return False
            return True  # its window is as old as its ACK
        elif blocks or sender.troubled:
            duplicate = not length and not flags & FIN and window == sender.snd_wnd
            sender.on_trouble(ack, blocks, duplicate, None, now)
        elif not sender.inflight:
            sender.timeouts = 0  # the peer answers our probes
        elif not length and not flags & FIN and window == sender.snd_wnd:
            sender.on_trouble(ack, blocks, True, None, now)
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
        in_order = seq == receiver.rcv_nxt and receiver.islands is None and receiver.fin_at is None
        if in_order:
            receiver.advance(data, self)  # type: ignore[arg-type]
        else:
            receiver.on_text(seq, data, self)  # type: ignore[arg-type]
        if self.state is CLOSED:
            return
        if not in_order:
            if receiver.rcv_nxt == receiver.fin_at:
                self._process_fin(receiver.fin_at, now)
            else:
                self.send_ack(now)
        elif receiver.unacked >= 2 * receiver.mss or 2 * receiver.unacked >= receiver.limit:
            if self.stack.batching:
                if not self.ack_queued:
                    self.ack_queued = True
                    self.stack.acks_due.append(cast("Connection", self))
            else:
                self.send_ack(now)
        elif self.timers[DELAYED_ACK] == NEVER:
            self.timers[DELAYED_ACK] = now + self.stack.config.delayed_ack

    def _process_fin(self, fin_at: int, now: float, *, told: bool = False) -> None:
        """Eighth check of RFC 9293 §3.10.7.4. A FIN behind a hole waits until the text before it came.
        `told`: the text in front of it has been acknowledged already if there is a hole."""
        receiver = self.receiver
        if self.fin_seen:
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
        self.handler.on_fin(cast("Connection", self))
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
            self._await_fin(now)

    def _await_fin(self, now: float) -> None:
        """FIN-WAIT-2 of a closed connection does not last for ever."""
        if self.policy is None:
            self.timers[LINGER] = now + self.stack.config.fin_wait_2
        else:
            self.policy.on_fin_wait_2(cast("Connection", self), now)
        self._schedule()

    def _on_reset(self) -> None:
        """Second check of RFC 9293 §3.10.7.4."""
        if self.state in (State.CLOSING, State.LAST_ACK, State.TIME_WAIT):
            self._finish(0)
        elif self.state is State.CLOSE_WAIT:
            self._finish(errno.EPIPE)
        elif self.state is SYN_RECEIVED:
            self._finish(errno.ECONNREFUSED)
        else:
            self._finish(errno.ECONNRESET)

    def _tune(self, now: float) -> None:
        """Enough has come to see whether the receive buffer is large enough."""
        receiver = self.receiver
        if not self.grows:
            self.tune_at = NEVER
            return
        position = receiver.rcv_nxt - receiver.ready_bytes
        if self.tuning is None:
            self.tuning = Tuning(position, now)
        else:
            self.tuning.measure(cast("Connection", self), position, now)
        self.tune_at = receiver.rcv_nxt + receiver.limit // LOOKS

    def _grow_send_buffer(self, now: float) -> None:
        """The owner waits for room, and the congestion window would soon find nothing to send."""
        fixed = self.policy is not None and self.policy.options.send_buffer is not None
        if fixed or self.sender.limit >= self.stack.largest_send_buffer:
            return
        if self.tuning is None:
            self.tuning = Tuning(self.receiver.rcv_nxt - self.receiver.ready_bytes, now)
        self.tuning.grow_send_buffer(cast("Connection", self))

    def _challenge(self, now: float) -> None:
        """RFC 5961: answer a doubtful segment with what we know, at a bounded rate (§7)."""
        self.stack.drops["tcp_challenged"] += 1
        if self.stack.challenges.allow(now):
            self.send_ack(now)
