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

from tunsmith.testing.script.given import GIVEN
from tunsmith.testing.script.segments import check_side, read_segment, train
from tunsmith.testing.script.statements import (
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
from tunsmith.testing.script.words import NUMBER, Words, Wrong, range_in

CLAUSE = re.compile(r"# (RFC \d+[^:]*?): (\S.*)")
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
                _parse_line(script, Words(words), Statement(file, number, line.strip(), "", QuietLine(0.0)))
            except Wrong as wrong:
                raise ScriptError(f"{file}:{number}: {wrong}\n    {line.strip()}") from None
    return script


def _parse_line(script: Script, words: Words, line: Statement) -> None:
    when = None
    if words.next[0] in "+@":
        word = words.take("a time")
        when = When(range_in(word[1:], "a time"), absolute=word[0] == "@")
    kind = words.take("what happens")
    if kind not in LINES:
        raise Wrong(f"a line begins with one of {', '.join(LINES)}, not with {kind!r}")
    if kind in ("with", "given", "kernel"):
        if when is not None:
            raise Wrong(f"{kind!r} has no time")
        if kind == "given":
            script.statements += _given(words, line)
        elif script.statements:
            raise Wrong(f"{kind!r} comes before anything happens")
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
        raise Wrong("only what the stack sends may come within a range of times")
    if isinstance(action, SegmentLine | IcmpLine):
        check_side(by, action)
    for each in train(action) if isinstance(action, SegmentLine) else [action]:
        script.statements.append(replace(line, by=by, action=each, when=when))
        when = None


def _settings(words: Words) -> dict[str, str]:
    settings = {}
    while True:
        name = words.take("a setting")
        settings[name] = words.take(f"the value of {name}")
        if not words.skip(","):
            return settings


def _given(words: Words, line: Statement) -> list[Statement]:
    """The lines that lead to a state."""
    state = words.take("a state")
    if state not in GIVEN:
        raise Wrong(f"given one of {', '.join(GIVEN)}, not {state!r}")
    steps = parse(GIVEN[state], f"{line.place}: given {state}")
    return steps.statements


def _owner(words: Words) -> OwnerLine:
    call = words.take("a call")
    if call not in CALLS:
        raise Wrong(f"{call!r} is no call: there are {', '.join(sorted(CALLS))}")
    number = takes = fails = None
    arguments = []
    if call in CALLS_WITH_NUMBER:
        number = words.integer("a number of bytes")
    while words:
        if words.skip("fails"):
            fails = words.take("an error")
            if not hasattr(errno, fails):
                raise Wrong(f"{fails!r} is no error")
        elif words.skip("takes"):
            takes = words.integer("a number of bytes")
        else:
            arguments.append(words.take("an argument"))
    return OwnerLine(call, tuple(arguments), number, takes, fails)


def _check(words: Words) -> CheckLine:
    values: list[tuple[str, Range | str]] = []
    while True:
        name = words.take("a name")
        parts = [words.take(f"the value of {name}")]
        while words and words.next != ",":
            parts.append(words.take("a value"))
        if len(parts) == 1 and NUMBER.match(parts[0]):
            values.append((name, range_in(parts[0], name)))
        else:
            values.append((name, " ".join(parts)))
        if not words.skip(","):
            return CheckLine(tuple(values))


def _quiet(words: Words) -> QuietLine:
    return QuietLine(words.seconds("a number of seconds"))


ACTIONS: dict[str, Callable[[Words], Action]] = {
    "peer": read_segment,
    "stack": read_segment,
    "owner": _owner,
    "check": _check,
    "quiet": _quiet,
}
