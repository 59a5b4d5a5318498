"""What systemd wants to hear of a service: sd_notify(3), by hand.

    READY=1 STATUS=…     it serves; whatever waits for it goes on
    WATCHDOG=1           it is alive: said from the event loop itself, so that one that is stuck says nothing
    STOPPING=1           it has begun to end
    EXTEND_TIMEOUT_USEC  a start that takes longer than usual is no failure

Started by hand there is no NOTIFY_SOCKET, and all of this does nothing.
"""

from __future__ import annotations

import os
import socket
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Mapping


class Notify:
    """The service manager, if there is one. Nothing here raises: nobody may be listening any more."""

    __slots__ = ("_address", "_interval", "_sock", "_timer")

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        path = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._interval = _interval(environment)
        self._sock: socket.socket | None = None
        self._timer: TimerHandle | None = None
        if self._address:
            self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    @property
    def listens(self) -> bool:
        """Whether a service manager started us."""
        return self._sock is not None

    def say(self, **facts: object) -> None:
        """One message: `say(READY=1, STATUS="serves")`."""
        if self._sock is None:
            return
        text = "\n".join(f"{name}={' '.join(str(value).split())}" for name, value in facts.items())
        try:
            self._sock.sendto(text.encode(), self._address)
        except OSError:
            pass

    def watch(self, loop: AbstractEventLoop) -> None:
        """Tell the watchdog, where one is set for us, twice in its interval that `loop` turns; until `close`."""
        if self._interval:
            self.say(WATCHDOG=1)
            self._timer = loop.call_later(self._interval / 2, self.watch, loop)

    def close(self) -> None:
        """Say no more. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._sock is not None:
            self._sock.close()
            self._sock = None


def _interval(environment: Mapping[str, str]) -> float:
    """Seconds within which the watchdog wants to hear from this process; 0 where it wants nothing."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    microseconds = environment.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isdecimal() else 0.0
