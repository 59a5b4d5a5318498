"""A terminal with a program on it, and somebody who types."""

from __future__ import annotations

import os
import pty
import signal
from types import TracebackType

from tests.host.machine import environment


class Terminal:
    """Runs `command` as the leader of a session of its own on a new pseudo-terminal."""

    def __init__(self, command: list[str]) -> None:
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.execvpe(command[0], command, {**environment(), "PS1": "prompt> ", "TERM": "dumb"})
        self.seen = ""
        self._status: int | None = None

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._status is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()
        if self._fd >= 0:
            self.hang_up()

    def type(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def read_until(self, text: str) -> str:
        """What appears up to and including `text`; pytest's time limit is the patience."""
        while text not in self.seen:
            try:
                self.seen += os.read(self._fd, 4096).decode()
            except OSError:  # EIO: the last program closed the terminal
                raise AssertionError(f"{text!r} never came: {self.seen!r}") from None
        before, _, self.seen = self.seen.partition(text)
        return before + text

    def hang_up(self) -> None:
        """Close the terminal under whoever is on it."""
        os.close(self._fd)
        self._fd = -1

    def wait(self) -> int:
        """Exit code of the leader, -n after a signal."""
        _, self._status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(self._status)
