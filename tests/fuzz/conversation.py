"""Bytes as a conversation with a stack: segments that make some sense, calls of its owner, and time.

The peer's text is the known pattern of the packet scripts, so whatever is read must be that, in order, without
a hole; and what the stack sends must be its own. No timer may stay due.
"""

from __future__ import annotations

from tunsmith.errors import LocalError
from tunsmith.stack.config import StackConfig
from tunsmith.stack.events import Established, FlowRequested
from tunsmith.stack.stack import Stack
from tunsmith.stack.tcp.connection import Connection
from tunsmith.testing.script.statements import IcmpLine, Range, SegmentLine
from tunsmith.testing.script.wire import PORTS, Wire, text, word_of
from tunsmith.wire.icmp import IcmpError
from tunsmith.wire.ip import IPV4, IPV6
from tunsmith.wire.offload import segment
from tunsmith.wire.tcp import ACK, SYN
from tunsmith.wire.vnet import VNET_HDR_LEN

ERRORS = [word_of(error) for error in IcmpError]
LONGEST = 400
"""Steps of a conversation: more is another one."""


class Bytes:
    """The input, taken piece by piece; zeros behind its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, size: int = 1) -> int:
        piece = self._data[self._at : self._at + size]
        self._at += size
        return int.from_bytes(piece, "big")


class Conversation:
    """One stack, one peer."""

    def __init__(self, source: Bytes) -> None:
        self.source = source
        settings = source.take()
        config = StackConfig(
            offload=bool(settings & 1),
            timestamps=bool(settings & 2),
            sack=bool(settings & 4),
            window_scaling=bool(settings & 8),
            no_delay=bool(settings & 16),
            receive_buffer=(1 << 12) if settings & 32 else 1 << 18,
            send_buffer=1 << 16,
            isn=lambda _key, _now: 0xFFFFFF00,
            time_wait=1.0,
        )
        self.timestamps = config.timestamps
        self.wire = Wire(IPV6 if settings & 64 else IPV4, 0xFFFFF000, config.mtu)
        self.stack = Stack(config)
        self.now = 1000.0
        self.connection: Connection | None = None
        self.sent_to = self.read_at = 1
        self.base = 0
        """Where the peer's stream of this connection begins."""
        self.packets = 0

    def step(self) -> None:
        kind = self.source.take()
        if kind < 160:
            self._segment(kind)
        elif kind < 176:
            self._error()
        elif kind < 216:
            self._pass_time(kind)
        else:
            self._owner(kind)
        self._settle()

    # --- the peer ---

    def _segment(self, kind: int) -> None:
        source, connection = self.source, self.connection
        flags = source.take()
        near_seq = near_ack = 0
        if connection is not None:
            near_seq = connection.receiver.rcv_nxt - 0xFFFFF000
            near_ack = (connection.sender.snd_una, connection.sender.snd_max)[kind & 1] - connection.iss
        line = SegmentLine(
            flags=flags,
            seq=self._near_base(near_seq + self._offset()),
            length=0 if kind & 2 else source.take(2) % 3000,
            ack=near_ack + self._offset() if flags & ACK else None,
            window=Range(*[source.take(2)] * 2) if kind & 4 else None,
            ecn=(0, 2, 3)[kind % 3],
            mss=source.take(2) if kind & 8 else None,
            scale=source.take() % 16 if kind & 16 and flags & SYN else None,
            sack_permitted=bool(flags & SYN),
            stamp=(source.take(4), source.take(2)) if self.timestamps and not kind & 32 else None,
            sack=self._blocks(near_ack) if kind & 64 and not kind & 8 and not flags & SYN else (),
        )
        self._number()
        self._receive(self.wire.segment(line))

    def _receive(self, packet: bytes) -> None:
        self.packets += 1
        self.stack.receive(packet, self.now)

    def _number(self) -> None:
        """The stack's numbers begin where those of the connection do: above those of one in TIME-WAIT."""
        self.wire.iss = 0xFFFFFF00 if self.connection is None else self.connection.iss & 0xFFFFFFFF

    def _near_base(self, seq: int) -> int:
        """The same number, as the position that the text goes by."""
        return (seq - self.base + (1 << 31)) % (1 << 32) - (1 << 31) + self.base

    def _offset(self) -> int:
        """Mostly none, else a little or anything."""
        kind = self.source.take()
        if kind < 160:
            return 0
        return kind - 200 if kind < 250 else self.source.take(4)

    def _blocks(self, near: int) -> tuple[tuple[int, int], ...]:
        found = []
        for _ in range(self.source.take() % 4):
            left = near + self.source.take(2) - 1000
            found.append((left, left + self.source.take(2)))
        return tuple(found)

    def _error(self) -> None:
        near = 0 if self.connection is None else self.connection.sender.snd_una - self.connection.iss
        error = ERRORS[self.source.take() % len(ERRORS)]
        line = IcmpLine(error, near + self._offset(), self.source.take(2))
        self._number()
        self._receive(self.wire.error(line))

    # --- time ---

    def _pass_time(self, kind: int) -> None:
        due = self.stack.next_deadline()
        if kind & 1 and due is not None:
            self.now = max(self.now, due)
        else:
            self.now += self.source.take() / 100
        self.stack.handle_timeout(self.now)
        after = self.stack.next_deadline()
        assert after is None or after > self.now, "a timer stays due"

    # --- the owner ---

    def _owner(self, kind: int) -> None:
        connection, now = self.connection, self.now
        if connection is None:
            if kind & 1:
                self.connection = self._connect()
            return
        try:
            match kind % 8:
                case 0 | 1:
                    length = self.source.take(2)
                    self.sent_to += connection.send(text(self.sent_to, length), now)
                case 2 | 3:
                    self._read(connection, self.source.take(2))
                case 4:
                    connection.shutdown(now)
                case 5:
                    connection.close(now)
                case 6:
                    connection.abort(now)
                case 7:
                    self.stack.end_batch(now)
        except LocalError:
            pass

    def _connect(self) -> Connection | None:
        try:
            return self.stack.connect(self.wire.stack, PORTS[1], self.wire.peer, PORTS[0], self.now)
        except LocalError:
            return None

    def _read(self, connection: Connection, most: int) -> None:
        data = connection.read(most, self.now)
        assert data == text(self.base + self.read_at, len(data)), "a wrong byte"
        self.read_at += len(data)

    # --- what comes of it ---

    def _settle(self) -> None:
        while (event := self.stack.poll_event()) is not None:
            if isinstance(event, FlowRequested):
                made = event.request.accept(None, self.now)
                if made is not None:
                    self.connection = made
                    self.sent_to = self.read_at = 1
                    self._number()
            elif isinstance(event, Established):
                receiver = event.connection.receiver
                begin = receiver.rcv_nxt - 1 - receiver.ready_bytes - event.connection.fin_seen - 0xFFFFF000
                self.base = (begin + (1 << 31)) % (1 << 32) - (1 << 31)
        for frame in self.stack.frames_to_send():
            for piece in segment(frame):
                seen = self.wire.decode(piece[VNET_HDR_LEN:], self.now)
                assert seen.data == text(seen.seq, len(seen.data)), "a wrong byte was sent"


def converse(data: bytes) -> int:
    """Have the conversation that `data` stands for. Returns the packets that the peer has sent."""
    source = Bytes(data)
    conversation = Conversation(source)
    for _ in range(LONGEST):
        if not source:
            break
        conversation.step()
    return conversation.packets
