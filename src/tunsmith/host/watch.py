"""Says when this machine's network has changed, and when the machine has slept.

The kernel tells every change of links, addresses, routes and rules. They come in flocks (a cable pulled out is a
dozen), so `changed` is called once a flock: when it has been quiet for SETTLE, and after PATIENCE at the latest. It
does not say what has changed: whoever wants to know takes a snapshot (host/snapshot.py). So an overflow of the
socket (ENOBUFS) costs nothing: it is a change like others.

CLOCK_BOOTTIME goes on while the machine is suspended, CLOCK_MONOTONIC does not. And where we get no turn for long,
because the process was stopped, or a virtual machine paused, the world has gone on too.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import Callable

from tunsmith.host.netlink.channel import HEADER
from tunsmith.host.news import News

SETTLE, PATIENCE = 0.08, 0.5
TICK = 1.0
"""How often the clocks are looked at, seconds."""
FROZEN = 5.0
"""Without a turn for so long, we were stopped rather than busy."""

_LINK, _ADDRESS4, _ROUTE4, _RULE4, _ADDRESS6, _ROUTE6, _RULE6 = 0x1, 0x10, 0x40, 0x80, 0x100, 0x400, 0x40000
_GROUPS = _LINK | _ADDRESS4 | _ROUTE4 | _RULE4 | _ADDRESS6 | _ROUTE6 | _RULE6
_ROOM = 1 << 16
_QUEUE = 1 << 20
_AT_A_TIME = 100
_SO_RCVBUFFORCE = 33


class SleepClock:
    """How long this process has not lived, from look to look."""

    __slots__ = ("_boottime", "_monotonic", "_tick")

    def __init__(self, monotonic: float, boottime: float, tick: float = TICK) -> None:
        self._monotonic = monotonic
        self._boottime = boottime
        self._tick = tick

    def look(self, monotonic: float, boottime: float) -> float:
        """The seconds that were slept since the look before, 0 where none were."""
        lived, passed = monotonic - self._monotonic, boottime - self._boottime
        self._monotonic, self._boottime = monotonic, boottime
        suspended = passed - lived
        if suspended >= self._tick:
            return suspended
        late = lived - self._tick
        return late if late >= FROZEN else 0.0


class Watcher:
    """Watches the network namespace it was made in, from that moment on (make it before you look at how things
    are); calls back from `start` to `close`.

    `changed()` and `resumed(seconds)` are called by the loop."""

    def __init__(self, changed: Callable[[], None], resumed: Callable[[float], None]) -> None:
        self._changed = changed
        self._resumed = resumed
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _QUEUE)
        except PermissionError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _QUEUE)
        self._socket.bind((0, _GROUPS))
        self._buffer = bytearray(_ROOM)
        self._news = News()
        self._first = 0.0
        self._flock: asyncio.TimerHandle | None = None
        self._tick: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to call back."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket.fileno(), self._read)
        self._clock = SleepClock(time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME))
        self._tick = self._loop.call_later(TICK, self._look_at_clocks)

    def close(self) -> None:
        """End it. More than once does no harm."""
        for timer in (self._flock, self._tick):
            if timer is not None:
                timer.cancel()
        if self._tick is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._tick = None
        self._socket.close()

    def _read(self) -> None:
        matters = False
        for _ in range(_AT_A_TIME):
            try:
                size = self._socket.recv_into(self._buffer)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                matters = True
                continue
            matters |= self._has_news(size)
        if matters:
            self._notice()

    def _has_news(self, size: int) -> bool:
        found = False
        at = 0
        while at < size:
            length, kind, _, _, _ = HEADER.unpack_from(self._buffer, at)
            found |= self._news.matters(kind, bytes(self._buffer[at + HEADER.size : at + length]))
            at += length + 3 & ~3
        return found

    def _notice(self) -> None:
        now = self._loop.time()
        if self._flock is None:
            self._first = now
        else:
            self._flock.cancel()
        self._flock = self._loop.call_at(min(now + SETTLE, self._first + PATIENCE), self._settled)

    def _settled(self) -> None:
        self._flock = None
        self._changed()

    def _look_at_clocks(self) -> None:
        self._tick = self._loop.call_later(TICK, self._look_at_clocks)
        slept = self._clock.look(time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME))
        if slept:
            self._resumed(slept)
