"""What the owner of one connection wants that others do not: socket options, and the watch they need kept.

A connection without options has no policy and pays nothing for it. One that has keeps here what its options
ask for in time: keepalive probes, the user timeout, the limits of lingering and of FIN-WAIT-2. All of them
share the connection's LINGER timer, which always holds the earliest.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunsmith.errors import LocalError
from tunsmith.stack.tcp.state import CARRYING, FIN_UNACKNOWLEDGED, State
from tunsmith.stack.tcp.timers import LINGER, NEVER
from tunsmith.wire.tcp import TIMESTAMP_LENGTH

if TYPE_CHECKING:
    from tunsmith.stack.tcp.connection import Connection
    from tunsmith.stack.tcp.leaving import Leaving

LARGEST_WINDOW = 65535
"""That fits into the header, before scaling."""
SMALLEST_MSS = 88
"""As Linux has it (TCP_MIN_MSS): room for all options and then some."""


@dataclass(frozen=True, slots=True)
class Keepalive:
    """RFC 9293 §3.8.4: after `idle` seconds of silence ask every `interval` seconds whether the peer is still
    there; `count` questions without an answer end the connection with ETIMEDOUT."""

    idle: float = 7200.0
    interval: float = 75.0
    count: int = 9


@dataclass(frozen=True, slots=True)
class Options:
    """Options of one connection; None: as the configuration of the stack says, or not at all. Raises LocalError
    EINVAL for values that make no sense."""

    linger: float | None = None
    """SO_LINGER: how long `close` lets text and FIN travel before RST; 0: RST at once. None: as long as it takes."""
    keepalive: Keepalive | None = None
    receive_buffer: int | None = None
    send_buffer: int | None = None
    nodelay: bool | None = None
    """False: Nagle's algorithm, RFC 9293 §3.7.4."""
    cork: bool = False
    """Send whole segments only: more is to come. What is left over waits for an RTO at most."""
    mss: int = 65535
    """No segment will be longer, TCP options included; before the handshake also what the peer is asked for."""
    user_timeout: float | None = None
    """Seconds without progress, while there is something to acknowledge, that end the connection with ETIMEDOUT
    (RFC 9293 §3.8.3, RFC 5482); instead of the number of retries. Noticed with the first retransmission."""
    fin_wait_2: float | None = None
    """Seconds that a closed connection waits for the peer's FIN."""
    path_mtu_discovery: bool | None = None
    """False: see StackConfig."""
    traffic_class: int = 0
    """TOS or traffic class, of which the ECN bits are not the owner's to choose (RFC 3168 §5)."""
    ttl: int = 64
    """TTL or hop limit."""

    def __post_init__(self) -> None:
        keepalive = self.keepalive
        good = {
            "linger": self.linger is None or self.linger >= 0,
            "keepalive": keepalive is None or (min(keepalive.idle, keepalive.interval) > 0 < keepalive.count),
            "receive_buffer": self.receive_buffer is None or self.receive_buffer > 0,
            "send_buffer": self.send_buffer is None or self.send_buffer > 0,
            "mss": SMALLEST_MSS <= self.mss <= 65535,
            "user_timeout": self.user_timeout is None or self.user_timeout > 0,
            "fin_wait_2": self.fin_wait_2 is None or self.fin_wait_2 >= 0,
            "traffic_class": 0 <= self.traffic_class <= 255 and not self.traffic_class & 3,
            "ttl": 1 <= self.ttl <= 255,
        }
        for name, is_good in good.items():
            if not is_good:
                raise LocalError(errno.EINVAL, f"option {name} cannot be {getattr(self, name)!r}")


class Policy:
    """The options of a connection and what they have seen so far."""

    __slots__ = (
        "_fin_wait_2_at",
        "_give_up_at",
        "_keepalive_at",
        "_linger_at",
        "_probed_at",
        "_probes",
        "ecn_field",
        "heard_at",
        "options",
    )

    def __init__(self, now: float, fin_wait_2_at: float = NEVER) -> None:
        self.options = Options()
        self.heard_at = now
        """When the last segment of the peer arrived."""
        self.ecn_field = 0
        """Of the packet that is built next (ecn.py)."""
        self._probes = 0
        self._probed_at = -NEVER
        self._keepalive_at = self._give_up_at = self._linger_at = NEVER
        self._fin_wait_2_at = fin_wait_2_at

    def apply(self, connection: Connection, options: Options, now: float) -> None:
        """Make `options` those of `connection`."""
        before, self.options = self.options, options
        sender, receiver = connection.sender, connection.receiver
        if options.send_buffer is not None:
            sender.limit = options.send_buffer
        if options.receive_buffer is not None:
            receiver.limit = options.receive_buffer
        connection.cork(options.cork)
        if connection.connected:
            receiver.limit = min(receiver.limit, LARGEST_WINDOW << connection.rcv_scale)
            overhead = TIMESTAMP_LENGTH if connection.timestamps else 0
            if options.mss - overhead < sender.mss:
                connection.set_mss(options.mss)
                sender.cc.on_mss(sender.mss)
        if options.keepalive != before.keepalive:
            self._probes = 0
            self._keepalive_at = self.heard_at + options.keepalive.idle if options.keepalive else NEVER
        self._arm(connection)

    def head(self, connection: Leaving, length: int, address_sum: int) -> bytes:
        """As IpFamily.head, with the traffic class and TTL of the options."""
        family, options = connection.family, self.options
        traffic_class = options.traffic_class | self.ecn_field
        if connection.discovers_path_mtu:
            return family.marked_head(length, address_sum, traffic_class, options.ttl)
        packets = length // connection.sender.mss + 1
        number = connection.stack.next_identification(packets) & 0xFFFF
        return family.marked_head(
            length, address_sum, traffic_class, options.ttl, identification=number, df=False
        )

    # --- what starts a limit ---

    def on_close(self, connection: Connection, now: float) -> None:
        """The owner has closed the connection in an orderly way."""
        if self.options.linger is not None:
            self._linger_at = now + self.options.linger
            self._arm(connection)

    def on_fin_wait_2(self, connection: Connection, now: float) -> None:
        """Nobody waits for the peer's FIN but us."""
        limit = self.options.fin_wait_2
        self._fin_wait_2_at = now + (connection.stack.config.fin_wait_2 if limit is None else limit)
        self._arm(connection)

    def on_silence(self, connection: Connection, now: float) -> bool:
        """A retransmission or persist timer has expired. Returns whether the user timeout decides how often
        that may happen; it counts from the first of them in a row, and the timeout that led to it."""
        limit = self.options.user_timeout
        if limit is None:
            return False
        sender = connection.sender
        if not sender.timeouts and not sender.probes:
            self._give_up_at = now - sender.rtt.rto + limit
            self._arm(connection)
        return True

    # --- time ---

    def _arm(self, connection: Connection) -> None:
        connection.timers[LINGER] = min(
            self._keepalive_at, self._give_up_at, self._linger_at, self._fin_wait_2_at
        )

    def on_timeout(self, connection: Connection, now: float) -> None:
        """The earliest of the limits has come."""
        if self._fin_wait_2_at <= now:
            self._fin_wait_2_at = NEVER
            connection.end(0, now)
        if self._linger_at <= now:
            self._linger_at = NEVER
            if connection.state in FIN_UNACKNOWLEDGED:
                connection.end(errno.ETIMEDOUT, now, reset=True)
        if self._give_up_at <= now:
            self._give_up_at = NEVER
            if connection.sender.timeouts or connection.sender.probes:
                connection.end(errno.ETIMEDOUT, now)
        if self._keepalive_at <= now:
            self._on_keepalive(connection, now)
        if connection.state is not State.CLOSED:
            self._arm(connection)

    def _on_keepalive(self, connection: Connection, now: float) -> None:
        """RFC 9293 §3.8.4. A question is a segment that has been acknowledged already; its answer is an ACK."""
        keepalive = self.options.keepalive
        assert keepalive is not None
        if self.heard_at >= self._probed_at:
            self._probes = 0
        sender = connection.sender
        due = self.heard_at + keepalive.idle
        if self._probes == 0 and (due > now or connection.state not in CARRYING):
            self._keepalive_at = due if due > now else now + keepalive.idle
        elif sender.unsent:  # its retransmission asks
            self._keepalive_at = now + keepalive.idle
        elif self._probes >= keepalive.count:
            connection.end(errno.ETIMEDOUT, now, reset=True)
        else:
            self._probes += 1
            self._probed_at = now
            self._keepalive_at = now + keepalive.interval
            connection.send_question(now)
