"""One TCP connection: RFC 9293 §3.10.7 in its order, with the halves in sender.py and receiver.py.

Segments of the peer enter at `on_segment` (arriving.py), ours leave by `_emit` (leaving.py). Here is what
the owner may do with a connection, what time does to it, and how it ends.
"""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import TYPE_CHECKING

from tunsmith.errors import LocalError
from tunsmith.stack.tcp.leaving import ts_offset_of
from tunsmith.stack.tcp.policy import Options, Policy
from tunsmith.stack.tcp.readiness import Readiness, discard
from tunsmith.stack.tcp.receiver import Receiver
from tunsmith.stack.tcp.rtt import RttEstimator
from tunsmith.stack.tcp.scoreboard import Data
from tunsmith.stack.tcp.sender import Sender
from tunsmith.stack.tcp.state import (
    ON_FIN_SENT,
    OPENING,
    RECEIVING,
    TO_BE_RESET,
    State,
)
from tunsmith.stack.tcp.statistics import Statistics, statistics_of
from tunsmith.stack.tcp.timers import COUNT, DELAYED_ACK, LINGER, NEVER, PERSIST, RACK, RETRANSMIT
from tunsmith.wire.checksum import ones_sum
from tunsmith.wire.ip import IpFamily
from tunsmith.wire.seq import widen
from tunsmith.wire.tcp import (
    ACK,
    HEADER_LENGTH,
    RST,
    SYN,
    TIMESTAMP_LENGTH,
)

if TYPE_CHECKING:
    from tunsmith.stack.events import ConnectionHandler
    from tunsmith.stack.stack import Stack

CLOSED = State.CLOSED
UNLIMITED = 1 << 62
BLACK_HOLE_TIMEOUTS = 3
"""Timeouts in a row that make smaller segments worth a try, and as many again the smallest."""
BLACK_HOLE_MSS = 1024
ESTABLISHED = State.ESTABLISHED
FETCH = 8
"""Super-segments to fetch at a time. What is read in larger pieces is acknowledged less often, and kernels that
are woken less often do more at a time: with eight flows this is worth 1.7 times the speed of one by one."""


def _emit_nothing(seq: int, data: Data, flags: int, now: float) -> None:
    """The wire of a closed connection."""


class Connection(Readiness):
    """A connection, from SYN to CLOSED. `key` is that of arriving segments (IpFamily.key order).

    Owners use: `send`, `room`, `read`, `shutdown`, `shutdown_read`, `close`, `abort` and the properties
    (readiness.py); everything else belongs to the stack. Methods that take `now` want the stack's clock, in seconds."""

    __slots__ = ()

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
        self.sender = Sender(iss, config, rtt, self.timers, self._emit)
        self.receiver = Receiver(irs, config.receive_buffer, handler.on_data)
        self.timestamps = config.timestamps
        self.ts_recent = 0
        self.ts_offset = ts_offset_of(iss)
        self.snd_scale = self.rcv_scale = 0
        self.syn_at = NEVER
        """When our SYN was sent, if once."""
        self.peer_mss = 536
        self.ecn = self.policy = self.tuning = None
        self.tune_at = NEVER
        self.active = self.fin_seen = self.owner_closed = self.want_write = self.ack_queued = False
        self._reverse = family.swap(key)
        self._address_sum = ones_sum(key[:-4])
        self._text_length = -1

    # --- what owners do ---

    def statistics(self) -> Statistics:
        """What has been measured so far. Only once the handshake has told the MSS (`connected`)."""
        return statistics_of(self.sender)

    def send(self, data: Data, now: float, *, end: bool = False, more: bool = False) -> int:
        """Queue `data` and send what the windows allow. Returns the bytes taken, 0 when the buffer is full;
        `on_writable` follows then. `end`: if all is taken nothing will follow, as after `shutdown`, and the
        FIN travels with the last byte. `more`: more is to come, so what is over whole segments waits for it.
        `data` is kept, not copied. Raises LocalError EPIPE after `shutdown`, and the connection's error once it
        is closed."""
        sender = self.sender
        if sender.fin_queued or self.state is CLOSED:
            raise LocalError(self.error or errno.EPIPE, "send on a connection that is closed for sending")
        length = len(data)
        if not length:
            if end:
                self.shutdown(now)
            return 0
        if more or sender.corked:
            self.cork(more or (self.policy is not None and self.policy.options.cork))
        space = sender.limit - sender.queued - sender.snd_nxt + sender.snd_una
        if length > space:
            self.want_write = True
            if space <= 0:
                return 0
            length = space
            data = data[:space]
        elif end:
            self._end()
        if self.state in OPENING:
            sender.enqueue(data)
            return length
        sender.push(data, length, now)
        if self.timers[RETRANSMIT] < self.scheduled or sender.queue or sender.troubled:
            self._schedule()
        return length

    @property
    def options(self) -> Options:
        """How this connection behaves: every value as it is in force."""
        config, policy = self.stack.config, self.policy
        options = Options() if policy is None else policy.options
        return replace(
            options,
            receive_buffer=self.receiver.limit,
            send_buffer=self.sender.limit,
            nodelay=config.no_delay if options.nodelay is None else options.nodelay,
            fin_wait_2=config.fin_wait_2 if options.fin_wait_2 is None else options.fin_wait_2,
            path_mtu_discovery=self.discovers_path_mtu,
        )

    def set_options(self, options: Options, now: float) -> None:
        """Behave so from now on."""
        if self.policy is None:
            self.policy = Policy(now, self.timers[LINGER])
        self._text_length = -1
        if self.state is not CLOSED:
            self.policy.apply(self, options, now)
            if self.connected:
                self._settle(now)
            else:
                self._schedule()

    def get(self, name: str) -> object:
        """One option by name. Raises LocalError ENOPROTOOPT where there is none."""
        options = self.options
        if name not in Options.__slots__:
            raise LocalError(errno.ENOPROTOOPT, f"there is no option {name!r}")
        return getattr(options, name)

    def set(self, name: str, value: object, now: float) -> None:
        """Change one option by name. Raises LocalError: ENOPROTOOPT where there is none, EINVAL for a value that
        makes no sense."""
        self.get(name)
        before = Options() if self.policy is None else self.policy.options
        try:
            options = replace(before, **{name: value})  # type: ignore[arg-type]
        except (AttributeError, TypeError):
            raise LocalError(errno.EINVAL, f"option {name} cannot be {value!r}") from None
        self.set_options(options, now)

    def _end(self) -> None:
        """A FIN goes behind what is queued, RFC 9293 §3.10.4; while opening it waits."""
        self.sender.fin_queued = True
        if self.state is ESTABLISHED or self.state is State.CLOSE_WAIT:
            self.state = ON_FIN_SENT[self.state]

    def room(self) -> int:
        """How many bytes to fetch for the next `send`, which takes them all: some super-segments' worth. 0 while the
        buffer has no room for that; `on_writable` follows then."""
        sender = self.sender
        most = sender.super_segment * FETCH
        if most > sender.limit >> 2:  # where `on_writable` comes
            most = sender.limit >> 2
        if sender.limit - sender.queued - sender.snd_nxt + sender.snd_una >= most:
            return most
        self.want_write = True
        return 0

    def read(self, most: int, now: float, *, peek: bool = False) -> bytes:
        """Up to `most` bytes of text; empty when there are none (see `at_end`). `peek`: they stay. Tells the peer
        when the window has opened enough. Raises the connection's error once it has failed and all was read."""
        data = self.receiver.read(most, peek)
        if not data and self.error and most > 0:
            raise LocalError(self.error, "read from a connection that has failed")
        if data and not peek and self.receiver.window_is_worth_telling() and self.state in RECEIVING:
            self.send_ack(now)
        return data

    def shutdown(self, now: float) -> None:
        """No more will be sent: FIN after what is queued. RFC 9293 §3.10.4. Idempotent."""
        if self.sender.fin_queued or self.state is CLOSED:
            return
        self._end()
        if self.state not in OPENING:
            self.sender.output(now)
        self._schedule()

    def shutdown_read(self, now: float) -> None:
        """No more will be read: what is unread, and what still comes, is acknowledged and thrown away.
        Idempotent."""
        self.read(self.receiver.ready_bytes, now)
        self.receiver.deliver = discard

    def hand_over(self, handler: ConnectionHandler, now: float) -> None:
        """Another owner, who is told what has happened so far: that it is established, text, FIN."""
        self.handler = handler
        if not self.read_closed:
            self.receiver.deliver = handler.on_data
        handler.on_established(self)
        ready = self.receiver.ready
        while ready and self.state is not CLOSED:
            data = memoryview(ready[0])
            taken = handler.on_data(self, data)
            self.read(taken, now)
            if taken < len(data):
                break
        if self.fin_seen and self.state is not CLOSED:
            handler.on_fin(self)

    def close(self, now: float) -> None:
        """The owner is done with both halves. Unread text, now or later, is answered with RST
        (RFC 9293 §3.10.4, RFC 2525 §2.17); otherwise an orderly close. `on_closed` follows, maybe at once."""
        if self.state is CLOSED:
            return
        self.owner_closed = True
        policy = self.policy
        if policy is not None and policy.options.linger == 0:
            self._abort(errno.ECONNABORTED, now)
            return
        if self.receiver.ready or self.receiver.islands:
            self._abort(errno.ECONNABORTED, now)
            return
        if self.state is State.SYN_SENT:
            self._finish(errno.ECONNABORTED)
            return
        self.shutdown(now)
        if self.state is State.FIN_WAIT_2:
            self._await_fin(now)
        if policy is not None:
            policy.on_close(self, now)
            self._schedule()

    def abort(self, now: float) -> None:
        """RST, and gone, without `on_closed`. RFC 9293 §3.10.5."""
        self._abort(errno.ECONNABORTED, now, tell=False)

    def _abort(self, error: int, now: float, *, tell: bool = True) -> None:
        if self.state in TO_BE_RESET:
            self._emit(self.sender.acceptable(), b"", RST | ACK, now)
        self._finish(error, tell)

    # --- time ---

    def on_timeout(self, now: float) -> None:
        """Run the timers that are due."""
        timers = self.timers
        if timers[LINGER] <= now:
            if self.policy is None:
                self._finish(0)
            else:
                self.policy.on_timeout(self, now)
        if timers[DELAYED_ACK] <= now:
            self.send_ack(now)
        if timers[PERSIST] <= now:
            self._on_persist_timeout(now)
        if timers[RACK] <= now:
            self.sender.trouble.on_timer(now)
        if timers[RETRANSMIT] <= now:
            self._on_retransmit_timeout(now)

    def _on_persist_timeout(self, now: float) -> None:
        sender, retries = self.sender, self.stack.config.retries
        if self.policy is not None and self.policy.on_silence(self, now):
            retries = UNLIMITED
        # RFC 9293 §3.8.6.1: a peer that answers is probed for ever, unless nobody waits for it any more.
        if sender.timeouts >= retries or (self.owner_closed and sender.probes >= retries):
            self._finish(errno.ETIMEDOUT)
            return
        sender.probe(now)

    def _on_retransmit_timeout(self, now: float) -> None:
        config = self.stack.config
        sender = self.sender
        opening = self.state in OPENING
        if self.state is State.SYN_RECEIVED:
            limit = config.synack_retries
        else:
            limit = config.syn_retries if opening else config.retries
        if self.policy is not None and self.policy.on_silence(self, now):
            limit = UNLIMITED
        if sender.timeouts >= limit:
            self._finish(errno.ETIMEDOUT)
        elif opening:
            sender.timeouts += 1
            sender.rtt.on_timeout()
            self.send_syn(SYN if self.state is State.SYN_SENT else SYN | ACK, now)
        else:
            if sender.timeouts >= BLACK_HOLE_TIMEOUTS:
                self._suspect_black_hole()
            sender.on_retransmit_timeout(now)

    def _suspect_black_hole(self) -> None:
        """Full segments vanish and nobody says why: perhaps they are too big for a path whose routers must not tell.
        Try smaller ones, RFC 4821 §7.7, in two steps (Linux tcp_mtu_probing 1)."""
        sender, family = self.sender, self.family
        least = family.minimum_mtu - family.header_length - HEADER_LENGTH
        mss = max(BLACK_HOLE_MSS, least) if sender.timeouts < 2 * BLACK_HOLE_TIMEOUTS else least
        longest = max((record.end - record.start for record in sender.inflight), default=0)
        if self.discovers_path_mtu and min(sender.mss, longest) > mss:
            self.stack.drops["path_mtu_black_hole"] += 1
            self.set_mss(mss)
            sender.cc.on_mss(sender.mss)

    def on_icmp_error(self, code: int, seq32: int, mtu: int, now: float) -> None:
        """An ICMP error quotes a segment of ours. Ignored unless it quotes something in flight
        (RFC 5927 §4.1). `mtu` > 0: the path is narrower. `code`: errno, fatal only while opening (§5.2)."""
        sender = self.sender
        if not sender.snd_una <= widen(seq32, sender.snd_una) < sender.snd_max:
            self.stack.drops["icmp_quote_outside_window"] += 1
            return
        opening = self.state in OPENING
        if mtu:
            if opening or not self.discovers_path_mtu:
                return  # a SYN is too big for no path
            mss = max(mtu, self.family.minimum_mtu if self.family.version == 6 else 68)
            mss -= self.family.header_length + HEADER_LENGTH
            if mss - (TIMESTAMP_LENGTH if self.timestamps else 0) < sender.mss:
                self.set_mss(mss)
                sender.cc.on_mss(sender.mss)
                sender.trouble.send_all_again(now)
                self._schedule()
        elif opening:
            self._finish(code)

    # --- what a policy has done ---

    def cork(self, corked: bool) -> None:
        """Whether only whole segments are to be sent."""
        options = self.options
        self.sender.corked = corked
        self.sender.no_delay = bool(options.nodelay) and not corked

    def send_question(self, now: float) -> None:
        """A keepalive, RFC 9293 §3.8.4: nothing, in front of what the peer expects."""
        self._emit(self.sender.snd_una - 1, b"", ACK, now)

    def end(self, error: int, now: float, *, reset: bool = False) -> None:
        """Over; with RST the peer hears of it."""
        if reset:
            self._abort(error, now)
        else:
            self._finish(error)

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
        self.receiver.islands = None
        self.ecn = None
        self.sender.emit = (
            _emit_nothing  # these were cycles, as the handler is mostly: freed now, not when gc gets to it
        )
        self.sender.recovery = None
        self.receiver.deliver = discard
        self.stack.forget(self)
        if self.tuning is not None:
            self.stack.receive_grown -= self.tuning.grown
            self.stack.send_grown -= self.tuning.send_grown
        handler, self.handler = self.handler, self.stack.queue
        if tell:
            handler.on_closed(self, error)
