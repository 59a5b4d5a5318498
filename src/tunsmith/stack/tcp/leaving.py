"""Segments that leave a connection: one pack for all headers of a frame.

The frame says what is still to be done: the checksum field holds the pseudo header's sum (NEEDS_CSUM), and
text longer than the MSS is a super-segment. `Connection` is built on this in steps: handshake.py and arriving.py add
what happens to segments from the peer, connection.py what owners and time do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunsmith.stack.tcp.scoreboard import Data
from tunsmith.stack.tcp.state import State
from tunsmith.stack.tcp.timers import DELAYED_ACK, NEVER, RETRANSMIT
from tunsmith.wire.tcp import (
    ACK,
    CHECKSUM_OFFSET,
    CWR,
    ECE,
    HEADER_LENGTH,
    SYN,
    TIMESTAMP_LENGTH,
    TIMESTAMP_WORD,
    TcpOptions,
    build_options,
)
from tunsmith.wire.vnet import NEEDS_CSUM, VNET

if TYPE_CHECKING:
    from tunsmith.stack.events import ConnectionHandler
    from tunsmith.stack.stack import Stack
    from tunsmith.stack.tcp.ecn import Ecn
    from tunsmith.stack.tcp.policy import Policy
    from tunsmith.stack.tcp.receiver import Receiver
    from tunsmith.stack.tcp.sender import Sender
    from tunsmith.stack.tcp.tuning import Tuning
    from tunsmith.wire.ip import IpFamily

LARGEST_PACKET = 65535


def ts_offset_of(iss: int) -> int:
    """Where the timestamp clock of a connection begins, which nobody can guess either (RFC 7323 §5.4)."""
    return iss & 0x7FFFFFFF


class Leaving:
    """What a connection is, and how its segments are built and sent."""

    __slots__ = (
        "__weakref__",
        "_address_sum",
        "_front",
        "_pseudo_sum",
        "_reverse",
        "_text_length",
        "ack_queued",
        "active",
        "ecn",
        "error",
        "family",
        "fin_seen",
        "handler",
        "iss",
        "key",
        "owner_closed",
        "peer_mss",
        "policy",
        "rcv_scale",
        "receiver",
        "scaling",
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
        "tune_at",
        "tuning",
        "want_write",
    )

    stack: Stack
    family: IpFamily
    key: bytes
    """Ends in the order of arriving segments (IpFamily.key)."""
    handler: ConnectionHandler
    state: State
    active: bool
    """Whether we have asked for the connection: an active open."""
    error: int
    iss: int
    timers: list[float]
    scheduled: float
    sender: Sender
    receiver: Receiver
    timestamps: bool
    ts_recent: int
    ts_offset: int
    tune_at: float
    """The stream position where the receive buffer is looked at next."""
    tuning: Tuning | None
    scaling: bool
    """Whether windows are scaled: known once we have sent a SYN, final once both have."""
    snd_scale: int
    rcv_scale: int
    peer_mss: int
    ecn: Ecn | None
    """There if both sides have agreed on ECN."""
    policy: Policy | None
    """Options of the owner; None: all as usual."""
    syn_at: float
    """When our SYN was sent, if once."""
    fin_seen: bool
    owner_closed: bool
    want_write: bool
    ack_queued: bool
    _reverse: bytes
    """Ends in the order of leaving segments."""
    _address_sum: int
    _text_length: int
    """Of the text of the last segment; -1: of none that tells something about the next."""
    _front: bytes
    """What was in front of its sequence number, and always is with text of that length."""
    _pseudo_sum: int
    """Of its pseudo header."""

    def own_scale(self) -> int:
        """The window scale that lets 16 bits tell the whole receive buffer, however far it grows."""
        largest = self.receiver.limit
        if self.grows:
            largest = max(largest, self.stack.largest_receive_buffer)
        return min(max(0, (largest - 1).bit_length() - 16), 14)

    @property
    def grows(self) -> bool:
        """Whether the receive buffer may grow: unless its size was asked for."""
        return self.policy is None or self.policy.options.receive_buffer is None

    def own_mss(self) -> int:
        """The largest segment we take: what our link carries, unless the owner wants less."""
        mss = self.stack.mss(self.family, self.key)
        return mss if self.policy is None else min(mss, self.policy.options.mss)

    @property
    def discovers_path_mtu(self) -> bool:
        """Whether the MTU of the path is looked for; no segment may be cut on its way then."""
        option = None if self.policy is None else self.policy.options.path_mtu_discovery
        return self.stack.config.path_mtu_discovery if option is None else option

    def set_mss(self, mss: int) -> None:
        """Send segments of `mss` with options, from now on. RFC 9293 §3.7.1: options come out of it."""
        sender = self.sender
        option_length = TIMESTAMP_LENGTH if self.timestamps else 0
        sender.mss = max(mss - option_length, 32)
        overhead = self.family.header_length + HEADER_LENGTH + option_length
        sender.super_segment = (LARGEST_PACKET - overhead) // sender.mss * sender.mss
        self.receiver.mss = sender.mss
        self._text_length = -1

    def send_syn(self, flags: int, now: float) -> None:
        """Send SYN or SYN-ACK with our options; arms the retransmission timer."""
        config = self.stack.config
        opening = flags == SYN
        if opening and self.sender.snd_max == self.iss:
            self.scaling = config.window_scaling
            self.rcv_scale = self.own_scale()
        options = TcpOptions(
            mss=self.own_mss(),
            window_scale=self.rcv_scale if self.scaling else None,
            sack_permitted=config.sack if opening else self.sender.sack_ok,
            timestamp=(self.ts_now(now), 0 if opening else self.ts_recent) if self.timestamps else None,
        )
        receiver = self.receiver
        window = min(receiver.window(), 65535)
        receiver.rcv_adv = receiver.rcv_nxt + window
        ack = 0 if opening else receiver.rcv_nxt
        if opening and config.ecn == "request" and self.sender.snd_max == self.iss:
            flags |= ECE | CWR  # RFC 3168 §6.1.1; not again, as there are paths that drop it
        elif self.ecn is not None:
            flags |= ECE
        self._emit_bare(self.iss, ack, flags, window, build_options(options))
        sender = self.sender
        self.syn_at = now if sender.snd_max == self.iss else NEVER
        sender.snd_nxt = sender.snd_max = self.iss + 1
        self.timers[RETRANSMIT] = now + sender.rtt.rto
        self._schedule()

    def assume_synack(self) -> None:
        """A SYN-ACK was sent on behalf of this connection, before it was there."""
        receiver = self.receiver
        receiver.rcv_adv = receiver.rcv_nxt + min(receiver.window(), 65535)
        self.sender.snd_nxt = self.sender.snd_max = self.iss + 1

    def ts_now(self, now: float) -> int:
        """Our timestamp clock: milliseconds (RFC 7323 §5.4), offset per connection."""
        return (int(now * 1000) + self.ts_offset) & 0xFFFFFFFF

    def send_ack(self, now: float) -> None:
        """A pure ACK of everything received, with SACK blocks where there is a hole or something came twice."""
        receiver = self.receiver
        if receiver.rcv_nxt >= self.tune_at:
            self._tune(now)
        sender = self.sender
        seq = sender.snd_nxt if sender.snd_nxt == sender.snd_max else sender.acceptable()
        if not (sender.sack_ok and (receiver.islands or receiver.duplicate)):
            self._emit(seq, b"", ACK if self.ecn is None else ACK | self.ecn.echo, now)
            return
        blocks = tuple(
            (start & 0xFFFFFFFF, end & 0xFFFFFFFF)
            for start, end in receiver.sack_blocks(3 if self.timestamps else 4, self.stack.config.dsack)
        )
        stamp = (self.ts_now(now), self.ts_recent) if self.timestamps else None
        options = build_options(TcpOptions(timestamp=stamp, sack=blocks))
        window = min(receiver.window() >> self.rcv_scale, 65535)
        flags = ACK if self.ecn is None else ACK | self.ecn.echo
        self._emit_bare(seq, receiver.rcv_nxt, flags, window, options)
        self._acknowledged()

    def _tune(self, now: float) -> None:
        raise NotImplementedError

    def _acknowledged(self) -> None:
        self.receiver.unacked = 0
        self.timers[DELAYED_ACK] = NEVER

    def _emit(self, seq: int, data: Data, flags: int, now: float) -> None:
        """Send one segment, a super-segment when `data` is longer than the MSS. Carries the ACK."""
        if len(data) != self._text_length:
            self._prepare(len(data))
        receiver = self.receiver
        window = receiver.window() >> self.rcv_scale
        if window > 65535:
            window = 65535
        ack = receiver.rcv_nxt & 0xFFFFFFFF if flags & ACK else 0
        if self.timestamps:
            headers = self.family.tcp_frame_with_timestamp.pack(
                self._front,
                seq & 0xFFFFFFFF,
                ack,
                0x8000 | flags,
                window,
                self._pseudo_sum,
                0,
                TIMESTAMP_WORD,
                (int(now * 1000.0) + self.ts_offset) & 0xFFFFFFFF,
                self.ts_recent,
            )
        else:
            headers = self.family.tcp_frame.pack(
                self._front, seq & 0xFFFFFFFF, ack, 0x5000 | flags, window, self._pseudo_sum, 0
            )
        receiver.unacked = 0
        self.timers[DELAYED_ACK] = NEVER
        self.stack.emit((headers, data) if data else (headers,))

    def _prepare(self, length: int) -> None:
        """Prepare the beginning of segments with `length` bytes of text. Requests and their answers, like the pieces
        of a long transfer, often come in one length again and again."""
        family, mss = self.family, self.sender.mss
        header = HEADER_LENGTH + (TIMESTAMP_LENGTH if self.timestamps else 0)
        vnet = family.tcp_vnet
        if length > mss:
            vnet = VNET.pack(
                NEEDS_CSUM,
                family.gso_tcp,
                family.header_length + header,
                mss,
                family.header_length,
                CHECKSUM_OFFSET,
            )
        self._text_length = length if self.policy is None else -1
        length += header
        self._front = vnet + self._head(length) + self._reverse
        self._pseudo_sum = (self._address_sum + 6 + length) % 0xFFFF

    def _head(self, length: int) -> bytes:
        if self.policy is None:
            return self.family.head(length, self._address_sum)
        return self.policy.head(self, length, self._address_sum)

    def _emit_bare(self, seq: int, ack: int, flags: int, window: int, options: bytes) -> None:
        """Send a segment without text, with the given options."""
        length = HEADER_LENGTH + len(options)
        headers = self.family.tcp_frame.pack(
            self.family.tcp_vnet + self._head(length) + self._reverse,
            seq & 0xFFFFFFFF,
            ack & 0xFFFFFFFF,
            length << 10 | flags,
            window,
            (self._address_sum + 6 + length) % 0xFFFF,
            0,
        )
        self.stack.emit((headers + options,))

    def emit_segment(self, seq: int, data: Data, flags: int, now: float) -> None:
        """As the sender's `emit`, for who stands in between."""
        self._emit(seq, data, flags, now)

    def on_timeout(self, now: float) -> None:
        """Run the timers that are due."""
        raise NotImplementedError

    def _schedule(self) -> None:
        due = min(self.timers)
        if due < self.scheduled:
            self.stack.deadlines.schedule(self, due)
