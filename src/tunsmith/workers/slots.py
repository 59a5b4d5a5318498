"""One table of fake addresses for several workers.

A DNS query may reach one worker and the flow to the address in its answer another, so names and addresses are kept
in one place, by the process that keeps the workers. A worker asks it over a socket and waits: that is tens of
microseconds, once for a name. What it is told it holds as a *lease*, for which the keeper pins the slot: nobody
else's name can get it, so the worker need not ask again, and the addresses of a flow that lives stay. A few leases
without flows are kept as well; when a worker dies, its leases end.

    ask     N name    the slot of a name       answer  slot, or nothing where all are taken
            S slot    the name at a slot               name, or nothing where nobody owns it
            R slot    the lease is given back          (none)

One message a packet, slots as text; `-` stands for nothing.
"""

from __future__ import annotations

import socket
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from tunsmith.dns.slots import Slots

IDLE_LEASES = 256
"""Leases without flows that a worker keeps."""
_NOTHING = b"-"
_ROOM = 1024


@dataclass(slots=True)
class _Lease:
    name: str
    pins: int = 0


class KeeperGone(Exception):
    """The process that keeps the names has ended."""


class LeasedSlots:
    """The table as a worker sees it: `Slots`, by asking over `sock` (blocking, SOCK_SEQPACKET).

    Every call may raise KeeperGone, and then the worker is to end."""

    __slots__ = ("_idle", "_leases", "_names", "_socket")

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._leases: dict[int, _Lease] = {}
        self._names: dict[str, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()
        """Leases without flows, the one used longest ago first."""

    def __len__(self) -> int:
        return len(self._leases)

    def slot_of(self, name: str, now: float) -> int | None:
        slot = self._names.get(name)
        if slot is None:
            answer = self._ask(b"N" + name.encode())
            if answer == _NOTHING:
                return None
            slot = int(answer)
            self._lease(slot, name)
        self._touch(slot)
        return slot

    def name_at(self, slot: int) -> str | None:
        lease = self._leases.get(slot)
        if lease is None:
            answer = self._ask(b"S%d" % slot)
            if answer == _NOTHING:
                return None
            lease = self._lease(slot, answer.decode())
        self._touch(slot)
        return lease.name

    def pin(self, slot: int) -> None:
        lease = self._leases.get(slot)
        if lease is not None:
            lease.pins += 1
            self._idle.pop(slot, None)

    def unpin(self, slot: int) -> None:
        lease = self._leases.get(slot)
        if lease is not None and lease.pins:
            lease.pins -= 1
            if not lease.pins:
                self._touch(slot)

    def _lease(self, slot: int, name: str) -> _Lease:
        lease = self._leases[slot] = _Lease(name)
        self._names[name] = slot
        return lease

    def _touch(self, slot: int) -> None:
        if self._leases[slot].pins:
            return
        self._idle[slot] = None
        self._idle.move_to_end(slot)
        if len(self._idle) > IDLE_LEASES:
            oldest, _ = self._idle.popitem(last=False)
            del self._names[self._leases.pop(oldest).name]
            self._send(b"R%d" % oldest)

    def _ask(self, question: bytes) -> bytes:
        self._send(question)
        try:
            answer = self._socket.recv(_ROOM)
        except OSError:
            answer = b""
        if not answer:
            raise KeeperGone
        return answer

    def _send(self, message: bytes) -> None:
        try:
            self._socket.send(message)
        except OSError:
            raise KeeperGone from None


class SlotKeeper:
    """The keeper's side: one table, and who leases what."""

    def __init__(self, slots: Slots, clock: Callable[[], float] = time.monotonic) -> None:
        self._slots = slots
        self._clock = clock
        self._leases: dict[socket.socket, Counter[int]] = {}

    def serve(self, sock: socket.socket) -> None:
        """Answer the worker behind `sock` (non-blocking), as far as it has asked. What is no question of ours ends
        its leases, as its end does."""
        leases = self._leases.setdefault(sock, Counter())
        try:
            while question := sock.recv(_ROOM):
                answer = self._answer(leases, question[:1], question[1:].decode())
                if answer is not None:
                    sock.send(answer)
        except BlockingIOError:
            return
        except (OSError, ValueError):
            pass
        self.forget(sock)

    def forget(self, sock: socket.socket) -> None:
        """The worker behind `sock` has ended."""
        for slot, times in self._leases.pop(sock, Counter()).items():
            for _ in range(times):
                self._slots.unpin(slot)

    def _answer(self, leases: Counter[int], kind: bytes, text: str) -> bytes | None:
        if kind == b"N":
            slot = self._slots.slot_of(text, self._clock())
            if slot is None:
                return _NOTHING
            self._pin(leases, slot)
            return b"%d" % slot
        slot = int(text)
        name = self._slots.name_at(slot)
        if kind == b"S":
            if name is None:
                return _NOTHING
            self._pin(leases, slot)
            return name.encode()
        if kind != b"R":
            raise ValueError(f"no question of ours: {kind!r}")
        if leases[slot]:
            leases[slot] -= 1
            if name is not None:
                self._slots.slot_of(name, self._clock())  # its answers may have been given until now
            self._slots.unpin(slot)
        return None

    def _pin(self, leases: Counter[int], slot: int) -> None:
        leases[slot] += 1
        self._slots.pin(slot)
