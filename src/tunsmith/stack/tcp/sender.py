"""The sending half of a connection: what to send next, and what is in flight.

Data waits in `queue` as the very buffers the owner gave. Sending moves a buffer, whole or as a view of
its beginning, into `inflight` as one `Sent` record: with offload that is a super-segment of up to 64 KiB,
so the bytes read from an upstream socket are also the retransmission buffer and are never copied.

Positions in the stream are plain growing integers (wire/seq.py). RTO by RFC 6298. Here is the quiet path; at
the first sign of loss the sender is `troubled`, and ACKs and timers go to recovery.py until all is well.
"""

from __future__ import annotations

from collections.abc import Callable

from tunsmith.stack.config import SEND_BUFFER, StackConfig
from tunsmith.stack.tcp.congestion import Congestion
from tunsmith.stack.tcp.recovery import Recovery
from tunsmith.stack.tcp.rtt import RttEstimator
from tunsmith.stack.tcp.scoreboard import Blocks, Data, Sent
from tunsmith.stack.tcp.timers import NEVER, PERSIST, RETRANSMIT
from tunsmith.wire.tcp import ACK, FIN, PSH

ACK_PSH = ACK | PSH


class Sender:
    """Variables of RFC 9293 §3.3.1 (`snd_*`) and the queue behind them.

    `emit(seq, data, flags, now)` puts one segment on the wire; `timers` are the connection's."""

    __slots__ = (
        "away",
        "cc",
        "config",
        "corked",
        "emit",
        "fin_queued",
        "fin_sent",
        "inflight",
        "limit",
        "max_wnd",
        "mss",
        "no_delay",
        "probes",
        "queue",
        "queued",
        "quiet_since",
        "recovery",
        "retransmits",
        "rtt",
        "sack_ok",
        "snd_max",
        "snd_nxt",
        "snd_una",
        "snd_wl1",
        "snd_wl2",
        "snd_wnd",
        "super_segment",
        "timeouts",
        "timers",
        "troubled",
    )

    def __init__(
        self,
        iss: int,
        config: StackConfig,
        rtt: RttEstimator,
        timers: list[float],
        emit: Callable[[int, Data, int, float], None],
    ) -> None:
        self.snd_una = self.snd_nxt = self.snd_max = iss
        self.snd_wnd = 0
        self.snd_wl1 = self.snd_wl2 = 0
        self.max_wnd = 0
        self.mss = self.super_segment = 536
        self.cc: Congestion
        self.config = config
        self.rtt = rtt
        self.timers = timers
        self.emit = emit
        self.limit = config.send_buffer or SEND_BUFFER
        self.no_delay = config.no_delay
        """Whether a small segment may leave while others are in flight; never while `corked`."""
        self.corked = False
        self.sack_ok = False
        self.queue: list[Data] = []
        self.queued = 0
        self.inflight: list[Sent] = []
        self.fin_queued = self.fin_sent = False
        self.troubled = False
        """Whether `recovery` is at work; otherwise nothing is SACKed, lost or sent again."""
        self.recovery: Recovery | None = None
        """There from the first trouble on, as it remembers."""
        self.quiet_since = NEVER
        """When the last of what was in flight was acknowledged."""
        self.away = 0
        """Bytes of the flight that are not in the network: SACKed, or lost and not sent again."""
        self.timeouts = 0
        """Timeouts in a row without progress."""
        self.probes = 0
        self.retransmits = 0
        """Segments sent again."""

    @property
    def space(self) -> int:
        """Bytes `enqueue` takes before the buffer is full."""
        return self.limit - self.queued - (self.snd_nxt - self.snd_una)

    @property
    def unsent(self) -> int:
        """Bytes not yet acknowledged by the peer."""
        return self.queued + self.snd_nxt - self.snd_una

    @property
    def waiting(self) -> bool:
        """Whether there is, or may be, something to send when the windows allow it."""
        return bool(self.queue) or self.fin_queued is not self.fin_sent or self.away > 0

    def acceptable(self) -> int:
        """The sequence number for a segment without text: behind all that was ever sent, unless the peer's window
        has closed in front of that."""
        return min(self.snd_max, max(self.snd_nxt, self.snd_una + self.snd_wnd))

    def rebase(self, position: int) -> None:
        """Nothing but a SYN has left so far, and the peer saw one with another number: go on from `position`."""
        self.snd_una = self.snd_nxt = self.snd_max = position

    def enqueue(self, data: Data) -> None:
        """Append `data`; small neighbours are joined so that one segment can carry them."""
        queue = self.queue
        if queue and len(queue[-1]) + len(data) <= self.super_segment:
            queue[-1] = b"".join((queue[-1], data))
        else:
            queue.append(data)
        self.queued += len(data)

    def push(self, data: Data, length: int, now: float) -> None:
        """Send `data`, or queue what the windows do not allow. A FIN that is queued goes with its last byte."""
        if not self.inflight and now - self.quiet_since > self.rtt.rto:
            self._restart_after_idle()
        in_flight = self.snd_nxt - self.snd_una + length
        if (
            self.queue
            or length > self.super_segment
            or in_flight > self.snd_wnd
            or in_flight > self.cc.cwnd
            or self.troubled
            or (
                not self.no_delay
                and length % self.mss
                and (self.corked or in_flight > length or length > self.mss)
            )
        ):
            self.enqueue(data)
            self.output(now)
            return
        self.transmit(data, length, now)
        if self.timers[RETRANSMIT] == NEVER:
            self.timers[RETRANSMIT] = now + self.rtt.wait

    def _restart_after_idle(self) -> None:
        """The ACK clock has run down: the window of long ago may be too much for the path now. RFC 5681 §4.1."""
        if self.config.restart_after_idle:
            self.cc.cwnd = min(self.cc.cwnd, self.config.initial_window * self.mss)

    def output(self, now: float) -> None:
        """Send what the windows allow; arm the timer that guards it."""
        if self.troubled:
            self.trouble.send(now)
        else:
            self.send_new(now)
        timers = self.timers
        if self.snd_nxt - self.snd_una > self.away:
            if timers[RETRANSMIT] == NEVER:
                timers[RETRANSMIT] = now + (self.rtt.rto if self.troubled else self.rtt.wait)
        elif self.waiting:
            timers[RETRANSMIT] = NEVER
            if timers[PERSIST] == NEVER:
                timers[PERSIST] = now + self.rtt.rto

    def send_new(self, now: float) -> None:
        """Send from the queue. RFC 9293 §3.10.2, §3.8.6.2.1 (silly window), RFC 5681 §3.1."""
        queue = self.queue
        while queue:
            data = queue[0]
            length = len(data)
            flight = self.snd_nxt - self.snd_una
            room = min(self.cc.cwnd + self.away, self.snd_wnd) - flight
            allowed = min(room, self.super_segment)
            if length > allowed:
                length = allowed - allowed % self.mss
                if length <= 0:
                    if allowed <= 0 or allowed < self.max_wnd // 2:
                        break
                    length = allowed
                view = memoryview(data)
                queue[0] = view[length:]
                data = view[:length]
            elif not self.no_delay and (tail := self._held_tail(length, flight)):
                length -= tail
                if not length:
                    break
                view = memoryview(data)
                queue[0] = view[length:]
                data = view[:length]
            else:
                del queue[0]
            self.queued -= length
            self.transmit(data, length, now)
        if self.fin_queued and not self.fin_sent and not queue and self.snd_wnd:
            self.transmit(b"", 0, now)

    def send_one(self, now: float) -> bool:
        """Send one new segment if the peer's window takes it, whatever cwnd is. Returns whether it has."""
        room = self.snd_una + self.snd_wnd - self.snd_nxt
        if not self.queue or room <= 0:
            return False
        view = memoryview(self.queue[0])
        data = view[: min(self.mss, room)]
        if len(data) < len(view):
            self.queue[0] = view[len(data) :]
        else:
            del self.queue[0]
        self.queued -= len(data)
        self.transmit(data, len(data), now)
        return True

    def _held_tail(self, length: int, flight: int) -> int:
        """How much of the next `length` bytes waits for more: what does not fill a segment at the end of all there is,
        while anything before it is unacknowledged (Nagle's algorithm, RFC 9293 §3.7.4) or the connection is corked."""
        tail = length % self.mss
        if self.fin_queued or self.queued > length:
            return 0
        if self.corked:  # but for what has left before, and for a buffer that cannot fill a segment
            return tail if self.snd_nxt == self.snd_max and self.space > 0 else 0
        return tail if flight or length > tail else 0

    def transmit(self, data: Data, length: int, now: float) -> None:
        """Put the next `length` bytes on the wire, and the FIN if it is queued and they are the last."""
        start = self.snd_nxt
        end = start + length
        flags = ACK
        fin = False
        if not self.queue:
            if length:
                flags = ACK_PSH
            if self.fin_queued:
                self.fin_sent = fin = True
                flags |= FIN
                end += 1
        self.snd_nxt = end
        if end > self.snd_max:
            self.snd_max = end
        self.inflight.append(Sent(start, end, data, fin, now))
        self.emit(start, data, flags, now)

    def on_ack(self, ack: int, now: float) -> None:
        """`ack` acknowledges new data, snd_una < ack <= snd_max, and there is no trouble."""
        acked = ack - self.snd_una
        filled = self.snd_nxt - self.snd_una + self.mss > self.cc.cwnd
        self.snd_una = ack
        inflight, rtt = self.inflight, self.rtt
        covered = None
        while inflight and inflight[0].end <= ack:
            covered = inflight.pop(0)
        if covered is not None:
            rtt.on_sample(now - covered.sent_at)
        self.timeouts = self.probes = 0
        if filled:
            smoothed = rtt.srtt or 0.0
            latest = smoothed if covered is None else now - covered.sent_at
            self.cc.on_ack(acked, smoothed, latest, now)
        if inflight:
            self.timers[RETRANSMIT] = now + rtt.wait  # RFC 6298 (5.3)
            first = inflight[0]
            if first.start < ack:
                first.data = memoryview(first.data)[ack - first.start :]
                first.start = ack
        else:
            self.timers[RETRANSMIT] = NEVER  # RFC 6298 (5.2)
            self.quiet_since = now
            if ack > self.snd_nxt:
                self.skip_unsent(ack)

    def skip_unsent(self, ack: int) -> None:
        """The peer has taken what was only meant to probe its window: it need not be sent."""
        surplus = ack - self.snd_nxt
        self.snd_nxt = ack
        if self.queue:
            view = memoryview(self.queue.pop(0))[surplus:]
            if view:
                self.queue.insert(0, view)
            self.queued -= surplus
        else:
            self.fin_sent = True

    @property
    def trouble(self) -> Recovery:
        """Where signs of loss are taken."""
        if self.recovery is None:
            self.recovery = Recovery(self)
        return self.recovery

    def on_trouble(
        self, ack: int, blocks: Blocks, duplicate: bool, echoed_rtt: float | None, now: float
    ) -> None:
        """An ACK of new data, or one that repeats `snd_una`, that needs a closer look. See Recovery.on_ack."""
        self.trouble.on_ack(ack, blocks, duplicate, echoed_rtt, now)

    def on_retransmit_timeout(self, now: float) -> None:
        """The timer RETRANSMIT has expired."""
        if self.troubled or self.rtt.wait == self.rtt.rto:
            self.trouble.on_retransmit_timeout(now)
        else:
            self.trouble.expect_probe(now)

    def probe(self, now: float) -> None:
        """The persist timer: one byte (or the FIN) beyond a closed window, or all that fits into a silly
        one. RFC 9293 §3.8.6.1, backed off like the RTO."""
        timers = self.timers
        timers[PERSIST] = NEVER
        if self.snd_nxt - self.snd_una > self.away or not self.waiting:
            return
        self.probes += 1
        self.timeouts += 1
        data = self.inflight[0].data if self.inflight else self.queue[0] if self.queue else b""
        if data:
            data = memoryview(data)[: max(1, min(self.snd_wnd, self.mss))]
            self.emit(self.snd_una, data, ACK, now)
        else:
            self.emit(self.snd_una, b"", FIN | ACK, now)
        self.snd_max = max(self.snd_max, self.snd_una + max(len(data), 1))
        timers[PERSIST] = now + min(self.rtt.rto * (1 << min(self.probes, 16)), self.rtt.max_rto)
