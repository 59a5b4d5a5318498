"""One program, run by the real `tunsmith run` or without it, and what came of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tunsmith.demo.capture import CaptureBook

PATIENCE = 10.0
"""Seconds a program may take, the time it measures aside."""
TOO_LATE = 124
"""Exit code of a program that was ended because it took longer, as timeout(1) has it."""
DIRECT = "direct"

_STDERR_ASIDE = ("sh", "-c", 'exec "$@" 2>&1', "sh")
"""Programs write their complaints in pieces, which would fall between those of tunsmith."""


@dataclass(frozen=True, slots=True)
class Flow:
    """A line of `tunsmith run --json`; sizes in bytes, times in seconds."""

    protocol: str
    source: str
    destination: str
    target: str
    rule: str
    upstream: str
    outcome: str
    up: int
    down: int
    seconds: float
    name: str = ""
    """What `destination` was looked up by."""


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended."""

    code: int
    said: str
    """What it wrote."""
    complaint: str = ""
    """What tunsmith had to say, or a program that ran without it to complain about."""
    flows: tuple[Flow, ...] = ()


async def run_behind(
    command: Sequence[str], via: str, capture: CaptureBook | None = None, patience: float = PATIENCE
) -> Finished:
    """Run `command` by `tunsmith run --via VIA`, capturing to `capture` where given. Not two at a time
    with one capture. When cancelled, all that it started ends."""
    options = ["--json", *(["--capture", capture.path] if capture else [])]
    tunsmith = [sys.executable, "-P", "-m", "tunsmith", "run", *options, "--via", via, "--"]
    ended = await run_alone([*tunsmith, *_STDERR_ASIDE, *command], patience, [capture.fd] if capture else [])
    if capture:
        capture.add()
    flows, complaints = [], []
    for line in ended.complaint.splitlines():
        event = _event(line)
        if event is None or event["event"] != "flow":
            complaints.append(line)
        else:
            del event["event"]
            flows.append(Flow(**event))
    return Finished(ended.code, ended.said, "\n".join(complaints), tuple(flows))


async def run_alone(
    command: Sequence[str], patience: float = PATIENCE, inherited: Sequence[int] = ()
) -> Finished:
    """Run `command` as it is; it inherits the descriptors `inherited`. When cancelled, all that it started
    ends."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=inherited,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(patience):
            out, errors = await process.communicate()
    except TimeoutError:
        return Finished(TOO_LATE, "", f"not done after {patience:g} s")
    finally:
        _end_session(process.pid)
        await process.wait()
    code = process.returncode
    assert code is not None
    return Finished(code, out.decode(errors="replace"), errors.decode(errors="replace"))


def _event(line: str) -> dict[str, Any] | None:
    """What `--json` said, where the program itself did not say this line."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None


def _end_session(leader: int) -> None:
    """The program has the process group to itself; by now it is empty, or nobody waits for it."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        pass
