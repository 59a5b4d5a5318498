"""What the owner may ask, and the other ways to end: each half on its own."""

from __future__ import annotations

import errno

import pytest

from tests.stack.tcp.peer import peer
from tunsmith.errors import LocalError


def test_a_connection_is_readable_by_text_by_the_end_and_by_an_error() -> None:
    other = peer()
    connection = other.establish()
    assert not connection.readable
    other.send(".", 1, b"text")
    assert (connection.readable, connection.readable_bytes) == (True, 4)
    assert other.read() == b"text"
    assert not connection.readable
    assert not connection.peer_closed
    other.send("F.", 5)
    assert (connection.readable, connection.peer_closed, connection.at_end) == (True, True, True)
    other.send("R", 6)
    assert (connection.readable, connection.error) == (True, errno.EPIPE)


def test_a_connection_says_who_and_in_which_state() -> None:
    connection = peer().establish()
    assert repr(connection) == "<Connection 10.0.0.2 port 80 to 10.0.0.1 port 40000, ESTABLISHED>"


def test_reading_a_connection_that_has_failed_gives_the_text_and_then_the_error() -> None:
    other = peer()
    connection = other.establish()
    other.send(".", 1, b"text")
    other.send("R", 5)
    assert not connection.at_end
    assert other.read() == b"text"
    assert not connection.at_end
    with pytest.raises(LocalError) as caught:
        connection.read(1, other.now)
    assert caught.value.errno == errno.ECONNRESET
    assert connection.read(0, other.now) == b""


def test_a_connection_is_writable_while_its_buffer_has_room_and_when_sending_has_an_error_to_tell() -> None:
    other = peer(send_buffer=1000)
    other.window = 400
    connection = other.establish()
    assert (connection.writable, connection.unsent_bytes) == (True, 0)
    connection.send(bytes(1000), other.now)
    assert (connection.writable, connection.unsent_bytes, connection.unacknowledged) == (False, 600, 1000)
    connection.shutdown(other.now)
    assert connection.writable
    connection.abort(other.now)
    assert connection.writable


def test_who_reads_no_more_is_sent_to_all_the_same() -> None:
    """What comes is acknowledged and thrown away, so that the peer's writes do not hang and ours go on."""
    other = peer(receive_buffer=1000)
    connection = other.establish()
    other.send(".", 1, b"unread" * 150)
    connection.shutdown_read(other.now)
    assert (connection.at_end, connection.readable, connection.peer_closed) == (True, True, False)
    (update,) = other.answers()
    assert (update.ack, update.window) == (901, 1000)
    assert other.read() == b""
    (answer,) = other.send(".", 901, b"more" * 250)
    assert (answer.ack, answer.window) == (1901, 1000)
    assert other.read() == b""
    connection.shutdown_read(other.now)
    assert [segment.brief for segment in other.take(b"ours")] == [(".", 1, 1901, 4)]
    assert other.state == "ESTABLISHED"


def test_who_takes_over_a_connection_that_is_shut_for_reading_reads_nothing() -> None:
    other = peer()
    connection = other.establish()
    connection.shutdown_read(other.now)
    connection.hand_over(other.stack.queue, other.now)
    assert other.send(".", 1, b"more" * 1000)[0].ack == 4001
    assert connection.read_closed
    assert not connection.readable_bytes


def test_closing_after_shutting_the_read_half_is_orderly() -> None:
    other = peer(receive_buffer=60_000)
    connection = other.establish()
    other.send(".", 1, b"unread")
    connection.shutdown_read(other.now)
    connection.close(other.now)
    assert [segment.flags for segment in other.answers()] == ["F."]
