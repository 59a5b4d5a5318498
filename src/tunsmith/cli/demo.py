"""`tunsmith demo`: the main job on an embedded network."""

from __future__ import annotations

import math
import signal
import sys
from io import TextIOWrapper
from typing import TYPE_CHECKING

import click

from tunsmith.cli.main import NOT_STARTED
from tunsmith.errors import DeviceError, HostError, TunsmithError, UsageError

if TYPE_CHECKING:
    from tunsmith.demo.facts import Facts


@click.command()
@click.option(
    "--seconds",
    metavar="N",
    type=click.FloatRange(min=0.1, max=30.0),
    default=2.0,
    show_default=True,
    help="Length of each half of the speed test.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was found out as one JSON object.")
def command(seconds: float, as_json: bool) -> int:
    """See the main job on a private internet made for the occasion: no root, no set-up, nothing outside touched.

    Real programs run by `tunsmith run`, direct and through a SOCKS5 proxy; their flows and verdicts; a speed
    test; a capture file, which is the only thing left behind.

    \b
    Exit code: 0 if everything came out as expected, 1 if not; 125 if this machine does not let
    tunsmith run at all; 128+n if signal n ended it.
    """
    from tunsmith.demo.show import enter

    if math.isnan(seconds):  # no range keeps it out
        raise UsageError("--seconds nan: not a length of time")
    try:
        enter()
        import asyncio

        return asyncio.run(_demonstrate(seconds, as_json))
    except (HostError, DeviceError) as error:
        sys.stderr.write(f"tunsmith: {error}\n")
        return NOT_STARTED
    except BrokenPipeError:
        return 128 + signal.SIGPIPE
    except OSError as error:
        raise TunsmithError(f"the demo cannot go on: {error}") from error


async def _demonstrate(seconds: float, as_json: bool) -> int:
    """Play and show; a signal ends it early, in order."""
    import asyncio

    from tunsmith.demo.facts import Act, Facts
    from tunsmith.demo.scenes import scenes

    facts = Facts([Act(scene) for scene in scenes()])
    showing = asyncio.ensure_future(_print_json(facts, seconds) if as_json else _show(facts, seconds))
    received = 0

    def interrupt(number: int) -> None:
        nonlocal received
        received = number
        showing.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            asyncio.get_running_loop().add_signal_handler(number, interrupt, number)
    try:
        await showing
    except asyncio.CancelledError:
        return 128 + received
    return 1 if facts.faults() else 0


async def _print_json(facts: Facts, seconds: float) -> None:
    import json

    from tunsmith.demo.show import play

    await play(facts, seconds)
    click.echo(json.dumps(facts.as_json(), indent=2))


async def _show(facts: Facts, seconds: float) -> None:
    from rich.console import Console

    from tunsmith.demo.screen import Screen
    from tunsmith.demo.show import play

    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # where there is no ✔, a question mark will do
    screen = Screen(Console(highlight=False), facts)
    async with screen:
        await play(facts, seconds)
    screen.show_result()
