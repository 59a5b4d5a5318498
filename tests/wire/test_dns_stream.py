"""Messages in a stream, RFC 7766 §8."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from tunsmith.wire.dns_stream import Deframer, frame

messages = st.lists(st.binary(min_size=1, max_size=300), max_size=8)


@given(messages, st.lists(st.integers(0, 2500), max_size=12))
def test_messages_come_out_whole_however_the_stream_is_cut(sent, cuts):
    stream = b"".join(map(frame, sent))
    bounds = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    deframer = Deframer()
    received = [m for a, b in itertools.pairwise(bounds) for m in deframer.feed(stream[a:b])]
    assert received == sent
    assert not deframer.unfinished


@given(st.lists(st.binary(max_size=70000), max_size=4))
def test_random_bytes_never_raise_and_at_most_one_message_is_kept(chunks):
    deframer = Deframer()
    for chunk in chunks:
        deframer.feed(memoryview(chunk))
        assert len(deframer._pending) < 2 + 65535


def test_empty_messages_are_skipped():
    assert Deframer().feed(b"\0\0\0\0" + frame(b"x")) == [b"x"]


def test_a_stream_that_ends_amid_a_message_shows():
    deframer = Deframer()
    assert deframer.feed(frame(b"whole") + b"\0") == [b"whole"]
    assert deframer.unfinished


def test_a_message_comes_out_with_its_last_byte():
    deframer = Deframer()
    octets = frame(b"message")
    assert [deframer.feed(octets[at : at + 1]) for at in range(len(octets))] == [[]] * 8 + [[b"message"]]
    assert not deframer.unfinished
