"""Text of a packet script to a `Script`. Pure; whatever is wrong is a `ScriptError` with file and line.

    # RFC 5961 §3.2: a RST in the window, but not at its left edge, is challenged
    kernel
    with timestamps on
    given ESTABLISHED
          peer  RST 100
          stack ACK 1 ack 1
    +0.5  check state ESTABLISHED

The grammar is in docs/testing.md.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunsmith.testing.script.given import GIVEN
from tunsmith.testing.script.statements import (
    FLAGS,
    Action,
    CheckLine,
    IcmpLine,
    OwnerLine,
    QuietLine,
    Range,
    Script,
    SegmentLine,
    Statement,
    When,
)
from tunsmith.testing.script.wire import word_of
from tunsmith.wire.icmp import IcmpError

CLAUSE = re.compile(r"# (RFC \d+[^:]*?): (\S.*)")
NUMBER = re.compile(r"-?\d+(\.\d+)?")
UNBOUNDED = 1 << 64
LONGEST_TEXT = 65000
LONGEST_TRAIN = 1000
ROOM = 40
"""Bytes for the options of a segment."""
OPTIONS = ("mss", "wscale", "sackok", "ts", "sack")
CALLS_WITH_NUMBER = frozenset({"send", "read", "peek"})
CALLS = CALLS_WITH_NUMBER | {
    "listen",
    "accept",
    "refuse",
    "unreachable",
    "drop",
    "connect",
    "shutdown",
    "close",
    "abort",
    "set",
}
LINES = ("with", "given", "kernel", "peer", "stack", "owner", "check", "quiet")


class ScriptError(Exception):
    """A script that cannot be understood; says where and why."""


class _Wrong(Exception):
    """What is wrong with a line."""


def parse_file(path: Path) -> Script:
    """The script in `path`. Raises ScriptError, OSError."""
    return parse(path.read_text(), str(path))


def parse(text: str, file: str = "script") -> Script:
    """The script that `text` is. Raises ScriptError."""
    script = Script(file)
    for number, line in enumerate(text.splitlines(), 1):
        if match := CLAUSE.match(line):
            script.clauses.append((match[1], match[2]))
        words = line.partition("#")[0].replace(",", " , ").split()
        if words:
            try:
                _parse_line(script, _Words(words), Statement(file, number, line.strip(), "", QuietLine(0.0)))
            except _Wrong as wrong:
                raise ScriptError(f"{file}:{number}: {wrong}\n    {line.strip()}") from None
    return script


class _Words:
    """The words of a line, taken one after the other."""

    def __init__(self, words: list[str]) -> None:
        self._words = words
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._words)

    @property
    def next(self) -> str:
        return self._words[self._at] if self else ""

    def take(self, what: str) -> str:
        """The next word; `what` is what it should be."""
        if not self:
            raise _Wrong(f"{what} is missing")
        self._at += 1
        return self._words[self._at - 1]

    def skip(self, word: str) -> bool:
        """Take the next word if it is `word`."""
        if self.next != word:
            return False
        self._at += 1
        return True

    def integer(self, what: str, most: int = UNBOUNDED) -> int:
        word = self.take(what)
        try:
            number = int(word, 0)
        except ValueError:
            raise _Wrong(f"{what} should be a whole number, not {word!r}") from None
        if most < UNBOUNDED and not 0 <= number <= most:
            raise _Wrong(f"{what} is 0 to {most}, not {number}")
        return number

    def seconds(self, what: str) -> float:
        return _number(self.take(what), what)

    def end(self) -> None:
        if self:
            raise _Wrong(f"{self.next!r} is not understood here")


def _number(word: str, what: str) -> float:
    if not NUMBER.fullmatch(word):
        raise _Wrong(f"{what} should be a number, not {word!r}")
    return float(word)


def _range(word: str, what: str) -> Range:
    low, dots, high = word.partition("..")
    first = _number(low, what)
    span = Range(first, _number(high, what) if dots else first)
    if span.high < span.low:
        raise _Wrong(f"{what}: {word} ends before it begins")
    return span


def _parse_line(script: Script, words: _Words, line: Statement) -> None:
    when = None
    if words.next[0] in "+@":
        word = words.take("a time")
        when = When(_range(word[1:], "a time"), absolute=word[0] == "@")
    kind = words.take("what happens")
    if kind not in LINES:
        raise _Wrong(f"a line begins with one of {', '.join(LINES)}, not with {kind!r}")
    if kind in ("with", "given", "kernel"):
        if when is not None:
            raise _Wrong(f"{kind!r} has no time")
        if kind == "given":
            script.statements += _given(words, line)
        elif script.statements:
            raise _Wrong(f"{kind!r} comes before anything happens")
        elif kind == "with":
            script.settings.update(_settings(words))
        else:
            script.kernel = True
        words.end()
        return
    by = kind if kind in ("peer", "stack", "owner") else ""
    action = ACTIONS[kind](words)
    words.end()
    if by != "stack" and when is not None and when.seconds.low != when.seconds.high:
        raise _Wrong("only what the stack sends may come within a range of times")
    if isinstance(action, SegmentLine | IcmpLine):
        _check_side(by, action)
    for each in _train(action):
        script.statements.append(replace(line, by=by, action=each, when=when))
        when = None


def _train(action: Action) -> list[Action]:
    """The segments that `1+1000x3` stands for, PSH on the last; any other line is one."""
    if not isinstance(action, SegmentLine) or action.count == 1:
        return [action]
    inner = replace(action, flags=action.flags & ~FLAGS["PSH"], count=1)
    train = [replace(inner, seq=action.seq + number * action.length) for number in range(action.count)]
    return [*train[:-1], replace(train[-1], flags=action.flags)]


def _check_room(line: SegmentLine) -> None:
    needed = 4 * ((line.mss is not None) + (line.scale is not None) + line.sack_permitted)
    needed += 12 * (line.stamp is not None) + (4 + 8 * len(line.sack) if line.sack else 0)
    if needed > ROOM:
        raise _Wrong(f"these options take {needed} bytes, and there are {ROOM}")


def _check_side(by: str, action: SegmentLine | IcmpLine) -> None:
    if isinstance(action, IcmpLine):
        if by == "peer" and action.seq is None:
            raise _Wrong("an error of the peer is `about` a segment")
        return
    _check_room(action)
    if by == "peer":
        if action.absent:
            raise _Wrong("`no` is for segments that are expected")
        if action.flags & FLAGS["ACK"] and action.ack is None:
            raise _Wrong("a segment with ACK needs `ack`")
    elif action.other or action.damaged:
        raise _Wrong("`other` and `damaged` are for the peer")


def _settings(words: _Words) -> dict[str, str]:
    settings = {}
    while True:
        name = words.take("a setting")
        settings[name] = words.take(f"the value of {name}")
        if not words.skip(","):
            return settings


def _given(words: _Words, line: Statement) -> list[Statement]:
    """The lines that lead to a state."""
    state = words.take("a state")
    if state not in GIVEN:
        raise _Wrong(f"given one of {', '.join(GIVEN)}, not {state!r}")
    steps = parse(GIVEN[state], f"{line.place}: given {state}")
    return steps.statements


def _segment(words: _Words) -> Action:
    if words.skip("icmp"):
        return _icmp(words)
    flags = _flags(words)
    seq, plus, extent = words.take("a sequence number").partition("+")
    length, times, count = extent.partition("x")
    fields: dict[str, Any] = {
        "flags": flags,
        "seq": int(_number(seq, "a sequence number")),
        "length": int(_number(length, "a length")) if plus else 0,
        "count": int(_number(count, "a number of segments")) if times else 1,
    }
    if not 0 <= fields["length"] <= LONGEST_TEXT:
        raise _Wrong(f"a segment has 0 to {LONGEST_TEXT} bytes of text")
    if not 1 <= fields["count"] <= LONGEST_TRAIN:
        raise _Wrong(f"1 to {LONGEST_TRAIN} segments go in a line")
    absent = set()
    while words:
        name = words.take("a field")
        if name == "no":
            absent.add(words.take("the name of an option"))
            if not absent <= set(OPTIONS):
                raise _Wrong(f"`no` is followed by one of {', '.join(OPTIONS)}")
        elif name in FIELDS:
            key, read = FIELDS[name]
            fields[key] = read(words)
        else:
            raise _Wrong(f"a segment has no field {name!r}: there are {', '.join(FIELDS)}")
    return SegmentLine(**fields, absent=frozenset(absent))


def _flags(words: _Words) -> int:
    if words.skip("none"):
        return 0
    bits = 0
    while True:
        word = words.take("the flags of a segment")
        if word not in FLAGS:
            raise _Wrong(f"{word!r} is no flag: there are {', '.join(FLAGS)}, or none")
        bits |= FLAGS[word]
        if not words.skip(","):
            return bits


def _mss(words: _Words) -> int:
    return 0 if words.skip("full") else words.integer("mss", 65535)


def _window(words: _Words) -> Range:
    span = _range(words.take("win"), "win")
    if span.low < 0 or span.high > 65535:
        raise _Wrong("win is 0 to 65535")
    return span


def _stamp(words: _Words) -> tuple[int | None, int | None]:
    word = words.take("ts")
    value, slash, echo = word.partition("/")
    if not slash:
        raise _Wrong(f"ts is VALUE/ECHO, not {word!r}")
    numbers = [None if part == "any" else int(_number(part, "ts")) for part in (value, echo)]
    return numbers[0], numbers[1]


def _blocks(words: _Words) -> tuple[tuple[int, int], ...]:
    blocks = []
    while ":" in words.next:
        left, _, right = words.take("a block").partition(":")
        blocks.append((int(_number(left, "a block")), int(_number(right, "a block"))))
    if not blocks:
        raise _Wrong("sack is followed by blocks, LEFT:RIGHT")
    return tuple(blocks)


def _raw(words: _Words) -> bytes:
    word = words.take("options")
    try:
        octets = bytes.fromhex(word)
    except ValueError:
        raise _Wrong(f"options are hexadecimal, not {word!r}") from None
    if len(octets) % 4 or len(octets) > 40:
        raise _Wrong("options are up to ten whole words")
    return octets


def _yes(_: _Words) -> bool:
    return True


FIELDS: dict[str, tuple[str, Callable[[_Words], Any]]] = {
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
    "other": ("other", _yes),
    "damaged": ("damaged", _yes),
}


def _icmp(words: _Words) -> IcmpLine:
    error = words.take("an ICMP error")
    names = [word_of(each) for each in IcmpError]
    if error not in names:
        raise _Wrong(f"{error!r} is no ICMP error: there are {', '.join(names)}")
    mtu = words.integer("mtu") if words.skip("mtu") else 0
    mss = words.integer("mss") if words.skip("mss") else 0
    seq = words.integer("a sequence number") if words.skip("about") else None
    return IcmpLine(error, seq, mtu, mss)


def _owner(words: _Words) -> OwnerLine:
    call = words.take("a call")
    if call not in CALLS:
        raise _Wrong(f"{call!r} is no call: there are {', '.join(sorted(CALLS))}")
    number = takes = fails = None
    arguments = []
    if call in CALLS_WITH_NUMBER:
        number = words.integer("a number of bytes")
    while words:
        if words.skip("fails"):
            fails = words.take("an error")
            if not hasattr(errno, fails):
                raise _Wrong(f"{fails!r} is no error")
        elif words.skip("takes"):
            takes = words.integer("a number of bytes")
        else:
            arguments.append(words.take("an argument"))
    return OwnerLine(call, tuple(arguments), number, takes, fails)


def _check(words: _Words) -> CheckLine:
    values: list[tuple[str, Range | str]] = []
    while True:
        name = words.take("a name")
        parts = [words.take(f"the value of {name}")]
        while words and words.next != ",":
            parts.append(words.take("a value"))
        if len(parts) == 1 and NUMBER.match(parts[0]):
            values.append((name, _range(parts[0], name)))
        else:
            values.append((name, " ".join(parts)))
        if not words.skip(","):
            return CheckLine(tuple(values))


def _quiet(words: _Words) -> QuietLine:
    return QuietLine(words.seconds("a number of seconds"))


ACTIONS: dict[str, Callable[[_Words], Action]] = {
    "peer": _segment,
    "stack": _segment,
    "owner": _owner,
    "check": _check,
    "quiet": _quiet,
}
