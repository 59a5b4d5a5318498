"""The life of `up`, from the first look at the machine to its being as it was.

    look        check, read the machine, plan
    prepare     open the TUN; journal and guard; nothing is changed yet, and no event loop runs
    serve       engine, changes, proof, "it works"; until a signal, the guard or the end of the TUN says stop; then
                take back and close

The guard is forked before there are threads; whatever kills us from then on, it takes back.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import TYPE_CHECKING

from tunsmith.config import Settings
from tunsmith.dial.escape import Escape
from tunsmith.errors import DeviceError, HostError
from tunsmith.host import nft, restore
from tunsmith.host.guard import Word
from tunsmith.host.machine import Machine
from tunsmith.host.notify import Notify
from tunsmith.host.privilege import may_administer
from tunsmith.host.restore import Replay
from tunsmith.host.snapshot import take_snapshot
from tunsmith.host.tun import open_tun
from tunsmith.route.change import AddAddress
from tunsmith.route.facts import Snapshot
from tunsmith.route.plan import Plan, plan, settings
from tunsmith.route.wish import NETWORK
from tunsmith.up.adopted import lasting
from tunsmith.up.asked import Asked
from tunsmith.up.engines import Engines, Recipe, make_engines, speak_up
from tunsmith.up.footprint import Footprint
from tunsmith.up.leftover import without
from tunsmith.up.network import addresses as network_addresses
from tunsmith.up.network import network_for
from tunsmith.up.proof import prove
from tunsmith.up.report import Report, Works
from tunsmith.up.stop import Stop, Stopped
from tunsmith.up.tracking import Tracking
from tunsmith.up.upstream import Server, find_server, read_resolvers

if TYPE_CHECKING:
    from tunsmith.device.pcap import Capture
    from tunsmith.device.tun import TunDevice
    from tunsmith.dial.base import Dialer
    from tunsmith.relay.report import Reporter


@dataclass(frozen=True, slots=True)
class Outlook:
    """What would be done on this machine as it is now. `restored` are lines about what a dead instance had left."""

    asked: Asked
    plan: Plan
    snapshot: Snapshot
    settings: Settings
    search: tuple[str, ...]
    server: Server
    restored: tuple[str, ...] = ()


def look(asked: Asked, *, dry_run: bool = False) -> Outlook:
    """Plan. What an instance that died has left is taken back before, unless it is a `dry_run`. Raises UsageError,
    HostError; nothing was changed then."""
    resolv_conf = read_resolvers()
    engine_settings = Settings(limits=asked.limits, resolvers=resolv_conf.nameservers)
    server = find_server(asked.via, engine_settings)
    found = [] if dry_run or not may_administer() else _take_back_leftovers(asked)
    left = [
        step.entry.change for each in found for step in each.steps if step.outcome is restore.Outcome.BLOCKS
    ]
    names = [name for _, name in socket.if_nameindex()]
    snapshot = without(take_snapshot(settings(names), server.addresses), left)
    peers = [ip_network(peer) for peer in server.peers()]
    exclude = (*asked.wish.exclude, *(peer for peer in peers if peer not in asked.wish.include))
    network = network_for(asked.wish.takes_all, snapshot, but=(asked.wish.tun,))
    engine_settings = replace(engine_settings, network=network)
    wish = replace(
        asked.wish,
        addresses=network_addresses(network) if asked.wish.addresses == NETWORK else asked.wish.addresses,
        servers=server.addresses,
        exclude=exclude,
        nft=nft.is_there(),
    )
    if not may_administer():
        wish = replace(wish, strategy="interface", nft=False)
    restored = tuple(line for each in found for line in restore.summary(each))
    planned = plan(wish, snapshot)
    return Outlook(asked, planned, snapshot, engine_settings, resolv_conf.search, server, restored)


def _take_back_leftovers(asked: Asked) -> list[Replay]:
    """What stays of them is what keeps traffic in, where that is wanted this time, too."""
    with Machine() as machine:
        found = restore.replay_all(asked.state, machine, lift=not asked.wish.fail_closed)
    return [each for each in found if each.steps]


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything is at hand, nothing changed. `footprint` is None where we may change nothing."""

    outlook: Outlook
    queues: list[TunDevice]
    footprint: Footprint | None
    recipe: Recipe
    escape: Escape
    dialer: Dialer


def prepare(outlook: Outlook, reporter: Callable[[], Reporter]) -> Prepared:
    """Begin journal and guard; open the TUN. To be called before there are threads and event loops. `reporter` makes
    the one who is told of flows, wherever they are. Raises UsageError, HostError, DeviceError."""
    asked, planned = outlook.asked, outlook.plan
    recipe = Recipe(asked.via, outlook.settings, outlook.search, outlook.server, planned, reporter)
    escape = recipe.escape()
    dialer = recipe.dialer(escape)
    footprint = Footprint.begin(asked, planned.tun) if may_administer() else None
    queues: list[TunDevice] = []
    try:
        queues.extend(open_tun(planned.tun, multi_queue=asked.workers > 1) for _ in range(asked.workers))
    except BaseException as error:
        for queue in queues:
            queue.close()
        if footprint is not None:
            footprint.end(served=False)
        if isinstance(error, DeviceError) and os.geteuid() == 0 and not may_administer():
            raise HostError(
                "root may not change the network here (CAP_NET_ADMIN is missing): start the container with "
                "`--cap-add NET_ADMIN --device /dev/net/tun`"
            ) from None
        raise
    return Prepared(outlook, queues, footprint, recipe, escape, dialer)


async def serve(prepared: Prepared, report: Report, capture: Capture | None, began: float) -> bool:
    """Change the machine, serve, and put it back. `began` is when the program was started (monotonic seconds), for
    what is told. False where it could not go on until somebody ended it. Raises TunsmithError where it cannot be
    done; the machine is as it was then, too."""
    stop, notify = Stop(), Notify()
    engines: Engines | None = None
    tracking: Tracking | None = None
    served = False
    try:
        for line in prepared.outlook.restored:
            report.notice(line)
        engines = make_engines(
            prepared.recipe, prepared.queues, prepared.escape, prepared.dialer, report, capture
        )
        engines.on_device_lost = lambda: stop.because("the TUN interface is gone", failed=True)
        await stop.unless(engines.start())
        works = await stop.unless(_change(prepared))
        gc.collect()
        gc.set_threshold(50_000, 20, 20)  # as in cli/run.py
        gc.freeze()
        engines.tell(speak_up, standing="report")
        served = True
        report.works(replace(works, seconds=time.monotonic() - began))
        notify.say(READY=1, STATUS=f"{works.plan.tun} to {works.upstream}")
        notify.watch(asyncio.get_running_loop())
        if prepared.footprint is not None:
            _listen_to_guard(prepared.footprint, stop, report)
            tracking = Tracking(prepared.footprint, engines, report.notice)
            tracking.start(works.plan, prepared.outlook.server.addresses)
        await stop.happens()
    except Stopped:
        pass
    finally:
        notify.say(STOPPING=1)
        if stop.why:
            report.stopping(stop.why)
        if tracking is not None:
            tracking.close()
        await _end(prepared, engines, report, served)
        stop.close()
        notify.close()
    return not stop.failed


async def _end(prepared: Prepared, engines: Engines | None, report: Report, served: bool) -> None:
    """Routes first: no packet is to wait for an engine that has gone."""
    if prepared.footprint is not None:
        asyncio.get_running_loop().remove_reader(prepared.footprint.guard.fileno())
        report.stopped(prepared.footprint.end(served))
    if engines is not None:
        await engines.close()
    for queue in prepared.queues:
        queue.close()


async def _change(prepared: Prepared) -> Works:
    """Make the changes of the plan, and see whether they work."""
    outlook, footprint, upstream = prepared.outlook, prepared.footprint, prepared.dialer.label
    planned = outlook.plan
    if footprint is None:
        return Works(planned, upstream, None, planned.notes, _left_to_others(planned))
    changes = planned.changes
    existing = outlook.snapshot.link(planned.tun)
    if existing is not None:
        with Machine() as machine:
            changes = tuple(lasting(changes, existing, machine))
    missed = footprint.make(changes, planned.blocks)
    addresses = [change.address for change in planned.changes if isinstance(change, AddAddress)]
    missed += await prove(planned, outlook.settings.network, [address.version for address in addresses])
    if outlook.asked.confirm:
        footprint.guard.confirm_within(outlook.asked.confirm)
    path, notes = footprint.journal.path, (*planned.notes, *missed)
    return Works(planned, upstream, path, notes, confirm=outlook.asked.confirm)


def _left_to_others(planned: Plan) -> tuple[str, ...]:
    """The commands for what is not yet as it should be."""
    with Machine() as machine:
        return tuple(
            command
            for change in planned.changes
            if not machine.holds(change)
            for command in change.commands()
        )


def _listen_to_guard(footprint: Footprint, stop: Stop, report: Report) -> None:
    loop, guard = asyncio.get_running_loop(), footprint.guard

    def hear() -> None:
        word = guard.hear()
        if word is Word.UNCONFIRMED:
            stop.because("nobody confirmed in time")
        elif word is Word.CONFIRMED:
            report.notice("confirmed: it stays")
        elif word is Word.DEAD:
            loop.remove_reader(guard.fileno())
            try:
                guard.replace()
            except HostError as error:
                stop.because(str(error), failed=True)
            else:
                loop.add_reader(guard.fileno(), hear)

    loop.add_reader(guard.fileno(), hear)
