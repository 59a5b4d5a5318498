"""Carries a script out on a host, line by line.

Between two lines nothing may happen that no line expects: a packet that nobody asked for fails the line that
comes after it. A failure is an AssertionError that shows the line, what was expected, what came, and the
exchange up to there.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import NoReturn

from tunsmith.testing.script.host import CallFailed, Host
from tunsmith.testing.script.matching import differences
from tunsmith.testing.script.statements import (
    CheckLine,
    IcmpLine,
    OwnerLine,
    QuietLine,
    Range,
    Script,
    SegmentLine,
    Statement,
)
from tunsmith.testing.script.wire import Seen
from tunsmith.wire import pcapng

TIMES = ("srtt", "rttvar", "rto", "timer.")
"""Names of values in seconds."""


class ScriptFailure(AssertionError):
    """The host did not do what the script says."""


class Runner:
    """One run of one script. `exchange` is what has happened so far, a line each."""

    def __init__(self, script: Script, host: Host) -> None:
        self.script = script
        self.host = host
        self.exchange: list[str] = []
        self._packets: list[tuple[float, bytes, bool]] = []
        self._last = 0.0
        """When the line before this one happened."""

    def run(self) -> None:
        """Carry out every line. Raises ScriptFailure."""
        for statement in self.script.statements:
            self._carry_out(statement)
        if self.script.statements:
            self._nothing_more(self.script.statements[-1], self.host.now())

    def save(self, path: Path) -> None:
        """Write the packets of the exchange as pcapng."""
        blocks = [pcapng.section_header("tunsmith packet script"), pcapng.interface("stack")]
        for at, packet, outbound in self._packets:
            blocks.append(pcapng.packet(packet, len(packet), round(at * 1e9), outbound=outbound))
        path.write_bytes(b"".join(blocks))

    # --- lines ---

    def _carry_out(self, line: Statement) -> None:
        action = line.action
        if line.by == "stack":
            assert isinstance(action, SegmentLine | IcmpLine)
            self._expect(line, action)
            return
        if isinstance(action, QuietLine):
            self._nothing_more(line, self.host.now() + action.seconds)
            self._last = self.host.now()
            return
        if line.when is not None or not isinstance(action, CheckLine):
            self._nothing_more(line, self._time_of(line).low)
        self._last = self.host.now()
        if isinstance(action, SegmentLine | IcmpLine):
            self._note("peer", line.text.partition("peer")[2])
            wire = self.host.wire
            packet = wire.segment(action) if isinstance(action, SegmentLine) else wire.error(action)
            self._packets.append((self._last, packet, False))
            self.host.inject(packet)
        elif isinstance(action, OwnerLine):
            self._call(line, action)
        else:
            self._check(line, action)

    def _time_of(self, line: Statement) -> Range:
        """When `line` is to happen; now, where it does not say."""
        if line.when is None:
            now = self.host.now()
            return Range(now, now)
        begin = 0.0 if line.when.absolute else self._last
        return Range(begin + line.when.seconds.low, begin + line.when.seconds.high)

    def _expect(self, line: Statement, action: SegmentLine | IcmpLine) -> None:
        span, slack = self._time_of(line), self.host.slack
        packet = self.host.packet(span.high + slack)
        if packet is None:
            self._fail(line, f"nothing came by {self.host.now():.3f}")
        seen = self._saw(line, packet)
        if wrong := differences(action, seen, self.host.wire):
            self._fail(line, f"{seen}\n           ({', '.join(wrong)})")
        if seen.at < span.low - slack - 1e-6:
            self._fail(line, f"it, too early: at {seen.at:.3f}, not {span.low:.3f}")
        self._last = seen.at

    def _nothing_more(self, line: Statement, until: float) -> None:
        """Let time pass; a packet meanwhile is one too many."""
        packet = self.host.packet(until)
        if packet is not None:
            self._fail(line, f"before this line: {self._saw(line, packet)}")

    def _saw(self, line: Statement, packet: bytes) -> Seen:
        at = self.host.now()
        self._packets.append((at, packet, True))
        try:
            seen = self.host.wire.decode(packet, at)
        except AssertionError as error:
            self._fail(line, str(error))
        self._note("stack", f" {seen}")
        return seen

    def _call(self, line: Statement, action: OwnerLine) -> None:
        self._note("owner", line.text.partition("owner")[2])
        try:
            self.host.call(action)
        except CallFailed as failed:
            self._fail(line, str(failed))
        except OSError as error:
            name = errno.errorcode.get(error.errno or 0, str(error))
            if name != action.fails:
                self._fail(line, f"{action.call} failed with {name}")
        else:
            if action.fails is not None:
                self._fail(line, f"{action.call} did not fail")

    def _check(self, line: Statement, action: object) -> None:
        assert isinstance(action, CheckLine)
        for name, wanted in action.values:
            try:
                value = self.host.value(name)
            except KeyError:
                self._fail(line, f"nothing is known by the name {name}")
            except CallFailed as failed:
                self._fail(line, str(failed))
            if value is None:
                continue
            if isinstance(wanted, Range) and not isinstance(value, str):
                slack = self.host.slack if name.startswith(TIMES) else 0.0
                holds = wanted.low - slack - 1e-9 <= value <= wanted.high + slack + 1e-9
            else:
                holds = value == str(wanted)
            if not holds:
                shown = value if isinstance(value, str) else f"{value:g}"
                self._fail(line, f"{name} is {shown}, not {wanted}")

    # --- reports ---

    def _note(self, who: str, what: str) -> None:
        self.exchange.append(f"{self.host.now():8.3f}  {who:5}{what}")

    def _fail(self, line: Statement, came: str) -> NoReturn:
        before = "\n".join(self.exchange) or "  nothing"
        raise ScriptFailure(
            f"{line.place}: IPv{self.host.wire.family.version}, at {self.host.now():.3f} s\n"
            f"  expected {line.text}\n  came     {came}\nthe exchange so far:\n{before}"
        )
