"""`tunsmith up`: check the command line, prepare, serve."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tunsmith.cli import config_file, options
from tunsmith.cli.main import FAILED, NOT_STARTED, complain
from tunsmith.config import Limits
from tunsmith.errors import DeviceError, DialError, HostError, TunsmithError, UsageError
from tunsmith.route.wish import AUTO, STRATEGIES, Wish

if TYPE_CHECKING:
    from collections.abc import Callable

    from tunsmith.relay.report import Reporter
    from tunsmith.up.asked import Asked
    from tunsmith.up.report import Report


@click.command()
@click.option(
    "--via", metavar="URL", type=options.upstream, default="direct", show_default=True, help="The upstream."
)
@click.option("--tun", metavar="NAME", help="Name of the TUN interface; by default tunsmith0 or the next.")
@click.option(
    "--include",
    metavar="CIDR",
    type=options.prefix,
    multiple=True,
    help="Only this goes through the TUN; may be repeated.",
)
@click.option(
    "--exclude",
    metavar="CIDR",
    type=options.prefix,
    multiple=True,
    help="This does not; may be repeated.",
)
@click.option(
    "--gateway", is_flag=True, help="Take what other hosts and containers send through this machine, too."
)
@click.option("--interface", metavar="IFACE", help="Our own traffic leaves by that interface only.")
@click.option(
    "--strategy",
    type=click.Choice([AUTO, *STRATEGIES]),
    default=AUTO,
    show_default=True,
    help="How traffic is caught and our own let go; see docs/up.md.",
)
@click.option("--strict", is_flag=True, help="Believe no route but those to our own networks (TunnelVision).")
@click.option("--fail-closed", is_flag=True, help="Where we die, let nothing out until `tunsmith restore`.")
@click.option(
    "--confirm",
    metavar="SECONDS",
    type=click.FloatRange(min=1),
    help="Put everything back unless `tunsmith confirm` is run in time.",
)
@click.option(
    "--dry-run", is_flag=True, help="Print what would be changed, and how it is undone; change nothing."
)
@click.option("--state", metavar="DIR", type=click.Path(path_type=Path), help="Where the journal is kept.")
@click.option("--capture", metavar="FILE", help="Write every packet to FILE (pcapng); - is standard output.")
@click.option(
    "--max-flows",
    metavar="N",
    type=click.IntRange(min=1),
    default=Limits().flows,
    show_default=True,
    help="Most flows at a time; the longest idle one makes room.",
)
@click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Processes that share the work, each with its own queue of the TUN.",
)
@click.option("-v", "--verbose", is_flag=True, help="Show each flow on standard error.")
@click.option("--json", is_flag=True, help="A line of JSON for each event and flow, on standard output.")
@config_file.option
def command(
    via: str,
    tun: str | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    gateway: bool,
    interface: str | None,
    strategy: str,
    strict: bool,
    fail_closed: bool,
    confirm: float | None,
    dry_run: bool,
    state: Path | None,
    capture: str | None,
    max_flows: int,
    workers: int,
    verbose: bool,
    json: bool,
) -> int:
    """Take the traffic of this machine through a TUN to the upstream: TCP, UDP, ping and DNS, IPv4 and IPv6.

    \b
    sudo tunsmith up                                       through this machine's network, and seen
    sudo tunsmith up --via socks5://user:pass@proxy:1080   everything by a proxy
    sudo tunsmith up --via http://proxy:3128 --exclude 10.0.0.0/8
    sudo tunsmith up --include 203.0.113.0/24 -v           only that network
    sudo tunsmith up --gateway --via ...                   for the LAN and containers, too
    sudo tunsmith up --confirm 60 --via ...                over SSH: undone unless `tunsmith confirm`
    sudo tunsmith up --fail-closed --strict --via ...      nothing leaves but by the proxy
    tunsmith up --dry-run                                  what would be changed, as commands

    \b
    The networks this machine stands in stay local, as do connections from outside. Ctrl-C, SIGTERM,
    SIGHUP or a closed terminal put everything back; if tunsmith is killed, its guard does within two
    seconds, and `tunsmith restore` at any time. An ordinary user serves on an interface made for him
    (`ip tuntap add tun7 mode tun user ME`; --tun tun7), and is told what root has to run.

    \b
    Exit code: 0 after a signal, or unconfirmed; 1 when it went wrong later; 2 for a wrong command line; 125
    where this machine or the proxy does not let us. The network is as it was in each case.
    """
    from tunsmith.host.state import default_directory
    from tunsmith.up.asked import Asked

    wish = Wish(
        tun=tun or "",
        include=tuple(map(options.parse_prefix, include)),
        exclude=tuple(map(options.parse_prefix, exclude)),
        interface=interface or "",
        strategy=strategy,
        strict=strict,
        gateway=gateway,
        fail_closed=fail_closed,
    )
    if capture is not None and workers > 1:
        raise UsageError("--capture: packets are written by one process; leave out --workers")
    asked = Asked(wish, state or default_directory(), via, confirm or 0.0, workers, Limits(flows=max_flows))
    try:
        if dry_run:
            return _show(asked, json)
        return _run(asked, _report(verbose, json), _flows(verbose, json), capture)
    except (HostError, DeviceError, DialError) as error:
        return complain(str(error), NOT_STARTED)
    except UsageError:
        raise
    except TunsmithError as error:
        return complain(str(error), FAILED)


def _show(asked: Asked, as_json: bool) -> int:
    from tunsmith.cli.up_report import plan_as_json, plan_as_text
    from tunsmith.up.service import look

    outlook = look(asked, dry_run=True)
    planned, exists = outlook.plan, outlook.snapshot.link(outlook.plan.tun) is not None
    click.echo(plan_as_json(planned) if as_json else plan_as_text(planned, exists=exists))
    return 0


def _run(asked: Asked, report: Report, flows: Callable[[], Reporter], capture: str | None) -> int:
    began = time.monotonic()
    from tunsmith.cli.process import (
        check_descriptor_limit,
        open_capture,
        raise_descriptor_limit,
    )
    from tunsmith.host.syscalls import keep_freed_memory
    from tunsmith.relay.event_loop import new_event_loop
    from tunsmith.up.service import look, prepare, serve

    check_descriptor_limit()
    raise_descriptor_limit()
    prepared = prepare(look(asked), flows)
    keep_freed_memory(trim=32 << 20, mmap=1 << 20)
    written = open_capture(capture)
    try:
        went_well = new_event_loop().run_until_complete(serve(prepared, report, written, began))
    finally:
        if written is not None:
            written.close()
    return 0 if went_well else FAILED


def _flows(verbose: bool, as_json: bool) -> Callable[[], Reporter]:
    """Makes the reporter of a worker: it tells of flows what `_report` would."""
    from tunsmith.relay.reporters import JsonLines, Lines, Notices

    if as_json:
        return JsonLines.on_stdout
    return Lines if verbose else Notices


def _report(verbose: bool, as_json: bool) -> Report:
    from tunsmith.cli.up_report import JsonReport, LinesReport, TextReport

    if as_json:
        return JsonReport()
    return LinesReport() if verbose else TextReport()
