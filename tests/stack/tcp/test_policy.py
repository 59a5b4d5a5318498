"""Options of one connection, and what they do in time."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from tests.stack.packets import FAMILIES, name
from tests.stack.tcp.peer import PORTS, Peer, Segment, peer
from tunsmith.errors import LocalError
from tunsmith.stack.tcp.policy import Keepalive, Options
from tunsmith.wire.ip import IpFamily, parse_ip
from tunsmith.wire.tcp import TcpOptions
from tunsmith.wire.vnet import VNET_HDR_LEN

both = pytest.mark.parametrize("family", FAMILIES, ids=name)
KEEPALIVE = Keepalive(idle=100.0, interval=10.0, count=3)


def established(options: Options | None = None, **settings: Any) -> Peer:
    """A connection whose RTT is nought; with `options` that are set afterwards."""
    other = peer(**settings)
    other.establish()
    if options is not None:
        other.connection.set_options(options, other.now)
    return other


def briefs(segments: list[Segment]) -> list[tuple[str, int, int, int]]:
    return [segment.brief for segment in segments]


def headers(other: Peer) -> list[tuple[int, int]]:
    """Traffic class and TTL of what has been sent."""
    parsed = [parse_ip(frame[VNET_HDR_LEN:]) for frame in other.stack.frames_to_send()]
    return [(header.traffic_class, header.ttl) for header in parsed]


# --- names and values ---


def test_options_are_read_and_set_by_name() -> None:
    other = established(receive_buffer=1000, send_buffer=2000, no_delay=False, fin_wait_2=3.0)
    connection = other.connection
    assert connection.policy is None
    assert connection.options == Options(
        receive_buffer=1000, send_buffer=2000, nodelay=False, fin_wait_2=3.0, path_mtu_discovery=True
    )
    for option, value in {
        "linger": 5.0,
        "keepalive": KEEPALIVE,
        "receive_buffer": 70,
        "send_buffer": 80,
        "nodelay": True,
        "cork": True,
        "mss": 500,
        "user_timeout": 9.0,
        "fin_wait_2": 4.0,
        "traffic_class": 0x20,
        "ttl": 9,
    }.items():
        connection.set(option, value, other.now)
        assert connection.get(option) == value
    assert connection.options.linger == 5.0


def test_what_is_no_option_and_what_is_no_value() -> None:
    other = established()
    for option, value, code in (
        ("colour", 1, errno.ENOPROTOOPT),
        ("linger", "long", errno.EINVAL),
        ("ttl", 0, errno.EINVAL),
        ("ttl", 256, errno.EINVAL),
        ("traffic_class", 1, errno.EINVAL),
        ("mss", 87, errno.EINVAL),
        ("keepalive", Keepalive(idle=0.0), errno.EINVAL),
        ("keepalive", Keepalive(count=0), errno.EINVAL),
        ("user_timeout", 0.0, errno.EINVAL),
        ("linger", -1.0, errno.EINVAL),
        ("receive_buffer", 0, errno.EINVAL),
        ("send_buffer", 0, errno.EINVAL),
        ("fin_wait_2", -1.0, errno.EINVAL),
    ):
        with pytest.raises(LocalError) as caught:
            other.connection.set(option, value, other.now)
        assert caught.value.errno == code
    with pytest.raises(LocalError):
        other.connection.get("colour")


def test_options_of_a_connection_that_is_over_are_kept_and_do_nothing() -> None:
    other = established()
    other.connection.abort(other.now)
    other.connection.set_options(Options(keepalive=KEEPALIVE), other.now)
    assert other.stack.next_deadline() is None


# --- TOS and TTL ---


@both
def test_traffic_class_and_ttl_from_the_syn_on(family: IpFamily) -> None:
    other = peer(family=family)
    options = Options(traffic_class=0x48, ttl=7)
    other.connection = other.stack.connect(
        other.destination, PORTS[1], other.source, PORTS[0], other.now, options=options
    )
    assert headers(other) == [(0x48, 7)]


def test_traffic_class_and_ttl_of_what_is_listened_for_and_of_a_flow() -> None:
    other = peer()
    options = Options(traffic_class=0x48, ttl=7)
    other.stack.listen(None, PORTS[1], options=options)
    other.stack.receive(other.packet("S", 0), other.now)
    assert headers(other) == [(0x48, 7)]
    other = peer()
    assert other.request().accept(None, other.now, options) is not None
    assert headers(other) == [(0x48, 7)]


def test_traffic_class_and_ttl_change_at_once() -> None:
    other = established()
    other.connection.send(b"text", other.now)
    other.connection.set("ttl", 3, other.now)
    other.connection.send(b"text", other.now)
    assert headers(other) == [(0, 64), (0, 3)]


# --- maximum segment size ---


def test_the_mss_is_told_and_held_when_it_is_set_before_the_handshake__rfc9293_3_7_1() -> None:
    other = peer()
    other.stack.connect(
        other.destination, PORTS[1], other.source, PORTS[0], other.now, options=Options(mss=700)
    )
    (syn,) = other.answers()
    assert syn.options.mss == 700
    other.ack = 1
    other.send("S.", 0)
    (connection,) = other.stack.connections.values()
    assert connection.sender.mss == 700


def test_the_mss_is_lowered_at_any_time_and_never_raised() -> None:
    other = established(Options(mss=600))
    assert [segment.gso_size for segment in other.take(bytes(1200))] == [600]
    other.connection.set("mss", 1000, other.now)
    assert [segment.gso_size for segment in other.take(bytes(1200))] == [600]


# --- buffers ---


def test_the_receive_buffer_before_the_handshake_decides_the_scale__rfc7323_2_3() -> None:
    other = peer(window_scaling=True)
    options = Options(receive_buffer=1 << 24)
    other.stack.connect(other.destination, PORTS[1], other.source, PORTS[0], other.now, options=options)
    (syn,) = other.answers()
    assert syn.options.window_scale == 8


def test_the_scale_stays_as_told_when_the_buffer_changes_while_opening() -> None:
    other = peer(window_scaling=True, receive_buffer=1 << 17)
    syn = other.open()
    assert syn.options.window_scale == 1
    other.connection.set("receive_buffer", 1 << 24, other.now)
    other.send("S.", 0, options=TcpOptions(mss=1460, window_scale=0))
    assert other.connection.rcv_scale == 1
    other.connection.set("receive_buffer", 1 << 24, other.now)
    assert other.connection.get("receive_buffer") == 65535 << 1


def test_a_smaller_receive_buffer_does_not_take_back_the_window__rfc9293_3_8_6() -> None:
    other = established(receive_buffer=10_000)
    other.connection.set("receive_buffer", 1000, other.now)
    (answer,) = other.send(".", 1, bytes(4000))
    assert (answer.ack, answer.window) == (4001, 6000)


def test_a_larger_send_buffer_takes_more() -> None:
    other = established(send_buffer=100)
    other.window = 0
    assert other.connection.send(bytes(200), other.now) == 100
    assert other.events() == []
    other.connection.set("send_buffer", 150, other.now)
    assert other.events() == ["writable"]
    assert other.connection.send(bytes(200), other.now) == 50


def test_a_scale_of_nought_is_told_all_the_same__rfc7323_2_2() -> None:
    """Without the option on the SYN-ACK the peer would not scale, while we went on to believe that it does."""
    other = peer(window_scaling=True, receive_buffer=1000)
    synack = other.knock(options=TcpOptions(mss=1460, window_scale=7))
    assert synack.options.window_scale == 0


# --- nodelay and cork ---


def test_nodelay_is_switched_on_and_lets_go_what_nagle_held() -> None:
    other = established(Options(nodelay=False))
    assert len(other.take(b"one")) == 1
    assert other.take(b"two") == []
    other.connection.set("nodelay", True, other.now)
    assert briefs(other.answers()) == [(".", 4, 1, 3)]


def test_a_corked_connection_sends_whole_segments_only() -> None:
    other = established(Options(cork=True))
    assert other.take(bytes(1000)) == []
    assert briefs(other.take(bytes(2000))) == [(".", 1, 1, 2920)]
    assert other.connection.unsent_bytes == 80
    other.connection.set("cork", False, other.now)
    assert briefs(other.answers()) == [(".", 2921, 1, 80)]


def test_shutdown_pulls_the_cork() -> None:
    other = established(Options(cork=True))
    other.connection.send(b"last", other.now)
    other.connection.shutdown(other.now)
    assert briefs(other.answers()) == [("F.", 1, 1, 4)]


def test_a_cork_is_pulled_after_a_retransmission_timeout() -> None:
    other = established(Options(cork=True))
    assert other.take(b"forgotten") == []
    (sent,) = other.tick()
    assert sent.data == b"forgotten"


def test_more_to_come() -> None:
    other = established()
    assert other.connection.send(b"head", other.now, more=True) == 4
    assert other.answers() == []
    assert [segment.data for segment in other.take(b"body")] == [b"headbody"]
    assert briefs(other.take(b"next")) == [(".", 9, 1, 4)]


def test_more_to_come_behind_whole_segments() -> None:
    other = established()
    other.connection.send(bytes(1500), other.now, more=True)
    assert briefs(other.answers()) == [(".", 1, 1, 1460)]
    other.connection.send(b"", other.now, end=True)
    assert briefs(other.answers()) == [("F.", 1461, 1, 40)]


def test_what_was_sent_once_is_sent_again_whatever_the_cork_says() -> None:
    other = established()
    other.take(b"lost")
    other.connection.set("cork", True, other.now)
    assert briefs(other.tick()) == [(".", 1, 1, 4)]


def test_corked_text_that_fills_the_buffer_leaves() -> None:
    other = established(Options(cork=True), send_buffer=500)
    assert briefs(other.take(bytes(500))) == [(".", 1, 1, 500)]


# --- keepalive, RFC 9293 §3.8.4 ---


def test_a_silent_peer_is_asked_and_given_up() -> None:
    other = established(Options(keepalive=KEEPALIVE))
    assert other.wait(99.9) == []
    for pause in (0.1, 10.0, 10.0):
        assert briefs(other.wait(pause)) == [(".", 0, 1, 0)]
    (reset,) = other.wait(10.0)
    assert reset.flags == "R."
    assert other.connection.error == errno.ETIMEDOUT


def test_an_answer_begins_the_silence_anew() -> None:
    other = established(Options(keepalive=KEEPALIVE))
    assert len(other.wait(110.0)) == 2
    other.send(".", 1)
    assert other.wait(99.9) == []
    assert len(other.wait(20.1)) == 3
    assert other.connection.connected


def test_any_segment_breaks_the_silence() -> None:
    other = established(Options(keepalive=KEEPALIVE))
    other.wait(60.0)
    other.send(".", 1, b"text")
    assert [segment.ack for segment in other.wait(1.0)] == [5]
    assert other.wait(98.9) == []
    assert len(other.wait(0.1)) == 1


def test_text_on_its_way_asks_by_itself() -> None:
    """Its retransmissions do, RFC 9293 §3.8.4: a keepalive is only for an idle connection."""
    other = established(Options(keepalive=Keepalive(idle=0.5, interval=0.1, count=1)))
    other.take(b"text")
    assert all(segment.data for segment in other.wait(3.0))
    assert other.connection.connected


def test_keepalive_is_switched_off() -> None:
    other = established(Options(keepalive=KEEPALIVE))
    other.wait(105.0)
    other.connection.set("keepalive", None, other.now)
    assert other.stack.next_deadline() is None


def test_a_connection_that_is_opening_is_not_asked() -> None:
    other = peer(syn_retries=20)
    options = Options(keepalive=Keepalive(idle=0.1, interval=0.1, count=1))
    other.stack.connect(other.destination, PORTS[1], other.source, PORTS[0], other.now, options=options)
    assert {segment.flags for segment in other.wait(2.0)} == {"S"}


# --- user timeout, RFC 9293 §3.8.3, RFC 5482 ---


def test_text_that_nobody_acknowledges_for_so_long_ends_the_connection() -> None:
    other = established(Options(user_timeout=5.0))
    begin = other.now
    other.take(b"text")
    other.wait(4.9)
    assert other.connection.connected
    other.wait(0.2)
    assert other.connection.error == errno.ETIMEDOUT
    assert other.now - begin < 5.2


def test_the_user_timeout_is_instead_of_the_retries() -> None:
    other = established(Options(user_timeout=1000.0), retries=2)
    other.take(b"text")
    other.wait(900.0)
    assert other.connection.connected


def test_progress_begins_the_user_timeout_anew() -> None:
    other = established(Options(user_timeout=5.0))
    other.take(b"text")
    other.wait(4.5)
    other.ack = 3
    other.send(".", 1)
    other.wait(4.0)
    assert other.connection.connected
    other.ack = 5
    other.send(".", 1)
    assert other.wait(10.0) == []
    assert other.connection.connected


def test_a_window_that_stays_closed_counts_as_no_progress() -> None:
    other = established(Options(user_timeout=5.0))
    other.window = 0
    other.take(b"text")
    other.send(".", 1, ack=5)
    other.ack = 5
    other.connection.send(b"stuck", other.now)
    for _ in range(20):
        for probe in other.wait(0.25):
            assert probe.brief[1:3] == (5, 1)
            other.send(".", 1)
    assert other.connection.error == errno.ETIMEDOUT


def test_an_opening_that_nobody_answers_ends_with_the_user_timeout() -> None:
    other = peer()
    other.connection = other.stack.connect(
        other.destination, PORTS[1], other.source, PORTS[0], other.now, options=Options(user_timeout=4.0)
    )
    other.wait(3.9)
    assert other.connection.in_progress
    other.wait(0.2)
    assert other.connection.error == errno.ETIMEDOUT


# --- linger ---


def test_lingering_for_no_time_resets() -> None:
    other = established(Options(linger=0.0))
    other.take(b"text")
    other.connection.close(other.now)
    assert [segment.flags for segment in other.answers()] == ["R."]
    assert other.events() == [f"closed {errno.ECONNABORTED}"]


def test_lingering_ends_with_a_reset_when_the_peer_has_not_got_everything() -> None:
    other = established(Options(linger=2.0))
    other.take(b"text")
    other.connection.close(other.now)
    assert "R." not in [segment.flags for segment in other.wait(1.9)]
    assert [segment.flags for segment in other.wait(0.1)] == ["R."]
    assert other.connection.error == errno.ETIMEDOUT


def test_lingering_is_over_once_the_peer_has_everything() -> None:
    other = established(Options(linger=2.0, fin_wait_2=7.0))
    other.connection.close(other.now)
    other.answers()
    other.ack = 2
    other.send(".", 1)
    assert other.state == "FIN-WAIT-2"
    assert other.wait(6.9) == []
    assert other.state == "FIN-WAIT-2"
    assert other.wait(0.1) == []
    assert other.events() == ["closed 0"]


# --- FIN-WAIT-2 ---


def test_the_limit_of_fin_wait_2_is_the_connections_own() -> None:
    other = established(Options(fin_wait_2=3.0))
    other.connection.shutdown(other.now)
    other.answers()
    other.ack = 2
    other.send(".", 1)
    other.connection.close(other.now)
    other.wait(2.9)
    assert other.state == "FIN-WAIT-2"
    other.wait(0.1)
    assert other.state == "CLOSED"


def test_the_limit_of_fin_wait_2_is_the_stacks_where_the_options_say_nothing() -> None:
    other = established(Options(ttl=9), fin_wait_2=3.0)
    other.connection.close(other.now)
    other.answers()
    other.ack = 2
    other.send(".", 1)
    other.wait(3.0)
    assert other.state == "CLOSED"


def test_options_that_come_late_do_not_make_fin_wait_2_last_for_ever() -> None:
    other = established(fin_wait_2=3.0)
    other.connection.close(other.now)
    other.answers()
    other.ack = 2
    other.send(".", 1)
    other.connection.set("ttl", 9, other.now)
    other.wait(3.0)
    assert other.state == "CLOSED"


def test_a_fin_in_time_makes_the_limit_of_fin_wait_2_void() -> None:
    other = established(Options(fin_wait_2=3.0))
    other.connection.close(other.now)
    other.answers()
    other.ack = 2
    other.send("F.", 1)
    assert other.state == "CLOSED"
    assert other.stack.time_waits.records
