"""`tunsmith run -- CMD`: check everything, make the namespace, start the engine, let CMD go.

A forked child makes the namespace while this process imports the engine; CMD, which that child becomes,
is let go only once packets flow.
"""

from __future__ import annotations

import gc
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from tunsmith.cli import config_file, options
from tunsmith.cli.main import NOT_STARTED
from tunsmith.cli.process import (
    check_descriptor_limit,
    open_capture,
    raise_descriptor_limit,
    warn,
)
from tunsmith.cli.publish import parse_all
from tunsmith.config import Limits, Settings
from tunsmith.errors import HostError, TunsmithError, UsageError

if TYPE_CHECKING:
    from tunsmith.device.pcap import Capture
    from tunsmith.dial.base import Dialer
    from tunsmith.engine import Engine
    from tunsmith.host.sandbox import Sandbox
    from tunsmith.relay.report import Reporter

LOCAL_RESOLVER = "127.0.0.1"
"""What glibc asks when resolv.conf names nobody."""


@dataclass(frozen=True, slots=True)
class Request:
    """A command line that has been checked."""

    command: list[str]
    dialer: Dialer
    settings: Settings
    resolv_conf: str
    reporter: Reporter
    capture: Capture | None


@click.command(context_settings={"allow_interspersed_args": False})
@config_file.option
@click.option(
    "--via", metavar="URL", type=options.upstream, default="direct", show_default=True, help="The upstream."
)
@click.option(
    "--interface",
    metavar="IFACE",
    help="Leave this machine by that network interface only.",
)
@click.option(
    "--publish",
    metavar="[ADDR:]PORT:PORT[/tcp|/udp]",
    type=options.publish,
    multiple=True,
    help="Make a port inside reachable from outside, at ADDR or every address; may be repeated.",
)
@click.option("--capture", metavar="FILE", help="Write every packet to FILE (pcapng); - is standard output.")
@click.option(
    "--max-flows",
    metavar="N",
    type=click.IntRange(min=1),
    default=Limits().flows,
    show_default=True,
    help="Most flows at a time; the longest idle one makes room.",
)
@click.option("-v", "--verbose", is_flag=True, help="Show each flow on standard error.")
@click.option("--json", is_flag=True, help="Show each flow as a line of JSON on standard error.")
@click.argument("arguments", metavar="-- CMD [ARG]...", nargs=-1, type=click.UNPROCESSED)
def command(
    via: str,
    interface: str | None,
    publish: tuple[str, ...],
    capture: str | None,
    max_flows: int,
    verbose: bool,
    json: bool,
    arguments: tuple[str, ...],
) -> int:
    """Run CMD in a network of its own whose only way out is the upstream: TCP, UDP and DNS, IPv4 and IPv6.

    \b
    tunsmith run -- curl https://example.com
    tunsmith run --via socks5://user:pass@127.0.0.1:1080 -- git clone https://...
    tunsmith run --via http://proxy:3128 -- pip download requests
    tunsmith run --via block -- make test              no network at all
    tunsmith run --publish 8080:80 -- ./server         its port 80 is our port 8080
    tunsmith run --capture flows.pcapng -v -- ./app    and read it with Wireshark

    \b
    Upstreams: direct; socks5://[user:pass@]host:port or host:port;
    http://[user:pass@]host:port; block.

    \b
    Exit code: that of CMD; 128+n if signal n ended it, 127 if it was not found, 126 if it cannot
    be executed; 125 if tunsmith failed before CMD was started; 2 for a wrong option.
    """
    if not arguments:
        raise UsageError("no command given: tunsmith run [OPTIONS] -- CMD [ARG]...")
    request = _check(list(arguments), via, interface, publish, capture, max_flows, verbose, json)
    try:
        return _run(request)
    except TunsmithError as error:
        warn(str(error))
        return NOT_STARTED


def _check(
    arguments: list[str],
    via: str,
    interface: str | None,
    publish: tuple[str, ...],
    capture: str | None,
    max_flows: int,
    verbose: bool,
    json: bool,
) -> Request:
    """Everything that can be wrong with the command line is found here, before anything is changed."""
    from tunsmith.dial.escape import Escape
    from tunsmith.dial.url import make_dialer
    from tunsmith.dns import resolvconf
    from tunsmith.relay.reporters import make_reporter

    caller = resolvconf.parse(_resolv_conf())
    settings = Settings(
        limits=Limits(flows=max_flows),
        resolvers=caller.nameservers or (LOCAL_RESOLVER,),
        publish=parse_all(publish),
    )
    dialer = make_dialer(via, None if interface is None else Escape(interface))
    resolver = str(settings.network.gateway)
    return Request(
        arguments,
        dialer,
        settings,
        resolvconf.render([resolver], keep=None if dialer.wants_names else caller),
        make_reporter(verbose, json),
        open_capture(capture),
    )


def _run(request: Request) -> int:
    from tunsmith.host.sandbox import Sandbox
    from tunsmith.host.syscalls import keep_freed_memory
    from tunsmith.relay.event_loop import new_event_loop

    check_descriptor_limit()
    sandbox = Sandbox.spawn(request.command, request.settings.network, request.resolv_conf)
    try:
        raise_descriptor_limit()
        keep_freed_memory(trim=32 << 20, mmap=1 << 20)
        return new_event_loop().run_until_complete(_serve(request, sandbox))
    except OSError as error:
        if sandbox.is_running:
            raise
        raise HostError(f"cannot start: {error.strerror or error}") from error
    finally:
        sandbox.close()
        if request.capture is not None:
            request.capture.close()


async def _serve(request: Request, sandbox: Sandbox) -> int:
    """Start the engine, let CMD go, and see it end; a signal before or after that ends us instead."""
    import asyncio

    from tunsmith.device.tun import TunDevice
    from tunsmith.engine import Engine
    from tunsmith.host.signals import SignalRelay

    interrupted = 0
    this = asyncio.current_task()
    assert this is not None

    def interrupt(number: int) -> None:
        nonlocal interrupted
        interrupted = number
        this.cancel()

    signals = SignalRelay(sandbox, asyncio.get_running_loop(), interrupt)
    try:
        sandbox.ready()
        settings = request.settings
        device = TunDevice(sandbox.tun_fd, sandbox.offload, settings.network.mtu)
        engine = Engine(device, request.dialer, settings, request.reporter, request.capture)
        await engine.start()
        gc.set_threshold(50_000, 20, 20)  # flows free themselves; cycles are rare
        gc.freeze()  # what is here now stays to the end: spare the collector the look at it
        try:
            sandbox.release()
            code = await sandbox.wait()
            await _drain(request, engine, sandbox, killed=code >= 128)
            return code
        finally:
            engine.close()
    except asyncio.CancelledError:
        return 128 + interrupted
    except HostError:
        signals.hear()  # Ctrl-C ends the child as well, and its end may be what we notice first
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        if interrupted:
            return 128 + interrupted
        raise
    finally:
        signals.close()


async def _drain(request: Request, engine: Engine, sandbox: Sandbox, killed: bool) -> None:
    """Deliver what CMD left behind: quickly where it was killed or has children that live on, otherwise as long
    as an upstream, however slow, takes it."""
    limits = request.settings.limits
    if await engine.drain(limits.stop, limits.stop) and not killed and sandbox.is_deserted():
        request.reporter.notice("the program has ended; what it sent is still on its way (Ctrl-C gives up)")
        await engine.drain(limits.drain, limits.stall)


def _resolv_conf() -> str:
    from tunsmith.host.resolvfiles import RESOLV_CONF, read_regular_file

    try:
        return read_regular_file(RESOLV_CONF)
    except OSError:
        return ""
