"""Flows on standard error, for people (`-v`) and for machines (`--json`).

One line when a flow ends. Standard error belongs to CMD as well: a line is one write, and when nobody
reads any more nothing happens.
"""

from __future__ import annotations

import json
import select
import sys
from typing import TextIO

from tunsmith.relay.report import FlowRecord, Reporter


class Notices:
    """Only what a person must know."""

    def flow_ended(self, record: FlowRecord) -> None:
        pass

    def notice(self, text: str) -> None:
        _write(f"tunsmith: {text}")


class Lines(Notices):
    """A line for each flow, in columns as far as they can be, like
    `tcp      75 B up    4.2 KiB down     0.31 s  192.0.2.7:443 (example.com) direct: closed`."""

    def flow_ended(self, record: FlowRecord) -> None:
        seconds = record.ended - record.started
        sizes = f"{human_size(record.up):>10} up {human_size(record.down):>10} down"
        _write(f"{record.protocol:<4} {sizes} {seconds:>8.2f} s  {_path(record)}: {record.outcome}")


class JsonLines:
    """A JSON object for each flow on `stream`, `event` is "flow" or "notice". Sizes in bytes, times in seconds."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """None is standard error."""
        self._stream = stream

    @classmethod
    def on_stdout(cls) -> JsonLines:
        """For a command whose standard output is nothing else."""
        return cls(sys.stdout)

    def flow_ended(self, record: FlowRecord) -> None:
        self.write(
            event="flow",
            protocol=record.protocol,
            source=str(record.source),
            destination=str(record.destination),
            target=str(record.target),
            name=record.name,
            rule=record.rule,
            upstream=record.upstream,
            outcome=record.outcome,
            up=record.up,
            down=record.down,
            seconds=round(record.ended - record.started, 6),
        )

    def notice(self, text: str) -> None:
        self.write(event="notice", text=text)

    def write(self, **fields: object) -> None:
        """One object."""
        _write(json.dumps(fields, ensure_ascii=False), self._stream)


def make_reporter(verbose: bool, as_json: bool) -> Reporter:
    """The reporter the options ask for; `--json` wins."""
    if as_json:
        return JsonLines()
    return Lines() if verbose else Notices()


def human_size(count: int) -> str:
    """`count` bytes in the unit that leaves at most four digits: 1023 B, 1.0 KiB, 37.5 MiB."""
    if count < 1024:
        return f"{count} B"
    size = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if size < 1024:
            return f"{size:.1f} {unit}"
    return f"{size / 1024:.1f} TiB"


def _path(record: FlowRecord) -> str:
    """Where a flow went, and how."""
    target = record.target
    place = str(target) if target.port else target.host  # a ping has none
    if record.name and not target.is_name:
        place += f" ({record.name})"
    if record.rule == "publish":
        return f"{record.source} to {place} published at {record.upstream}"
    if record.upstream == "tunsmith":
        return place if record.rule == "dns" else f"{place}, {record.rule}"
    return (
        f"{place} {record.upstream}"
        if record.upstream.startswith("direct")
        else f"{place} via {record.upstream}"
    )


def _write(line: str, stream: TextIO | None = None) -> None:
    """One line; none where nobody reads any more, or reads too slowly: flows do not wait for that."""
    stream = stream or sys.stderr
    try:
        if _takes_a_line(stream):
            stream.write(line + "\n")
            stream.flush()
    except OSError:
        pass


def _takes_a_line(stream: TextIO) -> bool:
    """Whether there is room at once. A pipe says so while it has some for 4 KiB, and a line is shorter."""
    try:
        ready = select.poll()
        ready.register(stream, select.POLLOUT)
    except (OSError, ValueError):  # no file
        return True
    return bool(ready.poll(0))
