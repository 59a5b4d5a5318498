"""What goes through a contender: real programs, the same for all, each giving one number.

A workload starts its server in the server namespace, its client where the contender's users live, and
counts what the receiving end got. It also says how many units (bytes, connections, requests, datagrams)
that were, so that the contender's processor time can be divided by them.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.namespaces import BenchError, Lab, Namespace, wait_until

DATAGRAMS = str(Path(__file__).with_name("datagrams.py"))
HTTP_PORT = 80
SMALL = 160
"""Bytes in a small datagram: 20 ms of a telephone call."""
QUIC = 1200
QUIC_SEGMENTS = 50
GRACE = 15.0
"""Seconds a client may take beyond the measured time."""


@dataclass(frozen=True, slots=True)
class Load:
    """One run's surroundings: where the client is, which address the server has, how long it lasts."""

    lab: Lab
    inside: Namespace
    server: str
    seconds: float

    @property
    def patience(self) -> float:
        return self.seconds + GRACE


@dataclass(frozen=True, slots=True)
class Outcome:
    """`value` in the workload's own unit; `units` of work done, and the seconds they took."""

    value: float
    units: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Workload:
    """One row of the table. `unit` is that of its value, `work` the thing its units count."""

    name: str
    title: str
    unit: str
    work: str
    run: Callable[[Load], Outcome]
    udp: bool = False


def iperf(streams: int, down: bool) -> Callable[[Load], Outcome]:
    """TCP throughput as the receiver saw it."""

    def measure(load: Load) -> Outcome:
        port = load.lab.free_port()
        with load.lab.running(load.lab.server, "iperf3", "-s", "-1", "-p", str(port)):
            wait_until(lambda: load.lab.server.listens(port), "iperf3 server")
            argv = ["iperf3", "-c", load.server, "-p", str(port), "-J", "-P", str(streams)]
            argv += ["-t", f"{load.seconds:.0f}"] + ["-R"] * down
            said = json.loads(load.inside.run(*argv, seconds=load.patience))
        if "sum_received" not in said.get("end", {}):
            raise BenchError(f"iperf3: {said.get('error', 'no result')}")
        received = said["end"]["sum_received"]
        return Outcome(received["bits_per_second"] / 1e9, received["bytes"], received["seconds"])

    return measure


NGINX = """
daemon off; user root; worker_processes 2; pid {directory}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_requests 1000000000; sendfile on; tcp_nopush on; open_file_cache max=10;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
  server {{ listen {port} reuseport; listen [::]:{port} reuseport; root {directory}/www; }}
}}
"""


@contextmanager
def nginx(lab: Lab) -> Iterator[None]:
    """nginx on the server, with one file of 100 bytes."""
    www = lab.directory / "www"
    www.mkdir(exist_ok=True)
    (www / "small").write_bytes(b"x" * 100)
    config = lab.directory / "nginx.conf"
    config.write_text(NGINX.format(directory=lab.directory, port=HTTP_PORT))
    with lab.running(lab.server, "nginx", "-c", str(config), "-e", "stderr"):
        wait_until(lambda: lab.server.listens(HTTP_PORT), "nginx")
        yield


def wrk(connections: int, close: bool) -> Callable[[Load], Outcome]:
    """HTTP requests per second: each on a connection of its own, or all on kept ones."""

    def measure(load: Load) -> Outcome:
        host = f"[{load.server}]" if ":" in load.server else load.server
        argv = ["wrk", "-t", "1", "-c", str(connections), "-d", f"{load.seconds:.0f}s"]
        argv += ["-H", "Connection: close"] * close + [f"http://{host}:{HTTP_PORT}/small"]
        with nginx(load.lab):
            out = load.inside.run(*argv, seconds=load.patience)
        return wrk_outcome(out)

    return measure


def wrk_outcome(out: str) -> Outcome:
    """Parse what wrk says; more than one request in a hundred failing is no result."""
    rate = re.search(r"Requests/sec:\s+([\d.]+)", out)
    total = re.search(r"(\d+) requests in ([\d.]+)s", out)
    if not rate or not total:
        raise BenchError(f"wrk: {out.strip().splitlines()[-1] if out.strip() else 'no output'}")
    requests = int(total[1])
    errors = sum(
        int(number) for line in re.findall(r"Socket errors:(.*)", out) for number in re.findall(r"\d+", line)
    )
    errors += sum(int(number) for number in re.findall(r"Non-2xx or 3xx responses: (\d+)", out))
    if requests == 0 or errors > requests / 100:
        raise BenchError(f"wrk: {errors} errors in {requests} requests")
    return Outcome(float(rate[1]) / 1e3, requests, float(total[2]))


def datagrams(size: int, segments: int, down: bool) -> Callable[[Load], Outcome]:
    """Datagrams received per second, one flow, sent as fast as the sender can."""
    outer, inner = ("source", "call") if down else ("sink", "flood")

    def measure(load: Load) -> Outcome:
        port = load.lab.free_port()
        where = [load.server, str(port), "--size", str(size)]
        where += ["--segments", str(segments), "--seconds", str(load.seconds)]
        # -S -E: no site packages, no environment; it starts in 15 ms.
        program = [sys.executable, "-S", "-E", DATAGRAMS]
        with load.lab.running(load.lab.server, *program, outer, *where) as server:
            wait_until(lambda: load.lab.server.listens(port, "udp"), "UDP server")
            printed = load.inside.run(*program, inner, *where, seconds=load.patience)
            if not down:
                printed = wait_for_output(server, load.patience)
        if not printed:
            raise BenchError(f"UDP: nothing arrived ({load.lab.last_words()})")
        counted = json.loads(printed)
        return Outcome(
            counted["datagrams"] / counted["seconds"] / 1e3, counted["datagrams"], counted["seconds"]
        )

    return measure


def wait_for_output(process: subprocess.Popen[str], seconds: float) -> str:
    """All that `process` prints until it ends; empty when it does not end in time."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return ""
    return process.stdout.read() if process.stdout else ""


WORKLOADS = (
    Workload("tcp-up-1", "TCP up, 1 stream", "Gbit/s", "byte", iperf(1, down=False)),
    Workload("tcp-down-1", "TCP down, 1 stream", "Gbit/s", "byte", iperf(1, down=True)),
    Workload("tcp-up-8", "TCP up, 8 streams", "Gbit/s", "byte", iperf(8, down=False)),
    Workload("tcp-down-8", "TCP down, 8 streams", "Gbit/s", "byte", iperf(8, down=True)),
    Workload("connections", "new connections", "k/s", "connection", wrk(50, close=True)),
    Workload("requests", "requests on kept connections", "k/s", "request", wrk(50, close=False)),
    Workload("udp-up", f"UDP {SMALL} B up", "kpps", "datagram", datagrams(SMALL, 1, down=False), udp=True),
    Workload("udp-down", f"UDP {SMALL} B down", "kpps", "datagram", datagrams(SMALL, 1, down=True), udp=True),
    Workload(
        "gso-up", f"UDP {QUIC} B with GSO up", "kpps", "datagram",
        datagrams(QUIC, QUIC_SEGMENTS, down=False), udp=True,
    ),
    Workload(
        "gso-down", f"UDP {QUIC} B with GSO down", "kpps", "datagram",
        datagrams(QUIC, QUIC_SEGMENTS, down=True), udp=True,
    ),
)  # fmt: skip
