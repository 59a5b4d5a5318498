"""What a line says about a segment, or about an ICMP error: `SYN,ACK 0 ack 1 mss 1000`, `icmp port about 1`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tunsmith.testing.script.statements import FLAGS, IcmpLine, Range, SegmentLine
from tunsmith.testing.script.wire import word_of
from tunsmith.testing.script.words import Words, Wrong, number_in
from tunsmith.wire.icmp import IcmpError

LONGEST_TEXT = 65000
LONGEST_TRAIN = 1000
ROOM = 40
"""Bytes for the options of a segment."""
OPTIONS = ("mss", "wscale", "sackok", "ts", "sack", "ect")
ECT0, CE = 2, 3
"""Codepoints of RFC 3168 §5."""


def read_segment(words: Words) -> SegmentLine | IcmpLine:
    """What the peer sends or the stack must send. Raises Wrong."""
    if words.skip("icmp"):
        return _icmp(words)
    flags = _flags(words)
    seq, plus, extent = words.take("a sequence number").partition("+")
    length, times, count = extent.partition("x")
    fields: dict[str, Any] = {
        "flags": flags,
        "seq": int(number_in(seq, "a sequence number")),
        "length": int(number_in(length, "a length")) if plus else 0,
        "count": int(number_in(count, "a number of segments")) if times else 1,
    }
    if not 0 <= fields["length"] <= LONGEST_TEXT:
        raise Wrong(f"a segment has 0 to {LONGEST_TEXT} bytes of text")
    if not 1 <= fields["count"] <= LONGEST_TRAIN:
        raise Wrong(f"1 to {LONGEST_TRAIN} segments go in a line")
    absent = set()
    while words:
        name = words.take("a field")
        if name == "no":
            absent.add(words.take("the name of an option"))
            if not absent <= set(OPTIONS):
                raise Wrong(f"`no` is followed by one of {', '.join(OPTIONS)}")
        elif name in FIELDS:
            key, read = FIELDS[name]
            fields[key] = read(words)
        else:
            raise Wrong(f"a segment has no field {name!r}: there are {', '.join(FIELDS)}")
    return SegmentLine(**fields, absent=frozenset(absent))


def _flags(words: Words) -> int:
    if words.skip("none"):
        return 0
    bits = 0
    while True:
        word = words.take("the flags of a segment")
        if word not in FLAGS:
            raise Wrong(f"{word!r} is no flag: there are {', '.join(FLAGS)}, or none")
        bits |= FLAGS[word]
        if not words.skip(","):
            return bits


def _mss(words: Words) -> int:
    return 0 if words.skip("full") else words.integer("mss", 65535)


def _window(words: Words) -> Range:
    span = words.span("win")
    if span.low < 0 or span.high > 65535:
        raise Wrong("win is 0 to 65535")
    return span


def _stamp(words: Words) -> tuple[int | None, int | None]:
    word = words.take("ts")
    value, slash, echo = word.partition("/")
    if not slash:
        raise Wrong(f"ts is VALUE/ECHO, not {word!r}")
    numbers = [None if part == "any" else int(number_in(part, "ts")) for part in (value, echo)]
    return numbers[0], numbers[1]


def _blocks(words: Words) -> tuple[tuple[int, int], ...]:
    blocks = []
    while ":" in words.next:
        left, _, right = words.take("a block").partition(":")
        blocks.append((int(number_in(left, "a block")), int(number_in(right, "a block"))))
    if not blocks:
        raise Wrong("sack is followed by blocks, LEFT:RIGHT")
    return tuple(blocks)


def _raw(words: Words) -> bytes:
    word = words.take("options")
    try:
        octets = bytes.fromhex(word)
    except ValueError:
        raise Wrong(f"options are hexadecimal, not {word!r}") from None
    if len(octets) % 4 or len(octets) > 40:
        raise Wrong("options are up to ten whole words")
    return octets


def _yes(_: Words) -> bool:
    return True


FIELDS: dict[str, tuple[str, Callable[[Words], Any]]] = {
    "ack": ("ack", lambda words: words.integer("ack")),
    "win": ("window", _window),
    "urg": ("urgent", lambda words: words.integer("urg", 65535)),
    "mss": ("mss", _mss),
    "wscale": ("scale", lambda words: words.integer("wscale", 255)),
    "sackok": ("sack_permitted", _yes),
    "ts": ("stamp", _stamp),
    "sack": ("sack", _blocks),
    "options": ("raw", _raw),
    "port": ("port", lambda words: words.integer("port", 65535)),
    "ect": ("ecn", lambda _: ECT0),
    "ce": ("ecn", lambda _: CE),
    "other": ("other", _yes),
    "damaged": ("damaged", _yes),
}


def _icmp(words: Words) -> IcmpLine:
    error = words.take("an ICMP error")
    names = [word_of(each) for each in IcmpError]
    if error not in names:
        raise Wrong(f"{error!r} is no ICMP error: there are {', '.join(names)}")
    mtu = words.integer("mtu") if words.skip("mtu") else 0
    mss = words.integer("mss") if words.skip("mss") else 0
    seq = words.integer("a sequence number") if words.skip("about") else None
    return IcmpLine(error, seq, mtu, mss)


def train(line: SegmentLine) -> list[SegmentLine]:
    """The segments that `1+1000x3` stands for, PSH on the last."""
    inner = replace(line, flags=line.flags & ~FLAGS["PSH"], count=1)
    segments = [replace(inner, seq=line.seq + number * line.length) for number in range(line.count)]
    return [*segments[:-1], replace(segments[-1], flags=line.flags)]


def _check_room(line: SegmentLine) -> None:
    needed = 4 * ((line.mss is not None) + (line.scale is not None) + line.sack_permitted)
    needed += 12 * (line.stamp is not None) + (4 + 8 * len(line.sack) if line.sack else 0)
    if needed > ROOM:
        raise Wrong(f"these options take {needed} bytes, and there are {ROOM}")


def check_side(by: str, action: SegmentLine | IcmpLine) -> None:
    """Whether `by`, peer or stack, can have that line. Raises Wrong."""
    if isinstance(action, IcmpLine):
        if by == "peer" and action.seq is None:
            raise Wrong("an error of the peer is `about` a segment")
        return
    _check_room(action)
    if by == "peer":
        if action.absent:
            raise Wrong("`no` is for segments that are expected")
        if action.flags & FLAGS["ACK"] and action.ack is None:
            raise Wrong("a segment with ACK needs `ack`")
    elif action.other or action.damaged:
        raise Wrong("`other` and `damaged` are for the peer")
