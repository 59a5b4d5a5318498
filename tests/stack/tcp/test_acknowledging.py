"""When what arrives is acknowledged: RFC 5681 §4.2, RFC 9293 §3.8.6.3."""

from __future__ import annotations

from tests.stack.tcp.receiving import MSS, established


def test_the_first_segment_is_acknowledged_after_a_while__rfc9293_3_8_6_3() -> None:
    other = established()
    assert other.send(".", 1, bytes(MSS)) == []
    (ack,) = other.wait(0.04)
    assert ack.brief == (".", 1, 1 + MSS, 0)
    assert other.stack.next_deadline() is None


def test_every_second_full_segment_is_acknowledged_at_once__rfc5681_4_2() -> None:
    other = established()
    assert other.send(".", 1, bytes(MSS)) == []
    (ack,) = other.send(".", 1 + MSS, bytes(MSS))
    assert ack.ack == 1 + 2 * MSS
    assert other.send(".", 1 + 2 * MSS, bytes(MSS)) == []


def test_what_fills_half_the_buffer_is_acknowledged_at_once() -> None:
    """The peer could not send two full segments before it hears of the first."""
    other = established(receive_buffer=2 * MSS)
    (ack,) = other.send(".", 1, bytes(MSS))
    assert ack.ack == 1 + MSS
    assert other.send(".", 1 + MSS, bytes(MSS - 1)) == []


def test_text_that_leaves_carries_the_acknowledgment() -> None:
    other = established()
    other.send(".", 1, b"question")
    (answer,) = other.take(b"answer")
    assert answer.ack == 9
    assert other.connection.receiver.unacked == 0


def test_in_a_batch_one_ack_is_enough() -> None:
    other = established()
    with other.stack.batch(other.now):
        for number in range(6):
            assert other.send(".", 1 + number * MSS, bytes(MSS)) == []
    (ack,) = other.answers()
    assert ack.ack == 1 + 6 * MSS
    other.send(".", 1 + 6 * MSS, bytes(MSS))
    assert len(other.send(".", 1 + 7 * MSS, bytes(MSS))) == 1


def test_segments_of_a_batch_leave_at_its_end_in_their_order() -> None:
    other = established()
    with other.stack.batch(other.now):
        other.stack.begin_batch()  # is the same batch
        assert other.take(b"one") == other.take(b"two") == []
    assert [segment.data for segment in other.answers()] == [b"one", b"two"]
    other.stack.end_batch(other.now)
    assert [segment.data for segment in other.take(b"three")] == [b"three"]


def test_what_a_batch_holds_goes_to_the_wire_that_is_there_at_its_end() -> None:
    other = established()
    frames: list[tuple[bytes | memoryview, ...]] = []
    with other.stack.batch(other.now):
        assert other.take(b"one") == []
        other.stack.set_wire(frames.append)
    assert other.take(b"two") == other.answers() == []
    assert [parts[-1] for parts in frames] == [b"one", b"two"]


def test_a_batch_that_brought_no_text_is_not_acknowledged() -> None:
    other = established()
    with other.stack.batch(other.now):
        other.send(".", 1)
    assert other.answers() == []


def test_a_connection_that_ends_in_a_batch_acknowledges_no_more() -> None:
    other = established()
    with other.stack.batch(other.now):
        other.send(".", 1, bytes(MSS))
        other.send(".", 1 + MSS, bytes(MSS))
        other.send("R", 1 + 2 * MSS)
    assert other.answers() == []


def test_a_gap_is_told_at_once_and_so_is_its_filling() -> None:
    other = established()
    (gap,) = other.send(".", 101, bytes(100))
    assert gap.ack == 1
    (filled,) = other.send(".", 1, bytes(100))
    assert filled.ack == 201
    assert other.read() == bytes(200)


def test_a_duplicate_is_acknowledged_at_once() -> None:
    other = established()
    other.send(".", 1, b"once")
    (ack,) = other.send(".", 1, b"once")
    assert ack.ack == 5
    assert other.read() == b"once"
