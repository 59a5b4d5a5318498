"""The crew: as many workers as a TUN has queues, each replaced when it dies.

This process opens the queues and holds on to them, so a queue outlives its worker: what arrives meanwhile waits for
the next one, and the flows of the others stay where they are. All that a worker's death costs is its own flows,
which are reset by whoever takes its place.

    keeper (this process) ──control──> worker 0 ──queue 0── TUN
                          ──control──> worker 1 ──queue 1── TUN
      fake addresses    <──names────── all
"""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunsmith.device.base import Device
from tunsmith.dns.slots import Slots
from tunsmith.errors import DialError, HostError
from tunsmith.host.steering import steer_by_source
from tunsmith.workers import orders
from tunsmith.workers.slots import SlotKeeper
from tunsmith.workers.worker import DEVICE_LOST, READY

if TYPE_CHECKING:
    from tunsmith.workers.orders import Job, Order

PATIENCE = 2.0
"""Seconds that workers have to end by themselves."""
SOONEST, LATEST = 0.05, 5.0
"""Seconds until a worker is replaced: doubled each time it did not get ready, or lived for less than LATEST."""
_ROOM = 4096


@dataclass(slots=True)
class _Worker:
    number: int
    device: Device
    process: subprocess.Popen[bytes]
    control: socket.socket
    names: socket.socket
    ready: asyncio.Future[None]
    ended: asyncio.Event
    since: float


class Crew:
    """Workers for the `queues` of one TUN. `start`, then they run by themselves until `close`."""

    def __init__(
        self, queues: Sequence[Device], job: Job, slots: Slots, notice: Callable[[str], None]
    ) -> None:
        """Every worker does `job`. `slots` is the table of fake addresses they share; `notice` is told in a line what
        happens to them. The queues are ours from now on. Raises HostError where packets cannot be kept to one
        queue."""
        steer_by_source(queues[0].fileno())
        self._queues = list(queues)
        self._job = job
        self._notice = notice
        self._keeper = SlotKeeper(slots)
        self._standing: dict[str, Order] = {}
        self._workers: list[_Worker | None] = [None] * len(queues)
        self._delays = [SOONEST] * len(queues)
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._closed = False
        self.on_device_lost: Callable[[], None] | None = None
        """Told when there is nothing more to read and never will be."""

    async def start(self) -> None:
        """Have every worker ready. Raises DialError in the words of the first that cannot; all are gone then."""
        self._loop = asyncio.get_running_loop()
        started = [self._hire(number) for number in range(len(self._queues))]
        try:
            await asyncio.gather(*(worker.ready for worker in started))
        except BaseException:
            await self.close()
            raise

    def tell(self, order: Order, standing: str = "") -> None:
        """Have every worker do `order`. A standing one, called by a name, is done by those who are to come, too, until
        there is another of that name."""
        if standing:
            self._standing[standing] = order
        for worker in self._workers:
            if worker is not None and worker.ready.done():
                self._order(worker, order)

    @property
    def processes(self) -> list[int]:
        """The process ids of the workers that run."""
        return [worker.process.pid for worker in self._workers if worker is not None]

    async def close(self) -> None:
        """Have all workers end, in PATIENCE seconds at most, and give the queues back. Idempotent."""
        if self._closed:
            return
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        working = [worker for worker in self._workers if worker is not None]
        for worker in working:
            worker.control.shutdown(socket.SHUT_WR)
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                for worker in working:
                    await worker.ended.wait()
        for worker in working:
            worker.process.kill()
            worker.process.wait()
            self._release(worker)
        for queue in self._queues:
            queue.close()

    def _hire(self, number: int) -> _Worker:
        self._timers.pop(number, None)
        control, worker_control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        names, worker_names = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        device = self._queues[number]
        descriptors = (worker_control.fileno(), worker_names.fileno(), device.fileno())
        with worker_control, worker_names:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tunsmith.workers.worker", *map(str, descriptors)],
                pass_fds=descriptors,
                stdin=subprocess.DEVNULL,
            )
        control.setblocking(False)
        names.setblocking(False)
        orders.send(control, self._job)
        ready = self._loop.create_future()
        worker = _Worker(number, device, process, control, names, ready, asyncio.Event(), self._loop.time())
        self._workers[number] = worker
        self._loop.add_reader(control.fileno(), self._on_control, worker)
        self._loop.add_reader(names.fileno(), self._keeper.serve, names)
        return worker

    def _on_control(self, worker: _Worker) -> None:
        try:
            word = worker.control.recv(_ROOM)
        except OSError:
            word = b""
        if word == READY:
            if not worker.ready.done():
                worker.ready.set_result(None)
            for order in self._standing.values():
                self._order(worker, order)
            return
        self._loop.remove_reader(worker.control.fileno())
        worker.ended.set()
        if not worker.ready.done():
            worker.ready.set_exception(
                DialError(word.decode()) if word else HostError("a worker has ended at once")
            )
            worker.ready.exception()  # nobody need ask
        if not self._closed:
            self._workers[worker.number] = None
            self._release(worker)
            self._replace(worker, word.decode())

    def _replace(self, worker: _Worker, reason: str) -> None:
        code = _end_of(worker.process)
        if code == DEVICE_LOST:
            if self.on_device_lost is not None:
                self.on_device_lost()
            return
        lived = self._loop.time() - worker.since
        number = worker.number
        self._delays[number] = SOONEST if lived > LATEST else min(2 * self._delays[number], LATEST)
        how = reason or (f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}")
        self._notice(
            f"worker {number} (pid {worker.process.pid}) has ended ({how}) with its flows; another takes its place"
        )
        self._timers[number] = self._loop.call_later(self._delays[number], self._hire, number)

    def _order(self, worker: _Worker, order: Order) -> None:
        with suppress(OSError):  # it is ending; its end is told
            orders.send(worker.control, order)

    def _release(self, worker: _Worker) -> None:
        self._loop.remove_reader(worker.control.fileno())
        self._loop.remove_reader(worker.names.fileno())
        self._keeper.forget(worker.names)
        worker.control.close()
        worker.names.close()


def _end_of(process: subprocess.Popen[bytes]) -> int:
    """The exit code of a process that is ending."""
    try:
        return process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
