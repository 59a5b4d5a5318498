"""`tunsmith echo TUN ADDRESS PORT`: what somebody says to ADDRESS, a host that does not exist, comes back to him."""

from __future__ import annotations

import asyncio
import json as json_format
import sys
import time
from typing import TYPE_CHECKING

import click

from tunsmith.cli.on_link import (
    Interface,
    open_stack,
    parse_own_address,
    parse_station,
    run_until_signal,
    say_about,
)
from tunsmith.errors import DeviceError
from tunsmith.relay.reporters import human_size

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter

CHUNK = 256 << 10
LINGER = 1.0
"""Seconds that clients get, at the end, to take what is theirs."""


@click.command()
@click.option("--tap", is_flag=True, help="TUN is a TAP: Ethernet, with ARP and neighbour discovery.")
@click.option("--mac", metavar="MAC", help="The MAC address on a TAP; by default one made up.")
@click.option("--json", is_flag=True, help="A line of JSON for each event, on standard output.")
@click.argument("tun")
@click.argument("address")
@click.argument("port", type=click.IntRange(1, 65535))
def command(tun: str, address: str, port: int, tap: bool, mac: str | None, json: bool) -> int:
    """A TCP echo server at ADDRESS port PORT, on the interface TUN: a TCP/IP stack of its own, no socket.

    \b
    tunsmith echo tun0 10.7.0.2 7 &
    echo hello | nc -N 10.7.0.2 7
    ping -c 1 10.7.0.2
    tunsmith echo tun0 fd07::2 7           IPv6
    tunsmith echo --tap --mac 02:00:5e:10:00:01 tap0 10.7.0.2 7

    \b
    Where there is no interface TUN, one is made: this machine is 10.7.0.1 on it (the other host of the /30, or /126),
    and all is gone at the end. One that is there (`ip tuntap add tun0 mode tun user ME`) is used as it is.

    \b
    Exit code: 0 when ended by SIGINT or SIGTERM; 2 for a wrong command line; 125 where TUN cannot be used.
    """
    ours = parse_own_address(address, "ADDRESS")
    station = parse_station(mac, tap)
    return run_until_signal(lambda: serve(tun, ours, port, tap, station, _Reporter(json)))


async def serve(
    tun: str, address: Interface, port: int, tap: bool, mac: bytes | None, report: _Reporter
) -> int:
    """Echo until cancelled."""
    from tunsmith.host.link import open_link

    link = open_link(tun, address.ip, tap=tap)
    stack = open_stack(link, address, mac)

    async def echo(reader: StreamReader, writer: StreamWriter) -> None:
        began, error = time.monotonic(), None
        try:
            while data := await reader.read(CHUNK):
                writer.write(data)
                await writer.drain()
            writer.close()
            await writer.wait_closed()
        except OSError as reason:
            error = reason
        report.connection(writer, time.monotonic() - began, error)

    try:
        say_about(link, report.notice)
        await stack.settle()
        await stack.start_server(echo, str(address.ip), port, limit=CHUNK)
        report.listening(link.name, address, port)
        await stack.until_gone()
        raise DeviceError(f"{link.name} is gone")
    except asyncio.CancelledError:
        pass
    finally:
        await stack.close(LINGER)
    return 0


class _Reporter:
    """Tells people on standard error, programs on standard output."""

    def __init__(self, as_json: bool) -> None:
        self._json = as_json

    def notice(self, text: str) -> None:
        self._write(f"tunsmith: {text}", event="notice", text=text)

    def listening(self, tun: str, address: Interface, port: int) -> None:
        where = f"[{address.ip}]:{port}" if address.version == 6 else f"{address.ip}:{port}"
        self._write(
            f"tunsmith: echo at {where} on {tun}",
            event="listening", interface=tun, address=str(address.ip), port=port,
        )  # fmt: skip

    def connection(self, writer: StreamWriter, seconds: float, error: OSError | None) -> None:
        peer, statistics = writer.get_extra_info("peername"), writer.get_extra_info("statistics")
        outcome = "closed" if error is None else error.strerror or str(error)
        self._write(
            f"{peer[0]} port {peer[1]}: {outcome}, {human_size(statistics.bytes_received)} in {seconds:.2f} s",
            event="connection", peer=peer[0], peer_port=peer[1], outcome=outcome,
            received=statistics.bytes_received, sent=statistics.bytes_sent, seconds=round(seconds, 6),
        )  # fmt: skip

    def _write(self, line: str, **event: object) -> None:
        stream = sys.stdout if self._json else sys.stderr
        try:
            stream.write((json_format.dumps(event) if self._json else line) + "\n")
            stream.flush()
        except OSError:
            pass  # nobody reads it; the server serves on
