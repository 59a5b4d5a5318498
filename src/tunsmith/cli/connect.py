"""`tunsmith connect TUN LADDR LPORT RADDR RPORT`: standard input to a server and its answer to standard output, over
a TCP connection of our own from LADDR, a host that does not exist."""

from __future__ import annotations

import asyncio
import errno
import json as json_format
import math
import sys
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from tunsmith.aio.address import os_error
from tunsmith.cli.main import FAILED, complain
from tunsmith.cli.on_link import (
    Interface,
    open_stack,
    parse_address,
    parse_own_address,
    parse_station,
    run_until_signal,
    say_about,
)
from tunsmith.cli.standard_streams import read_chunks, write_all
from tunsmith.errors import UsageError

if TYPE_CHECKING:
    from tunsmith.aio.stack import Stack
    from tunsmith.aio.statistics import ConnectionStatistics

CHUNK = 256 << 10
STDIN, STDOUT = 0, 1
NOBODY_READS = 128 + 13
"""As of a program that SIGPIPE has ended."""


@click.command()
@click.option("--tap", is_flag=True, help="TUN is a TAP: Ethernet, with ARP and neighbour discovery.")
@click.option("--mac", metavar="MAC", help="The MAC address on a TAP; by default one made up.")
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    help="How long to wait for the connection.",
)
@click.option(
    "--json", is_flag=True, help="A line of JSON about the connection at its end, on standard error."
)
@click.option("-v", "--verbose", is_flag=True, help="Say what happens, on standard error.")
@click.argument("tun")
@click.argument("laddr")
@click.argument("lport", type=click.IntRange(0, 65535))
@click.argument("raddr")
@click.argument("rport", type=click.IntRange(1, 65535))
def command(
    tun: str,
    laddr: str,
    lport: int,
    raddr: str,
    rport: int,
    tap: bool,
    mac: str | None,
    timeout: float | None,
    json: bool,
    verbose: bool,
) -> int:
    """Connect from LADDR port LPORT (0: any) on the interface TUN to RADDR port RPORT; copy standard input there and
    the answer to standard output, each until its end. A TCP/IP stack of its own, no socket.

    \b
    nc -l 8000 &
    printf hi | tunsmith connect tun0 10.7.0.2 0 10.7.0.1 8000
    tunsmith connect tun0 fd07::2 0 fd07::1 22             IPv6
    tunsmith connect --tap tap0 10.7.0.2 0 10.7.0.1 8000   Ethernet

    \b
    Where there is no interface TUN, one is made, and is gone at the end: this machine is RADDR on it if that is in
    the network of LADDR (a /24 or /64, or what LADDR says: 10.7.0.2/16), else the other host of LADDR's /30 (/126).
    One that is there (`ip tuntap add tun0 mode tun user ME`) is used as it is.

    \b
    Exit code: 0 when both halves were closed in order and all was delivered; otherwise the errno of what ended it:
    104 connection reset (RST), 111 refused, 110 timed out, 113 or 101 unreachable, 98 ends in use, 100 TUN gone;
    2 for a wrong command line; 125 where TUN cannot be used; 130, 143 after SIGINT, SIGTERM; 141 when nobody
    reads the output.
    """
    local, remote = parse_own_address(laddr, "LADDR"), parse_address(raddr, "RADDR")
    if local.version != remote.version:
        raise UsageError(f"LADDR {local.ip} and RADDR {remote.ip}: both have to be IPv4, or both IPv6")
    if local.ip == remote.ip:
        raise UsageError(f"LADDR and RADDR are both {local.ip}: they have to be two hosts")
    if timeout is not None and not math.isfinite(timeout):
        raise UsageError(f"--timeout {timeout}: not a length of time")
    station = parse_station(mac, tap)
    talk = _Talk((local, lport), (remote, rport), timeout, verbose)
    code = run_until_signal(lambda: talk.run(tun, tap, station))
    if json and talk.statistics is not None:
        sys.stderr.write(json_format.dumps({"exit_code": code, **asdict(talk.statistics)}) + "\n")
    return code


class _Talk:
    """One connection, from its beginning to the exit code."""

    def __init__(
        self,
        local: tuple[Interface, int],
        remote: tuple[Interface, int],
        timeout: float | None,
        verbose: bool,
    ) -> None:
        self._local, self._lport = local
        self._remote, self._rport = remote
        self._timeout = timeout
        self._verbose = verbose
        self._statistics: Callable[[], ConnectionStatistics] | None = None

    @property
    def statistics(self) -> ConnectionStatistics | None:
        """Those of the connection; None where there was none."""
        return self._statistics() if self._statistics else None

    async def run(self, tun: str, tap: bool, mac: bytes | None) -> int:
        """All of it; returns the exit code."""
        from tunsmith.host.link import is_local, open_link

        remote, local = self._remote.ip, self._local
        here = remote if remote in local.network and not is_local(remote) else None
        link = open_link(tun, local.ip, here, tap=tap)
        stack = open_stack(link, local, mac)
        if self._verbose or not link.up:
            say_about(link, self._say)
        patience: float | None = 0.0
        try:
            await stack.settle()
            await self._talk(stack)
            patience = None  # what was said is delivered, however long the peer takes
        except _OutputError as error:
            if error.errno == errno.EPIPE:
                return NOBODY_READS
            return complain(f"cannot write to standard output: {error.strerror}", FAILED)
        except OSError as error:
            return self._failed(error)
        finally:
            await stack.close(patience)
        statistics = self.statistics
        if statistics is not None and statistics.bytes_acked < statistics.bytes_sent:
            return self._failed(os_error(errno.ECONNRESET, "before it had taken everything"))
        return 0

    async def _talk(self, stack: Stack) -> None:
        reader, writer = await stack.open_connection(
            str(self._remote.ip),
            self._rport,
            local=(str(self._local.ip), self._lport),
            timeout=self._timeout,
            limit=CHUNK,
        )
        self._statistics = lambda: writer.get_extra_info("statistics")
        if self._verbose:
            self._say(f"connected from port {writer.get_extra_info('sockname')[1]}")
        halves = [asyncio.create_task(_send(writer)), asyncio.create_task(_receive(reader))]
        try:
            await asyncio.gather(*halves)
        except BaseException:
            for half in halves:
                half.cancel()
            writer.transport.abort()
            raise
        writer.close()

    def _failed(self, error: OSError) -> int:
        where = f"{self._remote.ip} port {self._rport}"
        text = error.strerror or str(error)
        return complain(text if where in text else f"{where}: {text}", error.errno or FAILED)

    @staticmethod
    def _say(line: str) -> None:
        sys.stderr.write(f"tunsmith: {line}\n")


class _OutputError(OSError):
    """Standard output takes no more."""


async def _send(writer: StreamWriter) -> None:
    """Standard input, as it comes, and FIN at its end."""
    async for data in read_chunks(STDIN, CHUNK):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


async def _receive(reader: StreamReader) -> None:
    """What comes back, until the peer's FIN."""
    while data := await reader.read(CHUNK):
        try:
            await write_all(STDOUT, data)
        except OSError as error:
            raise _OutputError(error.errno, error.strerror) from error
