from __future__ import annotations

import pytest

from tunsmith.testing.script.given import GIVEN
from tunsmith.testing.script.parser import ScriptError, parse, parse_file
from tunsmith.testing.script.statements import (
    CheckLine,
    IcmpLine,
    OwnerLine,
    QuietLine,
    Range,
    SegmentLine,
    Statement,
    When,
)
from tunsmith.wire.tcp import ACK, FIN, PSH, SYN


def only(text: str) -> Statement:
    (statement,) = parse(text).statements
    return statement


def test_a_segment_with_everything() -> None:
    statement = only(
        "peer SYN,ACK 0+3 ack 7 win 100 urg 2 mss 1000 wscale 7 sackok ts 5/-1 sack 1:2 port 9 other damaged"
    )
    assert (statement.by, statement.when, statement.line) == ("peer", None, 1)
    assert statement.action == SegmentLine(
        flags=SYN | ACK,
        seq=0,
        length=3,
        ack=7,
        window=Range(100, 100),
        urgent=2,
        mss=1000,
        scale=7,
        sack_permitted=True,
        stamp=(5, -1),
        sack=((1, 2),),
        port=9,
        other=True,
        damaged=True,
    )


def test_an_expected_segment_leaves_open_what_it_does_not_name() -> None:
    statement = only("+0.1..0.2 stack FIN,PSH,ACK -3 win 1..9 ts any/7 no sack no mss")
    assert statement.when == When(Range(0.1, 0.2))
    assert statement.action == SegmentLine(
        FIN | PSH | ACK, -3, window=Range(1, 9), stamp=(None, 7), absent=frozenset({"sack", "mss"})
    )


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("peer none 5", SegmentLine(0, 5)),
        ("peer SYN 0 mss full", SegmentLine(SYN, 0, mss=0)),
        ("peer SYN 0 options fe04dead", SegmentLine(SYN, 0, raw=b"\xfe\x04\xde\xad")),
        ("peer SYN 0 ce", SegmentLine(SYN, 0, ecn=3)),
        ("peer icmp too-big mtu 1280 about 5", IcmpLine("too-big", 5, 1280)),
        ("peer icmp too-big mss 1200 about 5", IcmpLine("too-big", 5, mss=1200)),
        ("stack icmp host", IcmpLine("host")),
        ("owner listen", OwnerLine("listen")),
        ("owner unreachable host", OwnerLine("unreachable", ("host",))),
        ("owner send 10 takes 5", OwnerLine("send", number=10, takes=5)),
        ("owner send 10 fails EPIPE", OwnerLine("send", number=10, fails="EPIPE")),
        ("quiet 1.5", QuietLine(1.5)),
        (
            "check state TIME-WAIT, cwnd 4..6, told fin closed",
            CheckLine((("state", "TIME-WAIT"), ("cwnd", Range(4, 6)), ("told", "fin closed"))),
        ),
    ],
)
def test_lines(text: str, action: object) -> None:
    assert only(text).action == action
    assert only(f"  {text}  # because").action == action


def test_a_train_of_segments_is_one_line() -> None:
    first, last = parse("+1 stack ACK,PSH 1+1000x2 ack 1").statements
    assert first.action == SegmentLine(ACK, 1, 1000, ack=1)
    assert last.action == SegmentLine(ACK | PSH, 1001, 1000, ack=1)
    assert (first.when, last.when) == (When(Range(1, 1)), None)


def test_times_are_relative_or_absolute() -> None:
    assert only("+1 owner close").when == When(Range(1, 1))
    assert only("@2.5 owner close").when == When(Range(2.5, 2.5), absolute=True)


def test_the_heading_names_rules() -> None:
    script = parse(
        "# RFC 1 §2 first: it holds\n# RFC 3 §4: this too: really\n# a remark\nkernel\n\nquiet 1\n"
    )
    assert script.clauses == [("RFC 1 §2 first", "it holds"), ("RFC 3 §4", "this too: really")]
    assert script.kernel
    assert [statement.line for statement in script.statements] == [6]


def test_settings() -> None:
    assert parse("with sack on, mtu 1400\nwith retries 3").settings == {
        "sack": "on",
        "mtu": "1400",
        "retries": "3",
    }


@pytest.mark.parametrize("state", GIVEN)
def test_a_state_stands_for_the_lines_that_lead_to_it(state: str) -> None:
    script = parse(f"given {state}", "a.script")
    assert script.statements
    assert script.statements[0].place == f"a.script:1: given {state}:1"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("mail SYN 0", "a line begins with one of with, given, kernel, peer, stack, owner, check, quiet"),
        ("peer", "the flags of a segment is missing"),
        ("peer SIN 0", "'SIN' is no flag"),
        ("peer SYN", "a sequence number is missing"),
        ("peer SYN x", "a sequence number should be a number, not 'x'"),
        ("peer SYN 0+", "a length should be a number, not ''"),
        ("peer ACK 1", "a segment with ACK needs `ack`"),
        ("peer ACK 1 ack x", "ack should be a whole number, not 'x'"),
        ("peer SYN 0 nonsense", "a segment has no field 'nonsense'"),
        ("peer SYN 0 no mss", "`no` is for segments that are expected"),
        ("stack SYN 0 no luck", "`no` is followed by one of"),
        ("stack ACK 1 other", "`other` and `damaged` are for the peer"),
        ("peer SYN 0 ts 5", "ts is VALUE/ECHO, not '5'"),
        ("peer SYN 0 sack", "sack is followed by blocks"),
        ("peer SYN 0 mss 70000", "mss is 0 to 65535, not 70000"),
        ("peer SYN 0 win 70000", "win is 0 to 65535"),
        ("peer none 0+70000", "a segment has 0 to 65000 bytes of text"),
        ("stack ACK 0+1x0", "1 to 1000 segments go in a line"),
        ("peer SYN 0 ts 1/2 sack 1:2 1:2 1:2 1:2", "these options take 48 bytes, and there are 40"),
        ("peer SYN 0 options xx", "options are hexadecimal"),
        ("peer SYN 0 options 0101", "options are up to ten whole words"),
        ("peer icmp nonsense about 1", "'nonsense' is no ICMP error"),
        ("peer icmp host", "an error of the peer is `about` a segment"),
        ("owner sing", "'sing' is no call"),
        ("owner send", "a number of bytes is missing"),
        ("owner send 1 fails EFOO", "'EFOO' is no error"),
        ("check state", "the value of state is missing"),
        ("check cwnd 5..4", "cwnd: 5..4 ends before it begins"),
        ("quiet", "a number of seconds is missing"),
        ("quiet 1 2", "'2' is not understood here"),
        ("given PARADISE", "given one of"),
        ("+1 given LISTEN", "'given' has no time"),
        ("+x quiet 1", "a time should be a number"),
        ("+1..2 peer SYN 0", "only what the stack sends may come within a range of times"),
        ("quiet 1\nkernel", "'kernel' comes before anything happens"),
    ],
)
def test_errors_say_where_and_why(text: str, why: str) -> None:
    with pytest.raises(ScriptError) as caught:
        parse(text, "a.script")
    place, message = str(caught.value).split(": ", 1)
    assert place == f"a.script:{len(text.splitlines())}"
    assert message.startswith(why)
    assert message.endswith(text.splitlines()[-1])


def test_files_are_named_as_they_were_given(tmp_path) -> None:
    path = tmp_path / "x.script"
    path.write_text("quiet\n")
    with pytest.raises(ScriptError, match=str(path)):
        parse_file(path)
