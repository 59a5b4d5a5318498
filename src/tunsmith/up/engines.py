"""What serves the TUN of `up`: an engine in this process, or a crew of workers with one each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from tunsmith.config import Settings
from tunsmith.device.tun import TunDevice
from tunsmith.dial.escape import Escape
from tunsmith.dial.underway import Underway
from tunsmith.dns.fakeip import FakeIpPool
from tunsmith.relay.report import Reporter
from tunsmith.up.report import Hushed
from tunsmith.up.upstream import Server, find_neighbour, open_upstream, own_resolver

if TYPE_CHECKING:
    from tunsmith.device.pcap import Capture
    from tunsmith.dial.base import Dialer
    from tunsmith.dns.slots import Slots
    from tunsmith.engine import Engine
    from tunsmith.relay.neighbour import Neighbour
    from tunsmith.route.plan import Plan
    from tunsmith.workers.orders import Order


@dataclass(frozen=True, slots=True)
class Recipe:
    """How an engine of this instance is made, in this process or in another: all of it can be pickled. `reporter` makes
    the one it is to tell of its flows."""

    via: str
    settings: Settings
    search: tuple[str, ...]
    server: Server
    plan: Plan
    reporter: Callable[[], Reporter]
    offload: int = 0
    mtu: int = 0

    def escape(self) -> Escape:
        """The way out for sockets of ours. Raises UsageError, HostError."""
        made = Escape(self.plan.pin or None, self.plan.mark, Underway())
        if self.plan.must_pin and not self.plan.pin:
            made.leave_nowhere()
        return made

    def dialer(self, escape: Escape) -> Dialer:
        """The upstream. Raises UsageError."""
        return open_upstream(self.via, escape, self.settings, self.search, self.server)

    def neighbour(self, escape: Escape) -> Neighbour | None:
        """The proxy, where it is a program on this machine."""
        return find_neighbour(
            self.server, escape, own_resolver(escape, self.settings, self.search, self.server)
        )

    def __call__(self, queue: int, slots: Slots) -> Engine:
        """The engine of a worker."""
        from tunsmith.engine import Engine

        escape = self.escape()
        device = TunDevice(queue, self.offload, self.mtu)
        reporter = Hushed(self.reporter())
        return Engine(
            device,
            self.dialer(escape),
            self.settings,
            reporter,
            escape=escape,
            neighbour=self.neighbour(escape),
            slots=slots,
        )


class Engines(Protocol):
    """Whoever serves."""

    on_device_lost: Callable[[], None] | None
    """Told when there is nothing more to read and never will be."""

    async def start(self) -> None:
        """Raises DialError where the upstream can do nothing."""

    def tell(self, order: Order, standing: str = "") -> None:
        """Have it done to every engine, a `standing` one to those that take the place of others, too."""

    async def close(self) -> None:
        """End all flows and give the device back. Idempotent."""


class Alone:
    """One engine, here."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def on_device_lost(self) -> Callable[[], None] | None:
        return self._engine.on_device_lost

    @on_device_lost.setter
    def on_device_lost(self, told: Callable[[], None] | None) -> None:
        self._engine.on_device_lost = told

    async def start(self) -> None:
        await self._engine.start()

    def tell(self, order: Order, standing: str = "") -> None:
        order(self._engine)

    async def close(self) -> None:
        self._engine.close()


def make_engines(
    recipe: Recipe,
    queues: list[TunDevice],
    escape: Escape,
    dialer: Dialer,
    reporter: Reporter,
    capture: Capture | None,
) -> Engines:
    """For one queue an engine with `escape` and `dialer`; for several, a crew. The queues are theirs. Raises
    HostError."""
    if len(queues) == 1:
        from tunsmith.engine import Engine

        neighbour = recipe.neighbour(escape)
        hushed = Hushed(reporter)
        return Alone(Engine(queues[0], dialer, recipe.settings, hushed, capture, escape, neighbour))
    from tunsmith.workers.crew import Crew

    limits = recipe.settings.limits
    share = replace(recipe.settings, limits=replace(limits, flows=-(-limits.flows // len(queues))))
    job = replace(recipe, settings=share, offload=queues[0].offload, mtu=queues[0].mtu)
    slots = FakeIpPool.of(recipe.settings.network).slots
    return Crew(queues, job, slots, reporter.notice)


def speak_up(engine: Engine) -> None:
    """An order: flows are told of from now on. The first were our own."""
    reporter = engine.book.reporter
    assert isinstance(reporter, Hushed)
    reporter.aloud = True
