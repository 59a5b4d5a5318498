"""Every state reached by the segments of RFC 9293 §3.3.2, and left by them."""

from __future__ import annotations

import errno

import pytest

from tests.stack.tcp.peer import Peer, peer
from tunsmith.wire.ip import IPV4, IPV6, IpFamily


def established(**settings: object) -> Peer:
    other = peer(**settings)
    other.establish()
    return other


def in_state(name: str) -> Peer:
    """A peer of a connection in that state, with everything acknowledged that can be. The peer's next
    sequence number is 1 (2 where its FIN was taken)."""
    other = peer()
    if name == "SYN-SENT":
        other.open()
        return other
    other.knock()
    if name == "SYN-RECEIVED":
        return other
    other.send(".", 1)
    if name in ("CLOSE-WAIT", "LAST-ACK"):
        other.send("F.", 1)
    if name in ("FIN-WAIT-1", "FIN-WAIT-2", "CLOSING", "LAST-ACK"):
        other.connection.shutdown(other.now)
    if name == "FIN-WAIT-2":
        other.send(".", 1, ack=2)
        other.ack = 2
    if name == "CLOSING":
        other.send("F.", 1)
    other.answers()
    other.events()
    assert other.state == name
    return other


SYNCHRONIZED = ("ESTABLISHED", "FIN-WAIT-1", "FIN-WAIT-2", "CLOSE-WAIT", "CLOSING", "LAST-ACK")
FIN_TAKEN = ("CLOSE-WAIT", "CLOSING", "LAST-ACK")


def next_seq(name: str) -> int:
    return 2 if name in FIN_TAKEN else 1


@pytest.mark.parametrize("family", [IPV4, IPV6], ids=["v4", "v6"])
def test_passive_open(family: IpFamily) -> None:
    other = peer(family=family)
    synack = other.knock()
    assert synack.brief == ("S.", 0, 1, 0)
    assert other.state == "SYN-RECEIVED"
    assert other.send(".", 1) == []
    assert other.state == "ESTABLISHED"
    assert other.events() == ["established"]


def test_active_open() -> None:
    other = peer()
    assert other.open().brief == ("S", 0, 0, 0)
    assert other.state == "SYN-SENT"
    (ack,) = other.send("S.", 0)
    assert ack.brief == (".", 1, 1, 0)
    assert other.state == "ESTABLISHED"
    assert other.events() == ["established"]


def test_we_close_first_and_wait() -> None:
    other = established()
    other.connection.shutdown(other.now)
    (fin,) = other.answers()
    assert fin.brief == ("F.", 1, 1, 0)
    assert other.state == "FIN-WAIT-1"
    assert other.send(".", 1, ack=2) == []
    assert other.state == "FIN-WAIT-2"
    (ack,) = other.send("F.", 1, ack=2)
    assert ack.brief == (".", 2, 2, 0)
    assert other.events() == ["fin", "closed 0"]
    assert len(other.stack.time_waits.records) == 1
    other.wait(10.0)
    assert not other.stack.time_waits.records
    assert other.stack.next_deadline() is None


def test_a_fin_that_acknowledges_ours_goes_straight_to_time_wait() -> None:
    other = established()
    other.connection.shutdown(other.now)
    other.answers()
    (ack,) = other.send("F.", 1, ack=2)
    assert ack.brief == (".", 2, 2, 0)
    assert other.events() == ["fin", "closed 0"]
    assert len(other.stack.time_waits.records) == 1


def test_the_peer_closes_first() -> None:
    other = established()
    (ack,) = other.send("F.", 1)
    assert ack.brief == (".", 1, 2, 0)
    assert other.state == "CLOSE-WAIT"
    assert other.events() == ["fin"]
    (text,) = other.take(b"still here")
    assert text.data == b"still here"
    other.connection.shutdown(other.now)
    (fin,) = other.answers()
    assert fin.brief == ("F.", 11, 2, 0)
    assert other.state == "LAST-ACK"
    assert other.send(".", 2, ack=12) == []
    assert other.events() == ["closed 0"]
    assert not other.stack.connections
    assert other.stack.next_deadline() is None


def test_simultaneous_close() -> None:
    other = established()
    other.connection.shutdown(other.now)
    other.answers()
    (ack,) = other.send("F.", 1)
    assert ack.brief == (".", 2, 2, 0)
    assert other.state == "CLOSING"
    assert other.send(".", 2, ack=2) == []
    assert other.events() == ["fin", "closed 0"]
    assert len(other.stack.time_waits.records) == 1


def test_simultaneous_open__rfc9293_figure_7() -> None:
    other = peer()
    other.open()
    (synack,) = other.send("S", 0)
    assert synack.brief == ("S.", 0, 1, 0)
    assert other.state == "SYN-RECEIVED"
    (ack,) = other.send("S.", 0)
    assert ack.brief == (".", 1, 1, 0)
    assert other.state == "ESTABLISHED"
    assert other.events() == ["established"]


def test_a_syn_ack_that_acknowledges_something_else_does_not_complete_a_simultaneous_open() -> None:
    other = peer()
    other.open()
    other.send("S", 0)
    for ack in (0, 2):
        other.send("S.", 0, ack=ack)
        assert (other.state, other.events()) == ("SYN-RECEIVED", [])
    other.send("S.", 0, ack=1)
    assert (other.state, other.events()) == ("ESTABLISHED", ["established"])


def test_after_a_simultaneous_open_the_window_of_the_syn_holds_until_another_is_told() -> None:
    other = peer()
    other.open()
    other.send("S", 0, window=700)
    other.send("S.", 0, window=700)
    assert other.connection.sender.snd_wnd == 700


def test_a_fin_sent_again_that_acknowledges_ours_ends_the_connection__rfc9293_3_10_7_4() -> None:
    other = in_state("LAST-ACK")
    assert other.send("F.", 1, ack=2) == []
    assert other.events() == ["closed 0"]
    assert not other.stack.connections


@pytest.mark.parametrize("name", SYNCHRONIZED)
def test_an_exact_reset_ends_the_connection(name: str) -> None:
    other = in_state(name)
    assert other.send("R", next_seq(name)) == []
    error = {"CLOSING": 0, "LAST-ACK": 0, "CLOSE-WAIT": errno.EPIPE}.get(name, errno.ECONNRESET)
    assert other.events() == [f"closed {error}"]
    assert not other.stack.connections
    assert other.stack.next_deadline() is None


@pytest.mark.parametrize("name", SYNCHRONIZED)
def test_reset_in_the_window_but_not_exact_is_challenged__rfc5961_3_2(name: str) -> None:
    other = in_state(name)
    (challenge,) = other.send("R", next_seq(name) + 1)
    assert challenge.flags == "."
    assert challenge.ack == next_seq(name)
    assert other.events() == []


@pytest.mark.parametrize("name", SYNCHRONIZED)
def test_reset_outside_the_window_is_ignored__rfc5961_3_2(name: str) -> None:
    other = in_state(name)
    assert other.send("R", 0) == []
    assert other.send("R", next_seq(name) + (2 << 20)) == []
    assert other.events() == []
    assert other.stack.drops["rst_outside_window"] == 2


@pytest.mark.parametrize("name", SYNCHRONIZED)
def test_syn_in_the_window_is_challenged__rfc5961_4_2(name: str) -> None:
    other = in_state(name)
    (challenge,) = other.send("S", next_seq(name) + 5)
    assert (challenge.flags, challenge.ack) == (".", next_seq(name))
    assert other.state == name


@pytest.mark.parametrize("name", SYNCHRONIZED)
def test_ack_of_what_was_never_sent_is_challenged__rfc5961_5_2(name: str) -> None:
    other = in_state(name)
    (challenge,) = other.send(".", next_seq(name), b"x", ack=9000)
    assert (challenge.flags, challenge.ack) == (".", next_seq(name))
    assert other.events() == []
    assert other.connection.readable_bytes == 0


@pytest.mark.parametrize("name", SYNCHRONIZED)
def test_ack_older_than_any_window_is_challenged__rfc5961_5_2(name: str) -> None:
    other = in_state(name)
    (challenge,) = other.send(".", next_seq(name), b"x", ack=-70_000)
    assert (challenge.flags, challenge.ack) == (".", next_seq(name))
    assert other.events() == []


@pytest.mark.parametrize("name", [*SYNCHRONIZED, "SYN-RECEIVED"])
def test_segment_without_ack_is_dropped(name: str) -> None:
    other = in_state(name)
    assert other.send("", next_seq(name), b"x") == []
    assert other.state == name
    assert other.stack.drops["tcp_without_ack"] == 1


@pytest.mark.parametrize("name", SYNCHRONIZED)
def test_old_segment_is_answered_with_where_we_are(name: str) -> None:
    other = in_state(name)
    (ack,) = other.send(".", -10, b"0123456789")
    assert (ack.flags, ack.ack) == (".", next_seq(name))
    assert other.state == name


@pytest.mark.parametrize("name", ["CLOSE-WAIT", "CLOSING", "LAST-ACK"])
def test_retransmitted_fin_is_acknowledged_again(name: str) -> None:
    other = in_state(name)
    (ack,) = other.send("F.", 1)
    assert (ack.flags, ack.ack) == (".", 2)
    assert other.state == name


@pytest.mark.parametrize("name", ["CLOSE-WAIT", "CLOSING", "LAST-ACK"])
def test_text_after_fin_is_ignored(name: str) -> None:
    other = in_state(name)
    other.send(".", 2, b"more")
    assert other.connection.readable_bytes == 0
    assert other.state == name


@pytest.mark.parametrize("name", ["ESTABLISHED", "FIN-WAIT-1", "FIN-WAIT-2"])
def test_text_is_taken(name: str) -> None:
    other = in_state(name)
    other.send(".", 1, b"text")
    assert other.read() == b"text"


@pytest.mark.parametrize(
    ("name", "resets"),
    [
        ("SYN-SENT", False),
        ("SYN-RECEIVED", True),
        ("ESTABLISHED", True),
        ("FIN-WAIT-1", True),
        ("FIN-WAIT-2", True),
        ("CLOSE-WAIT", True),
        ("CLOSING", False),
        ("LAST-ACK", False),
    ],
)
def test_abort__rfc9293_3_10_5(name: str, resets: bool) -> None:
    other = in_state(name)
    other.connection.abort(other.now)
    sent = other.answers()
    assert [segment.flags for segment in sent] == (["R."] if resets else [])
    for reset in sent:
        assert reset.seq == (2 if name.startswith("FIN-WAIT") else 1)
    assert other.state == "CLOSED"
    assert other.events() == []
    assert not other.stack.connections
    assert other.stack.next_deadline() is None
    other.connection.abort(other.now)
    assert other.answers() == []


# --- SYN-SENT, RFC 9293 §3.10.7.3 ---


def test_syn_sent_answers_a_wrong_ack_with_reset() -> None:
    other = in_state("SYN-SENT")
    (reset,) = other.send("S.", 0, ack=7)
    assert (reset.flags, reset.seq) == ("R", 7)
    assert other.state == "SYN-SENT"


def test_syn_sent_ignores_a_reset_with_a_wrong_ack() -> None:
    other = in_state("SYN-SENT")
    assert other.send("R.", 0, ack=7) == []
    assert other.send("R", 0) == []
    assert other.state == "SYN-SENT"


def test_syn_sent_is_refused_by_a_reset_with_the_right_ack() -> None:
    other = in_state("SYN-SENT")
    assert other.send("R.", 0, ack=1) == []
    assert other.events() == [f"closed {errno.ECONNREFUSED}"]
    assert not other.stack.connections


def test_syn_sent_ignores_what_is_neither_syn_nor_reset() -> None:
    other = in_state("SYN-SENT")
    assert other.send(".", 0, ack=1) == []
    assert other.state == "SYN-SENT"


def test_closing_in_syn_sent_forgets_the_connection__rfc9293_3_10_4() -> None:
    other = in_state("SYN-SENT")
    other.connection.close(other.now)
    assert other.answers() == []
    assert other.events() == [f"closed {errno.ECONNABORTED}"]
    assert other.stack.next_deadline() is None


# --- SYN-RECEIVED ---


def test_retransmitted_syn_gets_the_syn_ack_again() -> None:
    other = in_state("SYN-RECEIVED")
    (again,) = other.send("S", 0)
    assert again.brief == ("S.", 0, 1, 0)
    assert other.state == "SYN-RECEIVED"


def test_so_does_one_with_text() -> None:
    other = in_state("SYN-RECEIVED")
    (again,) = other.send("S", 0, b"text")
    assert again.brief == ("S.", 0, 1, 0)
    assert other.state == "SYN-RECEIVED"


@pytest.mark.parametrize("family", [IPV4, IPV6], ids=["v4", "v6"])
def test_another_syn_after_a_passive_open_leads_back_to_listen__rfc9293_3_10_7_4(family: IpFamily) -> None:
    other = peer(family=family)
    other.knock()
    assert other.send("S", 10) == []
    assert other.events() == [f"closed {errno.ECONNRESET}"]
    assert not other.stack.connections
    assert other.stack.next_deadline() is None
    assert other.send("S", 10) == []
    assert other.events() == ["request"]


def test_another_syn_gives_back_the_place_at_the_listener() -> None:
    other = peer()
    listener = other.stack.listen(None, 80, backlog=1)
    for _ in range(3):
        assert [segment.flags for segment in other.send("S", 0)] == ["S."]
        assert other.send("S", 10) == []
        assert not listener.opening
    assert other.events() == []
    assert not other.stack.drops


def test_another_syn_in_a_simultaneous_open_is_challenged__rfc5961_4_2() -> None:
    other = peer()
    other.open()
    other.send("S", 0)
    (challenge,) = other.send("S", 10)
    assert (challenge.flags, challenge.ack) == (".", 1)
    assert other.state == "SYN-RECEIVED"


def test_syn_received_answers_a_wrong_ack_with_reset() -> None:
    other = in_state("SYN-RECEIVED")
    (reset,) = other.send(".", 1, ack=9)
    assert (reset.flags, reset.seq) == ("R", 9)
    assert other.state == "SYN-RECEIVED"


def test_an_old_segment_in_syn_received_establishes_nothing() -> None:
    other = in_state("SYN-RECEIVED")
    (ack,) = other.send(".", -5, b"12345", ack=1)
    assert (ack.flags, ack.ack) == (".", 1)
    assert other.state == "SYN-RECEIVED"


def test_reset_in_syn_received() -> None:
    other = in_state("SYN-RECEIVED")
    assert other.send("R", 1) == []
    assert not other.stack.connections


def test_the_ack_of_the_syn_ack_may_carry_text_and_fin() -> None:
    other = in_state("SYN-RECEIVED")
    other.send("F.", 1, b"all in one")
    assert other.events() == ["established", "readable", "fin"]
    assert other.read() == b"all in one"
    assert other.state == "CLOSE-WAIT"


def test_text_sent_and_closed_before_established_follows_the_handshake() -> None:
    other = in_state("SYN-RECEIVED")
    assert other.connection.send(b"hello", other.now) == 5
    other.connection.shutdown(other.now)
    assert other.answers() == []
    (text,) = other.send(".", 1)
    assert (text.data, text.brief) == (b"hello", ("F.", 1, 1, 5))
    assert other.state == "FIN-WAIT-1"


def test_text_waits_for_the_handshake_whatever_arrives_before() -> None:
    other = in_state("SYN-RECEIVED")
    assert other.connection.send(b"early", other.now) == 5
    assert [segment.brief for segment in other.send("S", 0)] == [("S.", 0, 1, 0)]
    other.send(".", -5, b"12345", ack=1)
    assert {segment.flags for segment in other.wait(5.0)} == {"S."}
    (text,) = other.send(".", 1)
    assert (text.seq, text.data) == (1, b"early")


def test_reset_after_a_simultaneous_open_is_a_refusal() -> None:
    other = peer()
    other.open()
    other.send("S", 0)
    other.send("R", 1)
    assert other.events() == [f"closed {errno.ECONNREFUSED}"]
