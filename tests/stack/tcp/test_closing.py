"""Closing with text around, and FINs behind gaps: RFC 9293 §3.6, §3.10.4."""

from __future__ import annotations

import errno

from tests.stack.tcp.receiving import established

# --- closing with text around ---


def test_closing_with_unread_text_resets__rfc9293_3_10_4() -> None:
    other = established()
    other.send(".", 1, b"unread")
    other.connection.close(other.now)
    assert [segment.flags for segment in other.answers()] == ["R."]
    assert other.events() == ["readable", f"closed {errno.ECONNABORTED}"]


def test_text_after_close_resets() -> None:
    other = established()
    other.connection.close(other.now)
    other.answers()
    (reset,) = other.send(".", 1, b"text", ack=2)
    assert reset.flags == "R."
    assert other.events() == [f"closed {errno.ECONNRESET}"]


def test_text_that_was_taken_before_close_may_come_again() -> None:
    other = established()
    other.send(".", 1, b"text")
    other.read()
    other.connection.close(other.now)
    other.answers()
    (ack,) = other.send("F.", 1, b"text", ack=2)
    assert ack.brief == (".", 2, 6, 0)
    assert "closed 0" in other.events()


def test_after_close_the_peer_has_a_while_to_close_too() -> None:
    other = established(fin_wait_2=30.0)
    other.connection.close(other.now)
    other.answers()
    other.send(".", 1, ack=2)
    assert other.state == "FIN-WAIT-2"
    assert other.stack.next_deadline() == other.now + 30.0
    other.wait(30.0)
    assert other.events() == ["closed 0"]
    assert not other.stack.connections


def test_closing_in_fin_wait_2_begins_the_while() -> None:
    other = established(fin_wait_2=30.0)
    other.connection.shutdown(other.now)
    other.answers()
    other.send(".", 1, ack=2)
    assert other.stack.next_deadline() is None
    other.connection.close(other.now)
    assert other.stack.next_deadline() == other.now + 30.0


def test_a_half_closed_connection_goes_on_for_ever() -> None:
    other = established()
    other.connection.shutdown(other.now)
    other.answers()
    other.send(".", 1, ack=2)
    other.wait(1e6)
    other.send(".", 1, b"still", ack=2)
    assert other.read() == b"still"


def test_a_connection_that_is_over_can_still_be_read() -> None:
    other = established()
    other.send("F.", 1, b"last words")
    other.connection.shutdown(other.now)
    other.send(".", 12, ack=2)
    assert other.state == "CLOSED"
    assert not other.connection.at_end
    assert other.read() == b"last words"
    assert other.connection.at_end


# --- FIN and gaps ---


def test_a_fin_behind_a_gap_waits_for_the_text() -> None:
    other = established()
    (gap,) = other.send("F.", 5, b"efgh")
    assert gap.ack == 1
    assert other.state == "ESTABLISHED"
    other.send(".", 1, b"abcd")
    assert other.events() == ["readable", "fin"]
    assert other.read() == b"abcdefgh"
    assert other.state == "CLOSE-WAIT"


def test_text_and_fin_that_fill_the_gap_before_a_fin_known_already() -> None:
    other = established()
    other.send("F.", 5, b"efgh")
    answers = other.send("F.", 1, b"abcdefgh")
    assert [answer.ack for answer in answers][-1] == 10
    assert other.state == "CLOSE-WAIT"


def test_text_beyond_the_fin_is_none() -> None:
    other = established()
    other.send("F.", 5)
    other.send(".", 6, b"beyond")
    other.send(".", 1, b"abcdefgh")
    assert other.read() == b"abcd"
    assert other.state == "CLOSE-WAIT"


def test_a_fin_in_front_of_text_that_was_taken_is_nothing() -> None:
    other = established()
    other.send(".", 5, b"efgh")
    other.send("F.", 1, b"abcd")
    assert other.read() == b"abcdefgh"
    assert other.state == "ESTABLISHED"


def test_the_first_fin_counts() -> None:
    other = established()
    other.send("F.", 5)
    other.send("F.", 9)
    other.send(".", 1, b"abcd")
    assert other.state == "CLOSE-WAIT"
