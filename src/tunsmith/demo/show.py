"""The conductor: plays the scenes on the private internet, one after the other, and keeps the facts."""

from __future__ import annotations

import asyncio

from tunsmith.demo.capture import CaptureBook
from tunsmith.demo.client import DIRECT, PATIENCE, run_alone, run_behind
from tunsmith.demo.facts import Facts, Stage, Transfer
from tunsmith.demo.internet import RESOLVER, Internet, addresses
from tunsmith.demo.scenes import measuring
from tunsmith.errors import HostError
from tunsmith.host.inside import TUN_NAME
from tunsmith.host.private import enter_private_network
from tunsmith.host.tun import open_tun

NOT_STARTED = 125
"""Exit code of `tunsmith run` where it could not start the program."""
_GLANCE = 0.1
"""Seconds between looks at a transfer."""


def enter() -> None:
    """Move this process to where the private internet will be. Raises HostError where this machine forbids
    what the demo, or `tunsmith run`, needs."""
    enter_private_network(addresses(), f"nameserver {RESOLVER}\n")
    open_tun(TUN_NAME).close()


async def play(facts: Facts, seconds: float) -> None:
    """Everything, with a speed test of twice `seconds`; to be called after `enter`. Raises HostError where
    tunsmith cannot run at all. When cancelled, every program ends and no file is left."""
    book = CaptureBook()
    try:
        async with Internet() as internet:
            await _play_acts(facts, internet, book)
            await _measure(facts.without, internet, seconds, through=False)
            await _measure(facts.behind, internet, seconds, through=True)
        try:
            facts.capture = book.save()
        except OSError as error:
            facts.capture_fault = str(error)
    finally:
        book.close()


async def _play_acts(facts: Facts, internet: Internet, book: CaptureBook) -> None:
    names = facts.names
    for act in facts.acts:
        scene = act.scene
        asked = len(internet.names.asked)
        act.stage = Stage.NOW
        finished = await run_behind(scene.command, scene.via, book)
        if finished.code == NOT_STARTED:
            raise HostError(finished.complaint.removeprefix("tunsmith: "))
        act.end(finished)
        if scene.via != DIRECT:
            names.stage = Stage.NOW
            names.proxy = list(dict.fromkeys(internet.proxy.names))
            names.leaked += internet.names.asked[asked:]
    names.stage = Stage.DONE


async def _measure(transfer: Transfer, internet: Internet, seconds: float, *, through: bool) -> None:
    """Download for `seconds`, and look on."""
    transfer.stage = Stage.NOW
    command = measuring(seconds)
    patience = PATIENCE + seconds
    watcher = asyncio.ensure_future(_watch(transfer, internet, seconds))
    try:
        if through:
            finished = await run_behind(command, DIRECT, patience=patience)
        else:
            finished = await run_alone(command, patience)
    finally:
        watcher.cancel()
    transfer.stage, transfer.progress = Stage.DONE, 1.0
    try:
        size, total, first = map(float, finished.said.split())
        transfer.rate = 8 * size / (total - first)
    except (ValueError, ZeroDivisionError):
        transfer.rate = 0.0
        transfer.fault = " ".join(f"{finished.said} {finished.complaint}".split()) or "nothing came"


async def _watch(transfer: Transfer, internet: Internet, seconds: float) -> None:
    """Keep the rate and the progress up to date, as the server sees them."""
    loop = asyncio.get_running_loop()
    nothing = internet.web.streamed
    start = 0.0
    while True:
        await asyncio.sleep(_GLANCE)
        sent = internet.web.streamed - nothing
        if sent and not start:
            start, nothing = loop.time(), internet.web.streamed
        elif sent:
            elapsed = loop.time() - start
            transfer.rate = 8 * sent / elapsed
            transfer.progress = min(1.0, elapsed / seconds)
