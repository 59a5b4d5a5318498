"""The sending half of a connection: what to send next, what is in flight, what was lost.

Data waits in `queue` as the very buffers the owner gave. Sending moves a buffer, whole or as a view of
its beginning, into `inflight` as one `Sent` record: with offload that is a super-segment of up to 64 KiB,
so the bytes read from an upstream socket are also the retransmission buffer and are never copied.

Positions in the stream are plain growing integers (wire/seq.py). After a timeout `snd_nxt` falls back to
`snd_una` and what was in flight returns to the front of the queue (go back N); `snd_max` remembers how far
the peer has been sent. Loss recovery is NewReno (RFC 6582), RTO by RFC 6298; the `Sent` records are the
scoreboard that selective recovery builds on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from tunsmith.stack.tcp.congestion import Congestion
from tunsmith.stack.tcp.rtt import RttEstimator
from tunsmith.stack.tcp.timers import NEVER, PERSIST, RETRANSMIT
from tunsmith.wire.tcp import ACK, FIN, PSH

Data = bytes | memoryview

DUPLICATE_ACKS = 3
TICK = 0.001
"""Of the timestamp clock, in seconds."""


class Sent:
    """One transmission in flight: stream positions [start, end), its bytes, when, and whether again."""

    __slots__ = ("data", "end", "fin", "retransmitted", "sent_at", "start")

    def __init__(self, start: int, end: int, data: Data, fin: bool, sent_at: float, again: bool) -> None:
        self.start = start
        self.end = end
        self.data = data
        self.fin = fin
        self.sent_at = sent_at
        self.retransmitted = again


class Sender:
    """Variables of RFC 9293 §3.3.1 (`snd_*`) and the queue behind them.

    `emit(seq, data, flags, now)` puts one segment on the wire; `timers` are the connection's."""

    __slots__ = (
        "cc",
        "corked",
        "duplicate_acks",
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
        "recover",
        "recovering",
        "retransmits",
        "rtt",
        "snd_max",
        "snd_nxt",
        "snd_una",
        "snd_wl1",
        "snd_wl2",
        "snd_wnd",
        "super_segment",
        "timeouts",
        "timers",
    )

    def __init__(
        self,
        iss: int,
        limit: int,
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
        self.rtt = rtt
        self.timers = timers
        self.emit = emit
        self.limit = limit
        self.no_delay = True
        """Whether a small segment may leave while others are in flight; never while `corked`."""
        self.corked = False
        self.queue: deque[Data] = deque()
        self.queued = 0
        self.inflight: deque[Sent] = deque()
        self.fin_queued = self.fin_sent = False
        self.duplicate_acks = 0
        self.recovering = False
        self.recover = iss
        self.timeouts = 0
        """Timeouts in a row without progress."""
        self.probes = 0
        self.retransmits = 0

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
        """Whether there is something to send when the windows allow it."""
        return bool(self.queue) or (self.fin_queued and not self.fin_sent)

    def acceptable(self) -> int:
        """The sequence number for a segment without text: `snd_max`, where the peer expects us to be even
        after going back, unless its window has closed in front of that."""
        return min(self.snd_max, max(self.snd_nxt, self.snd_una + self.snd_wnd))

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
        in_flight = self.snd_nxt - self.snd_una + length
        if (
            self.queue
            or length > self.super_segment
            or in_flight > self.snd_wnd
            or in_flight > self.cc.cwnd
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
            self.timers[RETRANSMIT] = now + self.rtt.rto

    def output(self, now: float) -> None:
        """Send what the windows allow. RFC 9293 §3.10.2, §3.8.6.2.1 (silly window), RFC 5681 §3.1."""
        queue = self.queue
        while queue:
            data = queue[0]
            length = len(data)
            flight = self.snd_nxt - self.snd_una
            room = min(self.cc.cwnd, self.snd_wnd) - flight
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
                queue.popleft()
            self.queued -= length
            self.transmit(data, length, now)
        if self.fin_queued and not self.fin_sent and not queue and self.snd_wnd:
            self.transmit(b"", 0, now)
        timers = self.timers
        if self.inflight:
            if timers[RETRANSMIT] == NEVER:
                timers[RETRANSMIT] = now + self.rtt.rto
        elif timers[PERSIST] == NEVER and self.waiting:
            timers[PERSIST] = now + self.rtt.rto

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
                flags = ACK | PSH
            if self.fin_queued:
                self.fin_sent = fin = True
                flags |= FIN
                end += 1
        self.snd_nxt = end
        again = start < self.snd_max
        if again:
            self.retransmits += 1
        if end > self.snd_max:
            self.snd_max = end
        self.inflight.append(Sent(start, end, data, fin, now, again))
        self.emit(start, data, flags, now)

    def on_ack(self, ack: int, echoed_rtt: float | None, now: float) -> None:
        """`ack` acknowledges new data: snd_una < ack <= snd_max. `echoed_rtt` is the RTT by timestamps, wanted
        once anything has been retransmitted."""
        acked = ack - self.snd_una
        filled = self.snd_nxt - self.snd_una + self.mss > self.cc.cwnd
        self.snd_una = ack
        inflight = self.inflight
        sample = echoed_rtt
        again: Sent | None = None
        while inflight:
            record = inflight[0]
            if record.end > ack:
                if record.start < ack:
                    record.data = memoryview(record.data)[ack - record.start :]
                    record.start = ack
                break
            inflight.popleft()
            if record.retransmitted:
                again = record
            elif again is None:
                sample = now - record.sent_at
        if ack > self.snd_nxt:
            self._skip_requeued(ack)
        if again is not None:  # Karn, RFC 6298 §3: which transmission this answers, only a timestamp can tell
            sample = echoed_rtt
            if sample is not None and sample > now - again.sent_at + 2 * TICK:
                sample = None
        if sample is not None:
            self.rtt.on_sample(sample)
        self.timeouts = self.probes = 0
        if self.recovering:
            self._on_ack_in_recovery(ack, acked, now)
        else:
            self.duplicate_acks = 0
            if filled:
                # While what was in flight at a timeout is still acknowledged: one MSS an ACK, RFC 3465 §2.3.
                self.cc.on_ack(acked if ack > self.recover else min(acked, self.mss), now)
        self.timers[RETRANSMIT] = now + self.rtt.rto if inflight else NEVER  # RFC 6298 (5.2), (5.3)

    def _skip_requeued(self, ack: int) -> None:
        """After going back, an ACK of the first transmission overtakes `snd_nxt`: forget what it covers."""
        surplus = ack - self.snd_nxt
        self.snd_nxt = ack
        while surplus and self.queue:
            data = self.queue[0]
            if len(data) > surplus:
                self.queue[0] = memoryview(data)[surplus:]
                self.queued -= surplus
                return
            self.queue.popleft()
            self.queued -= len(data)
            surplus -= len(data)
        if surplus:
            self.fin_sent = True

    def _on_ack_in_recovery(self, ack: int, acked: int, now: float) -> None:
        """RFC 6582 §3.2 step 3."""
        if ack >= self.recover:
            self.recovering = False
            self.duplicate_acks = 0
            self.cc.on_recovered(self.snd_nxt - self.snd_una)
        else:
            self.cc.on_partial_ack(acked)
            self.retransmit_first(now)

    def on_duplicate_ack(self, now: float) -> None:
        """An ACK that repeats `snd_una` while data is in flight. RFC 5681 §3.2, RFC 6582 §3.2 step 2."""
        self.duplicate_acks += 1
        if self.recovering:
            self.cc.on_duplicate_ack()
        elif self.duplicate_acks == DUPLICATE_ACKS and self.snd_una > self.recover:
            self.recovering = True
            self.recover = self.snd_max
            self.cc.on_fast_retransmit(self.snd_nxt - self.snd_una)
            self.retransmit_first(now)
            self.timers[RETRANSMIT] = now + self.rtt.rto

    def retransmit_first(self, now: float) -> None:
        """Send the first unacknowledged segment again, one MSS of it."""
        if not self.inflight:
            return
        record = self.inflight[0]
        if len(record.data) > self.mss:
            view = memoryview(record.data)
            middle = record.start + self.mss
            rest = Sent(
                middle, record.end, view[self.mss :], record.fin, record.sent_at, record.retransmitted
            )
            self.inflight[0] = record = Sent(record.start, middle, view[: self.mss], False, now, True)
            self.inflight.insert(1, rest)
        record.retransmitted = True
        record.sent_at = now
        self.retransmits += 1
        self.emit(record.start, record.data, FIN | ACK if record.fin else ACK, now)

    def on_retransmit_timeout(self, now: float) -> None:
        """RFC 6298 (5.4)-(5.7), RFC 5681 §3.1: one segment in flight, everything else goes back."""
        self.timers[RETRANSMIT] = NEVER
        if not self.inflight:
            return
        if not self.timeouts:
            self.cc.on_timeout(self.snd_nxt - self.snd_una)
        self.timeouts += 1
        self.rtt.on_timeout()
        self.restart()
        self.output(now)
        if not self.inflight:  # the peer closed its window over what was lost
            self.probe(now)

    def restart(self) -> None:
        """Return everything in flight to the front of the queue. What comes twice from now on is no sign of
        loss until the peer has caught up (RFC 6582 §3.2 step 4)."""
        self.recovering = False
        self.recover = self.snd_max
        self.duplicate_acks = 0
        while self.inflight:
            record = self.inflight.pop()
            if record.fin:
                self.fin_sent = False
            if record.data:
                self.queue.appendleft(record.data)
                self.queued += len(record.data)
        self.snd_nxt = self.snd_una

    def probe(self, now: float) -> None:
        """The persist timer: one byte (or the FIN) beyond a closed window, or all that fits into a silly
        one. RFC 9293 §3.8.6.1, backed off like the RTO."""
        timers = self.timers
        timers[PERSIST] = NEVER
        if self.inflight or not self.waiting:
            return
        self.probes += 1
        self.timeouts += 1
        length = 1
        if self.queue:
            data = memoryview(self.queue[0])[: max(1, min(self.snd_wnd, self.mss))]
            length = len(data)
            self.emit(self.snd_una, data, ACK, now)
        else:
            self.emit(self.snd_una, b"", FIN | ACK, now)
        self.snd_max = max(self.snd_max, self.snd_nxt + length)
        timers[PERSIST] = now + min(self.rtt.rto * (1 << min(self.probes, 16)), self.rtt.max_rto)
