"""A stack on its devices, inside an event loop, from its start to its end.

What it can do for a program is the other half of the class (stack.py). Here is how it is put together, and how it
goes: listeners first, then open connections, by RST; closed ones may deliver what they have.
"""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from random import SystemRandom
from typing import TYPE_CHECKING, Self, cast

from tunsmith.aio.address import Addresses, os_error, os_errors, unpack
from tunsmith.aio.demux import Demultiplexer
from tunsmith.aio.pump import Pump
from tunsmith.device.base import Device
from tunsmith.errors import UsageError
from tunsmith.stack.config import StackConfig
from tunsmith.stack.nic import Nic
from tunsmith.stack.router import Router

if TYPE_CHECKING:
    from collections import Counter
    from types import TracebackType

    from tunsmith.stack.routes import Route
    from tunsmith.stack.tcp.connection import Connection

LINGER = 2.0
"""Seconds that the end of a stack waits for peers that acknowledge nothing more."""
PROGRESS = 536
"""Bytes that count as something (RFC 9293 §3.7.1: the least that anybody sends); the probes of a closed window bring
one each."""


class Host:
    """The life of a Stack. Half a class: it is only ever that."""

    def __init__(
        self,
        device: Device | Sequence[Nic],
        addresses: Iterable[str] = (),
        *,
        mac: str | bytes | None = None,
        forwarding: bool = False,
        config: StackConfig | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if isinstance(addresses, str):
            raise UsageError(f"addresses {addresses!r}: a list of them is wanted, like [{addresses!r}]")
        if isinstance(device, Sequence):
            nics = list(device)
        else:
            nics = [Nic(device, addresses, mac=mac or (random_mac() if device.ethernet else None))]
        self._devices = [cast("Device", nic.device) for nic in nics]
        self._pump = Pump(clock, self._on_device_lost, self._on_quiet)
        self._demux = Demultiplexer(self._pump.now)
        self.router = Router(
            nics,
            config or StackConfig(isn_secret=os.urandom(32)),
            clock=self._pump.now,
            handler=self._demux,
            forwarding=forwarding,
        )
        """Interfaces and routes."""
        self.pure = self.router.stack
        """The stack itself, sans I/O: its tables, timers and counts."""
        interfaces = (interface for nic in nics for interface in nic.interfaces)
        self._own = Addresses(interfaces, self.router.source_for, self.router.reach_ourselves)
        self._demux.serve(self.router, self._own)
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._gone = asyncio.Event()
        self._lost = 0
        self._state = "new"

    # --- life ---

    async def __aenter__(self) -> Self:
        self.start()
        try:
            await self.settle()
        except BaseException:
            await self.close(0)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    def start(self) -> None:
        """Begin, on the running loop."""
        if self._state != "new":
            raise RuntimeError("a stack is started once")
        self._demux.loop = asyncio.get_running_loop()
        nics = self.router.nics
        self._pump.start(
            self.pure,
            [(device, self.router.receiver(nic)) for device, nic in zip(self._devices, nics, strict=True)],
        )
        self.router.start()
        self._state = "running"

    async def settle(self) -> None:
        """Wait until the addresses can be used: on Ethernet they are probed for first, which takes a second.
        Raises OSError EADDRINUSE for those that somebody else has."""
        await self._until(lambda: self.router.is_settled)
        taken = ", ".join(map(unpack, self.router.duplicates))
        if taken:
            raise os_error(errno.EADDRINUSE, f"another station has {taken}")

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that packets or timers bring about."""
        if not condition():
            entry = condition, asyncio.get_running_loop().create_future()
            self._waiting.append(entry)
            try:
                await entry[1]
            finally:
                self._waiting.remove(entry)

    def _on_quiet(self) -> None:
        for condition, done in self._waiting:
            if not done.done() and condition():
                done.set_result(None)

    async def until_gone(self) -> None:
        """Wait until the last device goes away by itself: its interface is deleted, its other end hangs up."""
        await self._gone.wait()

    async def close(self, linger: float | None = LINGER) -> None:
        """End it all. Listeners go, open connections are reset, and those that were closed deliver what they still
        have: as long as peers acknowledge some of it every `linger` seconds (None: as long as TCP itself is patient).
        Where only the FIN is left to be acknowledged, that is waited for no longer than one retransmission
        timeout. What peers have not taken by then is lost, and they hear of it by RST. Then the device is closed.
        Idempotent."""
        if self._state == "closed":
            return
        was_running, self._state = self._state == "running", "closed"
        try:
            if was_running:
                await self._wind_up(linger)
        finally:
            for device in self._devices:
                device.close()
        await asyncio.sleep(0)  # what was aborted hears of it

    async def _wind_up(self, linger: float | None) -> None:
        self._demux.close()
        for _, done in self._waiting:
            if not done.done():
                done.set_exception(os_error(errno.ECONNABORTED, "the stack is closed"))
        for transport in list(self._demux.transports):
            if not transport.is_closing():
                transport.abort(os_error(errno.ECONNABORTED, "the stack is closed"))
        self._pump.turn()  # who has said FIN already is not left without an answer
        try:
            await self._deliver(linger)
        finally:
            for connection in self._unfinished():  # a peer that has everything is not told otherwise
                connection.abort(self._pump.now())
            self._pump.stop()

    async def _deliver(self, linger: float | None) -> None:
        """Wait while peers go on acknowledging what closed connections still have."""
        left = self._unacknowledged()
        while left:
            patience = linger
            if linger is not None and not self._unacknowledged_text():
                patience = min(linger, max(connection.sender.rtt.rto for connection in self._unfinished()))
            with suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._until(lambda: not self._unacknowledged())
            before, left = left, self._unacknowledged()
            if before - left < PROGRESS:
                return

    def _unfinished(self) -> list[Connection]:
        """Whose peer has not acknowledged all."""
        return [connection for connection in self.pure.connections.values() if connection.unacknowledged]

    def _unacknowledged(self) -> int:
        """Bytes, and FINs, that peers have not acknowledged."""
        return sum(connection.unacknowledged for connection in self._unfinished())

    def _unacknowledged_text(self) -> int:
        return sum(
            connection.unacknowledged - connection.sender.fin_sent for connection in self._unfinished()
        )

    def _on_device_lost(self, error: OSError) -> None:
        """A device has gone; with the last one everything else."""
        self.pure.drops["device_lost"] += 1
        self._lost += 1
        if self._lost < len(self._devices):
            return
        down = os_error(errno.ENETDOWN, f"the device is gone ({error.strerror or error})")
        if self._state == "running":
            self._demux.close(down)
        for transport in list(self._demux.transports):
            transport.abort(down)
        for connection in list(self.pure.connections.values()):  # whose transports were done with them
            connection.abort(self._pump.now())
        self._gone.set()

    def _running(self) -> Demultiplexer:
        if self._state == "new":
            raise RuntimeError("this stack is new: `async with` it, or start() and await settle() first")
        if self._state == "closed":
            raise RuntimeError("this stack is closed")
        return self._demux

    # --- what is known ---

    def __repr__(self) -> str:
        open_ = len(self.pure.connections)
        return (
            f"<Stack {' '.join(self.addresses) or 'without an address'}, {self._state}, connections: {open_}>"
        )

    @property
    def addresses(self) -> tuple[str, ...]:
        """As they were given, in their shortest form."""
        return tuple(interface.with_prefixlen for interface in self._own.interfaces)

    @property
    def drops(self) -> Counter[str]:
        """What was thrown away, by reason."""
        return self.pure.drops

    def add_route(self, network: str, *, gateway: str | None = None, nic: Nic | None = None) -> Route:
        """Send what is for `network` ("0.0.0.0/0" is everything else) to `gateway`, or straight out of `nic`. Without
        `nic` it is the one that `gateway` is on, or the first. `router.remove_route` takes it back. Raises UsageError
        for what is no route, OSError ENETUNREACH for a gateway that is on no network of ours."""
        with os_errors():
            return self.router.add_route(network, nic, gateway=gateway)


def random_mac() -> bytes:
    """A MAC address of nobody's: locally administered, one station (IEEE 802 §8.4)."""
    return b"\x02" + SystemRandom().randbytes(5)
