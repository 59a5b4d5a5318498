"""How a connection opens: the peer's SYN options, SYN-SENT (RFC 9293 §3.10.7.3), and the step to ESTABLISHED."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, cast

from tunsmith.stack.tcp.ecn import Ecn
from tunsmith.stack.tcp.leaving import Leaving, ts_offset_of
from tunsmith.stack.tcp.policy import LARGEST_WINDOW
from tunsmith.stack.tcp.state import State
from tunsmith.stack.tcp.timers import NEVER, RETRANSMIT
from tunsmith.wire.tcp import ACK, CWR, ECE, HEADER_LENGTH, RST, SYN, TcpOptions

if TYPE_CHECKING:
    from tunsmith.stack.tcp.connection import Connection

RTO_AFTER_LOST_SYN = 3.0
"""RFC 6298 (5.7)."""


class Handshake(Leaving):
    """The opening of a connection. Half a class: it is only ever a Connection, which says how one ends."""

    __slots__ = ()

    def _finish(self, error: int, tell: bool = True) -> None:
        raise NotImplementedError

    def negotiate(self, options: TcpOptions) -> None:
        """Take the peer's SYN options. RFC 9293 §3.7.1, RFC 7323 §2, §3."""
        config = self.stack.config
        self.timestamps = config.timestamps and options.timestamp is not None
        if options.timestamp is not None:
            self.ts_recent = options.timestamp[0]
        if options.ecn:
            self.ecn = Ecn(cast("Connection", self))
        sender = self.sender
        sender.sack_ok = config.sack and options.sack_permitted
        sender.rtt.probing = config.tlp and sender.sack_ok
        self.scaling = config.window_scaling and options.window_scale is not None
        if options.window_scale is None or not self.scaling:
            self.rcv_scale = 0
            self.receiver.limit = min(self.receiver.limit, LARGEST_WINDOW)  # no more can be told
        else:
            self.snd_scale = options.window_scale
            if self.state is not State.SYN_SENT:  # there it has been told
                self.rcv_scale = self.own_scale()
        self.peer_mss = options.mss or (536 if self.family.version == 4 else 1220)
        if self.scaling and self.stack.largest_receive_buffer > config.receive_buffer:
            self.tune_at = self.receiver.rcv_nxt + (config.receive_buffer >> 2)
        mss = min(self.peer_mss, self.own_mss())
        if self.policy is not None and self.family.version == 6 and not self.discovers_path_mtu:
            mss = min(mss, self.family.minimum_mtu - self.family.header_length - HEADER_LENGTH)  # RFC 8200 §5
        self.set_mss(mss)

    def start_congestion(self) -> None:
        """Begin with the initial window, RFC 6928, once the MSS is known."""
        sender, stack = self.sender, self.stack
        sender.cc = stack.congestion(sender.mss, stack.config.initial_window * sender.mss)

    def _establish(self, ack: int, seq: int, window: int, now: float) -> None:
        sender = self.sender
        sender.snd_una = ack
        if window >= 0:
            sender.snd_wnd = sender.max_wnd = window
            sender.snd_wl1, sender.snd_wl2 = seq, ack
        if self.syn_at != NEVER:
            sender.rtt.on_sample(now - self.syn_at)
        elif sender.timeouts:
            sender.rtt.restart(RTO_AFTER_LOST_SYN)
            sender.cc.cwnd = sender.mss  # RFC 5681 §3.1
        sender.timeouts = 0
        self.timers[RETRANSMIT] = NEVER
        self.state = State.ESTABLISHED
        if sender.fin_queued:
            self.state = State.FIN_WAIT_1
        self.handler.on_established(cast("Connection", self))

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
        agrees = ECE if acceptable else ECE | CWR  # RFC 3168 §6.1.1
        options.ecn = self.stack.config.ecn == "request" and flags & (ECE | CWR) == agrees
        self.negotiate(options)
        self.start_congestion()
        unscaled = window  # RFC 7323 §2.2: the window of a SYN is never scaled, and snd_scale was 0 on entry
        if acceptable:
            self._establish(ack, seq32, unscaled, now)
            if self.state is State.CLOSED:
                return
            self.send_ack(now)
            self.sender.output(now)
            self._schedule()
        else:  # simultaneous open
            self.state = State.SYN_RECEIVED
            self.sender.snd_wnd = self.sender.max_wnd = unscaled
            self.send_syn(SYN | ACK, now)

    def _answers_cookie(self, ack: int, now: float) -> bool:
        """Whether the peer had a cookie for its SYN, before a copy of that found room in the backlog. The connection
        goes on from the cookie then."""
        stack, irs, cookie = self.stack, (self.receiver.rcv_nxt - 1) & 0xFFFFFFFF, (ack - 1) & 0xFFFFFFFF
        if not stack.listeners or stack.cookies.check(self.key, irs, cookie, now) is None:
            return False
        self.iss = cookie
        self.ts_offset = ts_offset_of(cookie)
        self.sender.rebase(cookie + 1)
        return True
