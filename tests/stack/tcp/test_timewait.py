from __future__ import annotations

import errno
from typing import Any

import pytest

from tests.stack.tcp.peer import Peer, peer
from tunsmith.errors import LocalError
from tunsmith.stack.tcp.timewait import TimeWait
from tunsmith.wire.ip import IPV4


def waiting(**settings: Any) -> Peer:
    """A connection that we closed first: both FINs are acknowledged, and the record is there. The peer is
    at 2, we are at 2."""
    other = peer(**settings)
    other.stamp = 500 if settings.get("timestamps") else None
    other.establish()
    if other.stamp:
        other.stamp = 600
    other.connection.shutdown(other.now)
    other.answers()
    (ack,) = other.send("F.", 1, ack=2)
    assert ack.brief == (".", 2, 2, 0)
    other.events()
    other.ack = 2
    assert len(other.stack.time_waits.records) == 1
    return other


def test_a_fin_again_is_acknowledged_and_we_wait_anew() -> None:
    other = waiting()
    other.wait(9.0)
    (ack,) = other.send("F.", 1)
    assert ack.brief == (".", 2, 2, 0)
    other.wait(9.0)
    assert other.stack.time_waits.records
    other.wait(1.0)
    assert not other.stack.time_waits.records


def test_an_ack_that_agrees_gets_no_answer() -> None:
    other = waiting()
    assert other.send(".", 2) == []


def test_an_ack_from_elsewhere_is_told_where_we_are() -> None:
    other = waiting()
    (ack,) = other.send(".", 900)
    assert ack.brief == (".", 2, 2, 0)


def test_answers_are_bounded() -> None:
    other = waiting(challenge_ack_rate=3.0)
    assert sum(len(other.send(".", 5)) for _ in range(10)) == 3


def test_reset_is_ignored__rfc1337() -> None:
    other = waiting()
    assert other.send("R", 2) == []
    assert other.stack.time_waits.records


def test_answers_carry_a_timestamp_that_goes_on() -> None:
    other = waiting(timestamps=True)
    (before,) = other.send("F.", 1)
    other.now += 1.5
    (after,) = other.send("F.", 1)
    assert before.options.timestamp is not None
    assert after.options.timestamp is not None
    assert after.options.timestamp[0] - before.options.timestamp[0] == 1500
    assert after.options.timestamp[1] == 600


@pytest.mark.parametrize(("seq", "accepted"), [(3, True), (2, False), (1, False), (-5, False)])
def test_without_timestamps_a_newer_isn_reopens__rfc6191(seq: int, accepted: bool) -> None:
    other = waiting()
    answers = other.send("S", seq)
    assert (other.events() == ["request"]) is accepted
    assert [segment.flags for segment in answers] == ([] if accepted else ["."])


@pytest.mark.parametrize(
    ("stamp", "seq", "accepted"),
    [(601, -5, True), (599, 1000, False), (600, 1000, True), (600, -5, False), (None, 1000, True)],
)
def test_with_timestamps_a_newer_stamp_reopens__rfc6191(stamp: int | None, seq: int, accepted: bool) -> None:
    other = waiting(timestamps=True)
    other.stamp = stamp
    other.send("S", seq)
    assert (other.events() == ["request"]) is accepted


@pytest.mark.parametrize("flags", ["S.", "SF"])
def test_only_a_bare_syn_reopens(flags: str) -> None:
    other = waiting()
    assert [segment.flags for segment in other.send(flags, 100)] == ["."]
    assert other.events() == []


def test_the_new_incarnation_begins_above_the_old_one__rfc9293_3_10_7_4() -> None:
    other = peer()
    other.establish()
    other.connection.sender.limit = 5_000_000  # in no time: a plain clock would fall behind
    other.connection.send(bytes(5_000_000), other.now)
    assert len(other.swallow()) == 5_000_000
    other.connection.shutdown(other.now)
    (fin,) = other.answers()
    other.send("F.", 1, ack=fin.seq + 1)
    old = other.stack.time_waits.records[other.connection.key].snd_nxt
    other.events()
    assert other.send("S", 100_000) == []
    event = other.stack.poll_event()
    assert event is not None
    assert event.request.accept(None, other.now) is not None  # type: ignore[union-attr]
    other.answers()
    assert 0 < (other.iss - old) & 0xFFFFFFFF < 1 << 31
    assert not other.stack.time_waits.records


def test_a_reopening_that_is_refused_leaves_the_record() -> None:
    other = waiting()
    other.send("S", 100)
    event = other.stack.poll_event()
    event.request.refuse(other.now)  # type: ignore[union-attr]
    assert [segment.flags for segment in other.answers()] == ["R."]
    assert other.stack.time_waits.records


def test_the_oldest_record_makes_room() -> None:
    other = peer(time_wait_limit=3)
    table = other.stack.time_waits
    for number in range(5):
        table.add(bytes([number]), TimeWait(IPV4, 0, 0, 0, None, 0, 10.0 + number))
    assert list(table.records) == [bytes([2]), bytes([3]), bytes([4])]
    assert table.timers[0] == 12.0
    table.remove(bytes([2]))
    assert table.timers[0] == 13.0


def test_nobody_may_use_the_ends_of_a_waiting_connection() -> None:
    other = waiting()
    with pytest.raises(LocalError) as caught:
        other.stack.connect(other.destination, 80, other.source, 40000, other.now)
    assert caught.value.errno == errno.EADDRINUSE


# --- opening again from here, RFC 6191 ---


def waiting_with_timestamps() -> Peer:
    other = peer(timestamps=True)
    other.stamp = 500
    other.establish()
    other.connection.close(other.now)
    other.answers()
    other.ack = 2
    other.send("F.", 1)
    return other


def test_with_timestamps_we_open_again_after_a_second_above_all_that_was_used__rfc6191() -> None:
    other = waiting_with_timestamps()
    (record,) = other.stack.time_waits.records.values()
    other.wait(0.9)
    with pytest.raises(LocalError):
        other.open()
    other.wait(0.1)
    last_stamp = (int(other.now * 1000) + record.ts_offset) & 0xFFFFFFFF
    before = other.iss
    syn = other.open()
    assert (other.iss - before - record.snd_nxt + before) & 0xFFFFFFFF < 0x80000000
    assert syn.options.timestamp is not None
    assert syn.options.timestamp[0] == last_stamp
    assert not other.stack.time_waits.records


def test_without_timestamps_we_do_not_open_again() -> None:
    other = waiting()
    other.wait(5.0)
    with pytest.raises(LocalError):
        other.open()


@pytest.mark.parametrize("isn", [5, -5])
def test_timestamps_that_the_last_incarnation_had_not_reopen__rfc6191(isn: int) -> None:
    record = TimeWait(IPV4, 1, 100, 0, None, 0, 0.0)
    assert record.may_reopen(100 + isn & 0xFFFFFFFF, 77)
    assert record.may_reopen(100 + isn, None) is (isn > 0)


def test_timestamps_that_we_will_not_take_reopen_nothing() -> None:
    other = waiting()
    other.stamp = 5
    assert [segment.flags for segment in other.send("S", -100)] == ["."]


def test_only_the_fin_that_was_there_makes_us_wait_anew() -> None:
    """A forged one would keep the record for ever."""
    other = waiting()
    other.wait(6.0)
    assert [segment.flags for segment in other.send("F.", 50_000)] == ["."]
    other.wait(4.0)
    assert not other.stack.time_waits.records
