"""Options of the handshake: MSS and window scale, RFC 9293 §3.7.1, RFC 7323 §2."""

from __future__ import annotations

import pytest

from tests.stack.tcp.peer import peer
from tests.stack.tcp.receiving import MSS
from tunsmith.wire.tcp import TcpOptions


@pytest.mark.parametrize("theirs", [536, 1000, 1460, 9000])
def test_segments_are_no_longer_than_either_side_allows(theirs: int) -> None:
    other = peer()
    synack = other.knock(options=TcpOptions(mss=theirs))
    assert synack.options.mss == MSS
    other.send(".", 1)
    assert other.take(bytes(20_000))[0].gso_size == min(theirs, MSS)


def test_without_an_mss_option_it_is_536__rfc9293_3_7_1() -> None:
    other = peer()
    other.knock(options=TcpOptions())
    assert other.connection.sender.mss == 536


def test_an_absurd_mss_is_no_denial_of_service() -> None:
    other = peer()
    other.knock(options=TcpOptions(mss=1))
    assert other.connection.sender.mss == 32


def test_timestamps_come_out_of_the_segment() -> None:
    other = peer(timestamps=True)
    other.stamp = 1
    other.establish()
    assert other.connection.sender.mss == MSS - 12


def test_the_window_of_a_syn_is_never_scaled__rfc7323_2_2() -> None:
    other = peer(window_scaling=True, receive_buffer=1 << 20)
    synack = other.knock(window=500, options=TcpOptions(mss=MSS, window_scale=7))
    assert synack.options.window_scale == 4
    assert synack.window == 65535
    other.send(".", 1, window=500)
    assert other.connection.sender.snd_wnd == 500 << 7
    (ack,) = other.send(".", 500, b"gap")
    assert ack.window == 65535


def test_the_window_of_the_answer_to_our_syn_is_not_scaled_either() -> None:
    other = peer(window_scaling=True)
    other.open()
    other.send("S.", 0, window=500, options=TcpOptions(mss=MSS, window_scale=7))
    assert other.connection.sender.snd_wnd == 500
    other.send(".", 1, b"x", window=500)
    assert other.connection.sender.snd_wnd == 500 << 7


def test_no_scaling_unless_both_want_it() -> None:
    for ours, theirs in ((True, None), (False, 7)):
        other = peer(window_scaling=ours, receive_buffer=1 << 20)
        synack = other.knock(options=TcpOptions(mss=MSS, window_scale=theirs))
        assert synack.options.window_scale is None
        other.send(".", 1, window=500)
        assert other.connection.sender.snd_wnd == 500
        (ack,) = other.send(".", 500, b"gap")
        assert ack.window == 65535


@pytest.mark.parametrize(
    ("buffer", "scale"), [(1000, 0), (65535, 0), (65536, 0), (65537, 1), (1 << 20, 4), (1 << 22, 6)]
)
def test_the_scale_is_the_least_that_tells_the_buffer(buffer: int, scale: int) -> None:
    other = peer(window_scaling=True, receive_buffer=buffer)
    assert other.open().options.window_scale == scale
