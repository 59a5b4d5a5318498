"""Two stacks against the simplest model there is: what one end writes, the other reads, byte by byte.

Hypothesis chooses who does what and when, and the fate of each single packet. Whatever it chooses: nothing
raises, no timer stays due, no wrong byte is read, no bound is exceeded, no promise of window taken back. And when
the path is good again everything arrives and both ends come to rest. Sequence numbers wrap on the way, and so do
timestamps, because both begin just in front of the place where they do.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.sim.transfer import V4, V6, text
from tunsmith.errors import LocalError
from tunsmith.stack.config import StackConfig
from tunsmith.stack.events import FlowRequested
from tunsmith.stack.listener import Listener
from tunsmith.stack.stack import ROOM, Stack
from tunsmith.stack.tcp.connection import Connection
from tunsmith.stack.tcp.policy import Keepalive, Options
from tunsmith.stack.tcp.segments import bare_segment
from tunsmith.stack.tcp.state import State
from tunsmith.wire.icmp import IcmpError, build_error
from tunsmith.wire.ip import family_of
from tunsmith.wire.offload import segment
from tunsmith.wire.tcp import RST
from tunsmith.wire.vnet import VNET_HDR_LEN

WRAP = 1 << 32
PORTS = (40000, 80)
TEXT = text(1, 1 << 17)
"""What either end writes; the other end's is read from the middle."""
MANY = 20_000
"""Steps in which two ends on a good path must have come to rest."""
CONFIG = StackConfig(
    retries=1000, syn_retries=1000, synack_retries=1000, time_wait=1.0, fin_wait_2=30.0, max_rto=4.0
)

sides = st.sampled_from([0, 1])
picks = st.integers(0, 1000)


def _first(isn: int, key: bytes, now: float) -> int:
    return isn


@dataclass
class End:
    """One end, and what the model knows of it."""

    stack: Stack
    address: bytes
    port: int
    text: bytes
    connection: Connection | None = None
    written: int = 0
    shut: bool = False
    read: int = 0
    edge: int = 0
    wire: list[bytes] = field(default_factory=list)
    """Packets that have left and have not arrived."""

    def collect(self) -> None:
        for frame in self.stack.frames_to_send():
            self.wire.extend(segment(frame))


class Conversation(RuleBasedStateMachine):
    """One connection, from its opening to its end, over paths that belong to hypothesis."""

    @initialize(
        six=st.booleans(),
        before=st.tuples(st.integers(0, 6000), st.integers(0, 6000)),
        begin=st.sampled_from([0.5, 1000.0, WRAP / 2000 - 0.5, WRAP / 1000 - 0.5]),
        common=st.fixed_dictionaries(
            {
                "timestamps": st.booleans(),
                "sack": st.booleans(),
                "window_scaling": st.booleans(),
                "offload": st.booleans(),
            }
        ),
        own=st.tuples(
            *[
                st.fixed_dictionaries(
                    {
                        "mtu": st.sampled_from([576, 1280, 1500, 9000]),
                        "receive_buffer": st.sampled_from([300, 3000, 65535, 300_000]),
                        "send_buffer": st.sampled_from([300, 5000, 1 << 20]),
                        "no_delay": st.booleans(),
                        "ecn": st.sampled_from(["off", "accept", "request"]),
                        "path_mtu_discovery": st.sampled_from([True, True, False]),
                    }
                )
            ]
            * 2
        ),
        how=st.sampled_from(["request", "listener", "cookie", "both"]),
    )
    def begin(
        self,
        six: bool,
        before: tuple[int, int],
        begin: float,
        common: dict[str, Any],
        own: tuple[dict[str, Any], dict[str, Any]],
        how: str,
    ) -> None:
        """Open: one end asks and the other waits in one of three ways, or both ask."""
        self.now = begin
        addresses = V6 if six else V4
        self.ends = [
            End(
                Stack(replace(CONFIG, **common, **own[side], isn=partial(_first, WRAP - before[side]))),
                addresses[side],
                PORTS[side],
                TEXT[side * 1000 :],
            )
            for side in (0, 1)
        ]
        self.listener: Listener | None = None
        self.aborted = False
        """Whether the connection may end otherwise than well: an end was rude, or a cookie is lost."""
        self.how = how
        one, two = self.ends
        if how == "both":
            two.connection = two.stack.connect(two.address, two.port, one.address, one.port, self.now)
        elif how != "request":
            self.listener = two.stack.listen(two.address, two.port, backlog=1)
            if how == "cookie":  # all places are taken by a SYN that nobody follows up
                stranger = Stack(StackConfig(syn_retries=0))
                stranger.connect(one.address, 1, two.address, two.port, self.now)
                for frame in stranger.frames_to_send():
                    self.arrive(two, frame)
                list(two.stack.frames_to_send())
        one.connection = one.stack.connect(one.address, one.port, two.address, two.port, self.now)
        self.settle()

    # --- helpers ---

    def other(self, end: End) -> End:
        return self.ends[self.ends[0] is end]

    def arrive(self, end: End, frame: bytes) -> None:
        end.stack.receive_frame(memoryview(frame + bytes(ROOM)), len(frame), self.now)

    def settle(self) -> None:
        """Answer those who ask, and put on the wire what has left."""
        one, two = self.ends
        for end in self.ends:
            while (event := end.stack.poll_event()) is not None:
                if not isinstance(event, FlowRequested):
                    continue
                if end is two and two.connection is None and event.request.source == (one.address, one.port):
                    two.connection = event.request.accept(None, self.now)
                else:
                    event.request.drop()
        if self.listener is not None:
            if two.connection is None:
                two.connection = self.listener.accept(None, self.now)
            elif (ghost := self.listener.accept(None, self.now)) is not None:
                ghost.abort(self.now)  # an old copy of the ACK that brought a cookie
        for end in self.ends:
            end.collect()
        if self.how == "cookie" and two.connection is None:
            # Nothing but its ACK brings a cookie: a probe or text that overtakes it is reset, as by a listener that
            # never heard of it. So is everything once the cookie is too old.
            flags_at = VNET_HDR_LEN + family_of(two.address).header_length + 13
            self.aborted = self.aborted or any(packet[flags_at] & RST for packet in two.wire)

    def take(self, end: End, pick: int) -> bytes:
        """One of the packets that are on their way from `end`."""
        return end.wire.pop(pick % len(end.wire))

    # --- what owners do ---

    @rule(side=sides, length=st.integers(1, 20_000), more=st.booleans())
    def write(self, side: int, length: int, more: bool) -> None:
        end = self.ends[side]
        if end.connection is None or not end.connection.can_send:
            return
        wanted = end.text[end.written : end.written + length]
        end.written += end.connection.send(wanted, self.now, more=more)
        self.settle()

    @rule(side=sides, most=st.integers(1, 70_000), peek=st.booleans())
    def read(self, side: int, most: int, peek: bool) -> None:
        end = self.ends[side]
        if end.connection is None:
            return
        try:
            data = end.connection.read(most, self.now, peek=peek)
        except LocalError:
            assert self.aborted
            return
        assert data == self.other(end).text[end.read : end.read + len(data)]
        assert end.read + len(data) <= self.other(end).written
        if not peek:
            end.read += len(data)
        self.settle()

    @rule(side=sides)
    def shutdown(self, side: int) -> None:
        end = self.ends[side]
        if end.connection is not None:
            end.connection.shutdown(self.now)
            end.shut = True
            self.settle()

    @rule(side=sides, how=st.sampled_from(["abort", "close", "linger"]))
    @precondition(lambda self: self.ends[0].written + self.ends[1].written > 20_000)
    def end_it(self, side: int, how: str) -> None:
        end = self.ends[side]
        if end.connection is None:
            return
        self.aborted = True
        if how == "linger":
            end.connection.set("linger", 2.0, self.now)
        (end.connection.abort if how == "abort" else end.connection.close)(self.now)
        self.settle()

    @rule(
        side=sides,
        options=st.builds(
            Options,
            cork=st.booleans(),
            nodelay=st.none() | st.booleans(),
            receive_buffer=st.none() | st.sampled_from([200, 5000, 100_000]),
            send_buffer=st.none() | st.sampled_from([200, 5000, 100_000]),
            mss=st.sampled_from([88, 500, 65535]),
            keepalive=st.sampled_from([None, Keepalive(idle=0.5, interval=1.0, count=1000)]),
            ttl=st.just(9),
        ),
    )
    def change_options(self, side: int, options: Options) -> None:
        end = self.ends[side]
        if end.connection is not None:
            end.connection.set_options(options, self.now)
            self.settle()

    # --- what the path does ---

    @rule(side=sides, count=st.integers(1, 20))
    def deliver(self, side: int, count: int) -> None:
        """In order, as most paths do."""
        end = self.ends[side]
        for _ in range(min(count, len(end.wire))):
            self.arrive(self.other(end), end.wire.pop(0))
            self.settle()

    @rule(side=sides)
    def deliver_as_a_batch(self, side: int) -> None:
        end = self.ends[side]
        packets, end.wire = end.wire, []
        with self.other(end).stack.batch(self.now):
            for packet in packets:
                self.arrive(self.other(end), packet)
        self.settle()

    @precondition(lambda self: any(end.wire for end in self.ends))
    @rule(
        pick=picks,
        fate=st.sampled_from(["late", "lost", "twice", "damaged", "too big"]),
        bit=st.integers(0, 10**6),
    )
    def misfortune(self, pick: int, fate: str, bit: int) -> None:
        """One packet overtakes the others, is lost, doubled, damaged, or refused by a router."""
        end = self.ends[pick % 2] if self.ends[pick % 2].wire else self.ends[1 - pick % 2]
        packet = self.take(end, pick // 2)
        if fate == "twice":
            end.wire.append(packet)
        if fate in ("late", "twice"):
            self.arrive(self.other(end), packet)
        elif fate == "damaged":
            damaged = bytearray(packet)
            where = VNET_HDR_LEN * 8 + bit % ((len(packet) - VNET_HDR_LEN) * 8)
            damaged[where // 8] ^= 1 << where % 8
            self.arrive(self.other(end), bytes(damaged))
        elif fate == "too big":
            family = family_of(end.address)
            quoted = packet[VNET_HDR_LEN:]
            error = build_error(family, self.other(end).address, end.address, IcmpError.TOO_BIG, quoted, 1280)
            end.stack.receive(error, self.now)
        self.settle()

    @rule(
        side=sides,
        far=st.sampled_from([0, 1, 1000, 70_000, 1 << 31, -1, -1000, -70_000]),
        flags=st.integers(0, 63),
    )
    def forgery(self, side: int, far: int, flags: int) -> None:
        """A segment by somebody who guesses where the window is, and misses it: what hits may do harm."""
        end = self.ends[side]
        connection = end.connection
        if connection is None or connection.state is State.SYN_SENT:
            return
        receiver = connection.receiver
        seq = receiver.rcv_adv + far if far >= 0 else receiver.rcv_nxt + far
        if receiver.rcv_nxt <= seq <= receiver.rcv_adv:
            return
        acks = connection.sender.snd_una - 1_000_000_000
        self.arrive(end, segment(bare_segment(connection.family, connection.key, seq, acks, flags, 1))[0])
        self.settle()

    # --- time ---

    @rule(seconds=st.sampled_from([0.0001, 0.003, 0.05, 0.3, 5.0]))
    def wait(self, seconds: float) -> None:
        self.pass_time(self.now + seconds)

    @rule()
    def wait_for_a_timer(self) -> None:
        due = [due for end in self.ends if (due := end.stack.next_deadline()) is not None]
        if due:
            self.pass_time(min(due))

    def pass_time(self, until: float) -> None:
        """To `until`, from timer to timer."""
        for _ in range(MANY):
            due = [
                due for end in self.ends if (due := end.stack.next_deadline()) is not None and due <= until
            ]
            if not due:
                break
            self.now = max(self.now, min(due))
            for end in self.ends:
                end.stack.handle_timeout(self.now)
                after = end.stack.next_deadline()
                assert after is None or after > self.now, "a timer stays due"
            self.settle()
        else:
            raise AssertionError("timers for ever")
        self.now = until

    # --- what holds at all times ---

    @invariant()
    def bounds_hold(self) -> None:
        for end in getattr(self, "ends", ()):
            if end.connection is None or not end.connection.connected:
                continue
            receiver, sender = end.connection.receiver, end.connection.sender
            assert receiver.rcv_adv >= end.edge, "a window was taken back"
            end.edge = receiver.rcv_adv
            assert receiver.ready_bytes == sum(len(data) for data in receiver.ready)
            assert receiver.ready_bytes <= max(300_000 * 4, receiver.limit)
            assert receiver.rcv_nxt <= receiver.rcv_adv + 1
            assert 0 <= sender.snd_una <= sender.snd_nxt <= sender.snd_max
            assert sender.queued >= 0

    def teardown(self) -> None:
        """The path is good from now on, and everybody reads: everything arrives, and there is rest."""
        if not hasattr(self, "ends"):
            return
        for end in self.ends:
            if end.connection is not None and end.connection.state is not State.CLOSED:
                end.connection.set_options(Options(), self.now)
                end.connection.shutdown(self.now)
                end.shut = True
        self.settle()
        for _ in range(MANY):
            if not self.progress():
                break
        else:
            raise AssertionError("no rest")
        self.check_the_end()

    def progress(self) -> bool:
        """Deliver what is there and read it, or let the next timer expire; False when there is nothing left."""
        for side in (0, 1):
            self.read(side, 1 << 20, False)
            end = self.ends[side]
            if end.connection is not None and not end.shut:
                self.shutdown(side)
        if any(end.wire for end in self.ends):
            for side in (0, 1):
                self.deliver(side, 20)
            return True
        due = [due for end in self.ends if (due := end.stack.next_deadline()) is not None]
        if due:
            self.pass_time(min(due))
        return bool(due)

    def check_the_end(self) -> None:
        for end in self.ends:
            assert end.connection is not None or self.aborted
            assert not end.stack.requests
            assert not end.stack.time_waits.records
            if not self.aborted:
                assert end.connection is not None
                assert end.connection.state is State.CLOSED, end.connection.state
                assert end.connection.error == 0
                assert end.read == self.other(end).written
                assert not end.stack.connections


EXAMPLES = os.environ.get("STATE_MODEL_EXAMPLES")
"""So many at random instead of the few that are always the same."""
PROFILE = settings(
    max_examples=int(EXAMPLES or 100),
    stateful_step_count=40,
    deadline=None,
    derandomize=EXAMPLES is None,
    database=None,
    phases=[phase for phase in Phase if phase is not Phase.explain],
    suppress_health_check=list(HealthCheck),
)


def test_what_one_end_writes_the_other_reads() -> None:
    run_state_machine_as_test(Conversation, settings=PROFILE)


@pytest.mark.slow
def test_what_one_end_writes_the_other_reads_at_length() -> None:
    run_state_machine_as_test(Conversation, settings=settings(PROFILE, max_examples=1500))
