"""What a sender does from the first sign of loss until all is well again.

Without such a sign a sender is not `troubled`, and nothing here runs. Signs are a SACK block, a duplicate ACK
and a timer. `on_ack` takes over then:

    marks      scoreboard.py: what the ACK covers and the SACK blocks report
    detection  RACK (rack.py), or RFC 6675's counting of SACKs, or of duplicate ACKs (duplicates.py)
    reaction   a loss begins a recovery: cwnd by PRR (prr.py) until what was sent before it is acknowledged
    regret     unless it turns out that nothing was lost: then all is as before (reduction.py)
    sending    lost records first, then new data, while cwnd exceeds what is in the network (resending.py)

After a timeout all that is old is lost, and slow start begins (RFC 5681 §3.1); what was SACKed is sent again only
if the peer's ACKs then stop in front of it. Before the first timeout comes a tail loss probe (tail_probe.py).
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from tunsmith.stack.tcp.duplicates import Duplicates
from tunsmith.stack.tcp.prr import ProportionalRateReduction
from tunsmith.stack.tcp.rack import DUPLICATE_ACKS, TICK, Rack
from tunsmith.stack.tcp.reduction import NEW_SEGMENTS, Reduction, Step
from tunsmith.stack.tcp.resending import Resending
from tunsmith.stack.tcp.scoreboard import LOST, RETRANSMITTED, SACKED, Blocks, Sent
from tunsmith.stack.tcp.tail_probe import TailProbe
from tunsmith.stack.tcp.timers import NEVER, RACK, RETRANSMIT

if TYPE_CHECKING:
    from tunsmith.stack.tcp.sender import Sender


class Phase(Enum):
    """Of a troubled sender."""

    OPEN = "open"
    """Nothing is known to be lost: reordering, or a tail loss probe on its way."""
    REDUCTION = "reduction"
    """Nothing is lost, but a router has marked packets: the window shrinks as in a recovery."""
    RECOVERY = "recovery"
    """Fast recovery, RFC 6675 §5."""
    LOSS = "loss"
    """Slow start after a retransmission timeout."""


SHRINKING = (Phase.REDUCTION, Phase.RECOVERY)


class Recovery:
    """The troubles of one Sender, from the first on."""

    __slots__ = (
        "_duplicates",
        "_probe",
        "_rack",
        "_reduction",
        "_resending",
        "board",
        "phase",
        "point",
        "sender",
    )

    def __init__(self, sender: Sender) -> None:
        self.sender = sender
        self._resending = Resending(sender)
        self.board = self._resending.board
        self.phase = Phase.OPEN
        self.point = sender.snd_una - 1
        """What was sent when the last recovery began: it ends when that is acknowledged (RecoveryPoint)."""
        self._rack = Rack() if sender.sack_ok and sender.config.rack else None
        self._duplicates = Duplicates(self.board)
        self._probe = TailProbe()
        self._reduction: Reduction | None = None
        """What this recovery has done to the window, while that may yet turn out to have been for nothing."""

    @property
    def pipe(self) -> int:
        """Bytes in the network."""
        return self._resending.pipe

    # --- ACKs ---

    def on_ack(self, ack: int, blocks: Blocks, duplicate: bool, echoed_rtt: float | None, now: float) -> None:
        """An ACK with SACK blocks, one that repeats the last, or any while the sender is troubled. `duplicate`: it
        is nothing but a repetition (RFC 5681 §2). `echoed_rtt`: since the segment left whose timestamp it echoes."""
        sender, board = self.sender, self.board
        advance = ack - sender.snd_una
        if not (advance or blocks or sender.troubled or (duplicate and not sender.sack_ok)):
            return
        self.begin()
        cc = sender.cc
        limited = self.pipe + sender.mss > cc.cwnd
        before, phase = board.lost, self.phase
        delivered, d_sack = board.read(ack, blocks, sender.snd_nxt)
        sender.snd_una = ack
        if ack > sender.snd_nxt:
            sender.skip_unsent(ack)
        if advance:
            sender.timeouts = sender.probes = 0
            if board.reneged:
                board.forget()
                self._start_again(now)
                return
        self._measure(delivered, echoed_rtt if advance else None, now)
        arrived = sum(map(len, delivered))
        if not sender.sack_ok:
            counts = duplicate and phase is not Phase.LOSS
            partial = phase is Phase.RECOVERY and ack < self.point
            arrived = self._duplicates.on_ack(advance, sender.snd_nxt - ack, sender.mss, counts, partial)
        if self._probe.has_repaired(ack, d_sack, duplicate and not blocks):
            cc.on_congestion(sender.snd_nxt - ack, now)
            cc.cwnd = min(cc.cwnd, cc.ssthresh)
        if d_sack is not None and self._rack is not None:
            self._rack.on_duplicate(ack, sender.snd_nxt)
        reduction = self._reduction
        if reduction is not None:
            repeated = duplicate and not sender.sack_ok
            if reduction.is_refuted(delivered, advance, repeated, echoed_rtt, self.point, now):
                self._undo(reduction)
        if self.phase is not Phase.OPEN and ack >= self.point:
            self._end()
        partial = bool(advance) and self.phase is Phase.RECOVERY and not sender.sack_ok
        if partial or self._is_third_duplicate:
            board.lose_first(sender.mss)
        self.detect(now, arrived)
        if self.phase in SHRINKING:
            bad_news = sender.sack_ok and board.lost > before
            cc.cwnd = self._resending.prr.window(
                arrived, self.pipe, cc.ssthresh, sender.mss, bool(advance) and not bad_news
            )
            if partial:
                cc.cwnd = max(cc.cwnd, self.pipe + sender.mss)  # RFC 6582 §3.2 step 3
        elif advance and limited and phase not in SHRINKING:
            if phase is Phase.OPEN:
                arrived = advance
            elif not sender.sack_ok:
                arrived = min(arrived, sender.mss)  # RFC 3465 §2.3: it covers what had arrived long before
            rtt = sender.rtt.srtt or 0.0
            cc.on_ack(arrived, rtt, rtt, now)
        self._leave(advance, now)

    def begin(self) -> None:
        """The sender is troubled from now on: RETRANSMIT is the retransmission timeout proper."""
        sender = self.sender
        if not sender.troubled:
            sender.troubled = True
            sender.timers[RETRANSMIT] += sender.rtt.rto - sender.rtt.wait
            self.board.highest = max(self.board.highest, sender.snd_una)

    def _leave(self, advance: int, now: float) -> None:
        """Arm the timer after an ACK; return to the quiet path if nothing keeps us."""
        sender, rtt, board = self.sender, self.sender.rtt, self.board
        sender.away = board.sacked + board.lost
        wait = rtt.rto
        if (
            self.phase is Phase.OPEN
            and not sender.away
            and self._probe.end is None
            and sender.snd_una >= self.point
        ):
            sender.troubled = False
            sender.timers[RACK] = NEVER
            wait = rtt.wait
            if not advance:
                sender.timers[RETRANSMIT] -= rtt.rto - wait
        if not sender.inflight:
            sender.timers[RETRANSMIT] = NEVER
            sender.quiet_since = now
        elif advance:
            sender.timers[RETRANSMIT] = now + wait  # RFC 6298 (5.3)

    def _measure(self, delivered: list[Sent], echoed_rtt: float | None, now: float) -> None:
        """RTT samples, with Karn's rule (RFC 6298 §3): which transmission of a record that was sent twice is
        answered, only a timestamp can tell."""
        if not delivered:
            return
        rtt = self.sender.rtt
        again = [record for record in delivered if record.marks & RETRANSMITTED]
        if not again:
            rtt.on_sample(now - delivered[-1].sent_at)
        elif echoed_rtt is not None and echoed_rtt <= now - again[-1].sent_at + 2 * TICK:
            rtt.on_sample(echoed_rtt)
        if self._rack is not None:
            self.board.highest = self._rack.on_delivered(delivered, self.board.highest, echoed_rtt, rtt, now)

    # --- losses ---

    def detect(self, now: float, arrived: int = 0) -> None:
        """Find what is lost; the first loss begins a recovery. `arrived`: bytes that the ACK has reported."""
        board, sender = self.board, self.sender
        rack = self._rack
        if rack is not None:
            impatient = (
                self.phase is not Phase.OPEN
                or board.pieces >= DUPLICATE_ACKS
                or board.sacked >= DUPLICATE_ACKS * sender.mss
            )
            window = rack.window(sender.rtt, impatient)
            lost, wait = rack.losses(board.records, window, now)
            for record in lost:
                board.lose(record)
            sender.timers[RACK] = now + wait if wait else NEVER
        elif sender.sack_ok:
            board.lose_by_count(DUPLICATE_ACKS, sender.mss)
        sender.away = board.sacked + board.lost
        if board.lost and self._may_reduce:
            self._reduce(Phase.RECOVERY, now, arrived)
        elif board.lost and self.phase is Phase.REDUCTION:
            self.phase = Phase.RECOVERY

    @property
    def _may_reduce(self) -> bool:
        """Whether a loss would be the first in its round trip. Without SACK, duplicate ACKs may still be those of what
        was sent before the last recovery, until something behind it is acknowledged (RFC 6582 §3.2 step 2)."""
        beyond = self.sender.snd_una - self.point
        return self.phase is Phase.OPEN and (beyond > 0 or (not beyond and self.sender.sack_ok))

    @property
    def _is_third_duplicate(self) -> bool:
        """RFC 5681 §3.2; not of what was sent before the last recovery, RFC 6582 §3.2 step 2."""
        return self._duplicates.tell_of_a_loss and (self.phase is Phase.REDUCTION or self._may_reduce)

    def _reduce(self, phase: Phase, now: float, arrived: int = 0) -> None:
        """Begin a recovery, RFC 6675 §5 step 4, or another `phase` that shrinks the window. `arrived`: bytes that
        the ACK has reported which made it begin."""
        sender, cc = self.sender, self.sender.cc
        flight = sender.snd_nxt - sender.snd_una
        self._remember(self.board.records, now, forward=False)
        self.phase = phase
        self.point = sender.snd_nxt
        self._probe.end = None
        cc.on_congestion(min(flight, cc.cwnd), now)  # without what limited transmit sent, RFC 5681 §3.2
        self._resending.prr = ProportionalRateReduction(flight - self.board.sacked + arrived)
        sender.timers[RETRANSMIT] = now + sender.rtt.rto

    def on_mark(self, now: float) -> bool:
        """The peer echoes a congestion mark: the window is reduced as by a loss, once a round trip (RFC 3168
        §6.1.2). Returns whether it is."""
        if not self._may_reduce or not self.sender.inflight:
            return False
        self.begin()
        self._reduce(Phase.REDUCTION, now)
        self._reduction = None
        return True

    def _end(self) -> None:
        """All that was sent before the recovery began is acknowledged."""
        if self.phase in SHRINKING:
            self.sender.cc.cwnd = self.sender.cc.ssthresh
        self.phase = Phase.OPEN
        self._reduction = None
        if self._rack is not None:
            self._rack.on_recovered()

    # --- and if nothing was lost ---

    def _remember(self, records: list[Sent], now: float, *, forward: bool) -> None:
        """Keep what it would take to undo what is done now. Where one of `records`, which this is about, has been
        sent again already, an ACK proves nothing. `forward`: F-RTO may be tried."""
        again = any(record.marks & RETRANSMITTED for record in records)
        self._reduction = None if again else Reduction(self.sender.cc, now, forward)

    def _undo(self, reduction: Reduction) -> None:
        """Nothing has happened, RFC 4015 §3.2."""
        cc = self.sender.cc
        cc.cwnd, cc.ssthresh = max(cc.cwnd, reduction.cwnd), reduction.ssthresh
        self.board.find()
        if self._rack is not None:
            self._rack.reordering_seen = True
        self.phase = Phase.OPEN
        self.point = self.sender.snd_una - 1
        self._reduction = None

    # --- timers ---

    def on_retransmit_timeout(self, now: float) -> None:
        """RFC 6298 (5.4)-(5.7), RFC 5681 §3.1."""
        sender = self.sender
        sender.timers[RETRANSMIT] = NEVER
        self.begin()
        sender.timeouts += 1
        sender.rtt.on_timeout()
        self._start_again(now)
        sender.output(now)
        if not self.pipe:  # the peer closed its window over what was lost
            sender.probe(now)

    def _start_again(self, now: float) -> None:
        """Slow start from the first unacknowledged byte. What was sent so lately that its ACK may yet come
        is not lost (RFC 8985 §6.3)."""
        sender, board, cc = self.sender, self.board, self.sender.cc
        if self.phase in SHRINKING:
            self._reduction = None
        elif (
            sender.timeouts <= 1
        ):  # else nothing was heard since the last, which still may have been for nothing
            forward = self.phase is Phase.OPEN and sender.timeouts == 1
            self._remember(board.records[:1], now, forward=forward)
            cc.on_timeout(sender.snd_nxt - sender.snd_una, now)
        self.phase = Phase.LOSS
        self.point = sender.snd_nxt
        self._probe.end = None
        if not sender.sack_ok:
            self._duplicates.forget()
        late = now if self._rack is None else now - self._rack.patience(sender.rtt)
        for record in board.records:
            if not record.marks & (SACKED | LOST) and (
                record.sent_at <= late or record.start == sender.snd_una
            ):
                board.lose(record)
        cc.cwnd = self.pipe + sender.mss
        sender.away = board.sacked + board.lost

    def send_all_again(self, now: float) -> None:
        """The path has become narrower: what is in flight did not fit, but that is no congestion."""
        self.begin()
        if not self.sender.sack_ok:
            self._duplicates.forget()
        self.board.lose_all()
        self.sender.away = self.board.sacked + self.board.lost
        self.point = self.sender.snd_nxt
        self._probe.end = None
        self._reduction = None
        self.sender.output(now)

    def expect_probe(self, now: float) -> None:
        """The probe timeout has passed since the last ACK: set the timers of the probe and of the retransmission."""
        sender = self.sender
        flight = sender.snd_nxt - sender.snd_una
        due = self._probe.due(sender.inflight[-1].sent_at, sender.rtt.wait, flight, sender.mss)
        self.begin()
        sender.timers[RACK] = min(due, sender.timers[RETRANSMIT])

    def on_timer(self, now: float) -> None:
        """RACK's reordering timer; or TLP's, when nothing is SACKed or lost."""
        sender = self.sender
        sender.timers[RACK] = NEVER
        if self.phase is Phase.OPEN and not sender.away and self._probe.end is None and sender.inflight:
            self._probe_tail(now)
            return
        self.detect(now)
        if self.phase in SHRINKING:
            cc = sender.cc
            cc.cwnd = self._resending.prr.window(0, self.pipe, cc.ssthresh, sender.mss, False)
        sender.output(now)

    def _probe_tail(self, now: float) -> None:
        """RFC 8985 §7.3: a new segment, even beyond cwnd, or the last one again."""
        sender = self.sender
        again = not sender.send_one(now)
        if again:
            self._resending.send_again(self.board.last(sender.mss), now)
        self._probe.left(sender.snd_nxt, again)
        sender.timers[RETRANSMIT] = now + sender.rtt.rto

    # --- sending ---

    def send(self, now: float) -> None:
        """What is lost, then what is new, as the windows allow; unless F-RTO wants to see first what becomes of new
        text (RFC 5682 §2.1 step 2 b)."""
        sender, reduction = self.sender, self._reduction
        if reduction is not None and reduction.step is Step.DUE:
            sent = sum([sender.send_one(now) for _ in range(NEW_SEGMENTS)])
            reduction.step = Step.OFF
            if sent:
                reduction.step = Step.AWAITED
                sender.cc.cwnd = self.pipe + sender.mss  # step 3 a: no more than three segments
        if reduction is None or reduction.step is not Step.AWAITED:
            self._resending.send(now)
