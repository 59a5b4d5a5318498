"""Answers to what is doubtful or outside of the window, at a bounded rate: RFC 5961."""

from __future__ import annotations

import errno

import pytest

from tests.stack.tcp.peer import peer
from tests.stack.tcp.receiving import established
from tunsmith.stack.events import Closed


def test_challenges_are_bounded__rfc5961_7() -> None:
    other = established(challenge_ack_rate=3.0)
    assert sum(len(other.send("S", 1)) for _ in range(20)) == 3
    assert other.stack.drops["tcp_challenged"] == 20
    other.now += 0.9
    assert other.send("S", 1) == []
    other.now += 0.1
    assert len(other.send("S", 1)) == 1


def test_nobody_can_count_the_challenges_of_others() -> None:
    """CVE-2016-5696: with a limit that is known, one's own answers tell how many went elsewhere."""
    other = established(challenge_ack_rate=100.0)
    seen = set()
    for _ in range(20):
        seen.add(sum(len(other.send("S", 1)) for _ in range(200)))
        other.now += 1.0
    assert min(seen) >= 100
    assert max(seen) <= 125
    assert len(seen) > 5


def test_a_reset_counts_by_its_number_alone_whatever_it_carries__rfc9293_3_10_7_4() -> None:
    other = established(receive_buffer=100)
    assert other.send("R", -3, b"overlaps") == []
    assert other.stack.drops["rst_outside_window"] == 1
    other.send(".", 1, bytes(100))
    assert other.connection.receiver.window() == 0
    other.send("R", 101, b"why")
    assert other.events()[-1] == f"closed {errno.ECONNRESET}"


def test_empty_segments_out_of_the_window_are_answered_at_a_bounded_rate() -> None:
    other = established(refusal_rate=5.0)
    assert sum(len(other.send(".", -100)) for _ in range(20)) == 5
    assert sum(len(other.send(".", -100, b"old text")) for _ in range(20)) == 20


@pytest.mark.parametrize("data", [b"", b"x"])
def test_a_keepalive_is_answered__rfc9293_3_8_4(data: bytes) -> None:
    other = established()
    other.send(".", 1, b"text")
    other.wait(1.0)
    (ack,) = other.send(".", 4, data)
    assert ack.brief == (".", 1, 5, 0)


def test_two_ends_that_disagree_do_not_answer_each_other_for_ever() -> None:
    left, right = peer(refusal_rate=100.0).stack, peer(refusal_rate=100.0).stack
    stacks = (left, right)
    one = left.connect(b"\x0a\0\0\x01", 1, b"\x0a\0\0\x02", 2, 1.0)
    two = right.connect(b"\x0a\0\0\x02", 2, b"\x0a\0\0\x01", 1, 1.0)
    assert one is not None
    assert two is not None
    answers = 0
    for _ in range(10):
        for here, there in (stacks, stacks[::-1]):
            for frame in list(here.frames_to_send()):
                there.receive(frame[10:], 1.0, vnet=frame[:10])
    assert one.state.value == two.state.value == "ESTABLISHED"
    one.sender.snd_nxt = one.sender.snd_max = one.sender.snd_una = one.sender.snd_una + 5_000_000
    one.send_ack(1.0)
    for _ in range(1000):
        for here, there in (stacks, stacks[::-1]):
            for frame in list(here.frames_to_send()):
                answers += 1
                there.receive(frame[10:], 1.0, vnet=frame[:10])
    assert answers < 500
    assert not any(isinstance(event, Closed) for event in (*left.queue.events, *right.queue.events))
