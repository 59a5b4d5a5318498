"""`tunsmith up` on the caller's machine C, as root, and what happened meanwhile."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.netns.caller import Caller
from tests.netns.servers import eventually

UP = [sys.executable, "-m", "tunsmith", "up"]


class Up:
    """A `tunsmith up --json` that has been started."""

    def __init__(self, process: subprocess.Popen[str], state: Path) -> None:
        self.process = process
        self.state = state
        self.events: list[dict[str, Any]] = []
        self.errors: list[str] = []
        self._readers = [threading.Thread(target=self._read), threading.Thread(target=self._read_errors)]
        for reader in self._readers:
            reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.append({"at": time.time(), **json.loads(line)})

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self.errors += list(self.process.stderr)

    def told(self, event: str) -> list[dict[str, Any]]:
        """All events of that kind so far."""
        return [each for each in self.events if each["event"] == event]

    def wait_for(self, event: str, seconds: float = 15.0) -> dict[str, Any]:
        """The first event of that kind."""

        def is_over() -> bool:
            return bool(self.told(event)) or self.process.poll() is not None

        eventually(is_over, f"the event {event!r}", seconds)
        found = self.told(event)
        assert found, f"ended with {self.process.poll()}: {''.join(self.errors)} {self.events}"
        return found[0]

    def notices(self) -> list[str]:
        return [each["text"] for each in self.told("notice")]

    def stop(self, number: int = signal.SIGTERM) -> float:
        """End it by a signal; the seconds it took. It must have put everything back."""
        began = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(10)
        seconds = time.monotonic() - began
        self.close()
        assert code == 0, f"{code}: {''.join(self.errors)}"
        outcomes = {step["outcome"] for step in self.told("stopped")[0]["steps"]}
        assert outcomes <= {"done"}, self.told("stopped")
        return seconds

    def close(self) -> None:
        for reader in self._readers:
            reader.join(5)


def command(caller: Caller, *options: str) -> list[str]:
    """The command line of `tunsmith up OPTIONS` on C."""
    return caller.command([*UP, "--state", str(caller.home / "state"), *options])


@contextmanager
def up(caller: Caller, *options: str, ready: bool = True) -> Iterator[Up]:
    """`tunsmith up OPTIONS` on C, by root unless the caller is somebody else; ended by SIGTERM if it has not ended
    by itself."""
    process = caller.start(command(caller, "--json", *options))
    with process:
        running = Up(process, caller.home / "state")
        try:
            if ready:
                running.wait_for("up")
            yield running
            if process.poll() is None:
                running.stop()
        finally:
            if process.poll() is None:
                process.kill()
            running.close()


def fails(caller: Caller, *options: str) -> tuple[int, str]:
    """Exit code and standard error of `tunsmith up OPTIONS`, which must not start."""
    done = caller.finish(command(caller, *options), 20)
    return done.returncode, done.stderr


def programs(caller: Caller, argv: Sequence[str]) -> str:
    """The standard output of a program on C; it must succeed."""
    done = caller.plain(*argv)
    assert done.returncode == 0, done.stderr
    return done.stdout
