"""Two machines out of one: a client and a server namespace, joined by a veth pair.

Everything a benchmark starts, it starts through a `Lab`, so that one `close()` ends it all: processes
first, then namespaces (which take links, routes and rules with them), then files. What an earlier run left
behind because it was killed is swept when the next one begins: namespaces carry the pid of their maker.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

PREFIX = "tsbench"
CLIENT_LINK = "veth-c"
SYSCTLS = {
    # New connections per second are worthless while TIME_WAIT exhausts the ports.
    "net/ipv4/ip_local_port_range": "1024 65535",
    "net/ipv4/tcp_max_tw_buckets": "512",
    "net/ipv4/tcp_tw_reuse": "1",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/core/somaxconn": "4096",
}
CONGESTION = "net/ipv4/tcp_congestion_control"


class BenchError(Exception):
    """This run cannot give a number; the message says why in one line."""


def wait_until(ready: Callable[[], object], what: str, seconds: float = 5.0) -> None:
    """Poll `ready` until it is true. Raises BenchError naming `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise BenchError(f"{what}: not within {seconds:g} s")
        time.sleep(0.02)


def run(argv: Sequence[str], seconds: float = 10.0, name: str = "") -> str:
    """Run to the end and return stdout. Raises BenchError with `name` and the last line of stderr."""
    name = name or " ".join(argv[:4])
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise BenchError(f"{name}: not done within {seconds:g} s") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if process.returncode:
        lines = (err or out).strip().splitlines() or [f"exit code {process.returncode}"]
        raise BenchError(f"{name}: {lines[-1]}")
    return out


@dataclass(frozen=True, slots=True)
class Namespace:
    """A network namespace, by a path that leads to it."""

    path: str

    def command(self, argv: Sequence[str]) -> list[str]:
        """`argv` as it must be run to happen in here."""
        return ["nsenter", f"--net={self.path}", "--", *argv]

    def run(self, *argv: str, seconds: float = 10.0) -> str:
        return run(self.command(argv), seconds, name=" ".join((Path(argv[0]).name, *argv[1:3])))

    def ip(self, words: str) -> str:
        return self.run("ip", *words.split())

    def tune(self, sysctls: dict[str, str]) -> None:
        """Bring up loopback, and set the `sysctls` of every namespace that opens or takes connections."""
        self.ip("link set lo up")
        for key, value in sysctls.items():
            self.run("sh", "-c", f"echo {value} > /proc/sys/{key}")

    def listens(self, port: int, protocol: str = "tcp") -> bool:
        """Whether a socket of any address family is bound to `port`, listening if it is TCP."""
        return bool(self.run("ss", "-Hln", f"--{protocol}", f"sport = :{port}").strip())

    def has_address(self, link: str) -> bool:
        """Whether `link` exists and has a usable IPv4 address."""
        try:
            return "inet " in self.ip(f"addr show dev {link} up")
        except BenchError:
            return False


class Lab:
    """The client and the server machine, and all that runs on them. Close it, or use it as a context.
    `congestion` names the congestion control of its kernels; without it, it is this machine's."""

    client_address: ClassVar = {4: "10.77.1.1", 6: "fd77:1::1"}
    server_address: ClassVar = {4: "10.77.1.2", 6: "fd77:1::2"}

    def __init__(self, congestion: str | None = None) -> None:
        sweep()
        self._sysctls = dict(SYSCTLS)
        if congestion is not None:
            self._sysctls[CONGESTION] = congestion
        self.directory = Path(tempfile.mkdtemp(prefix=f"{PREFIX}-"))
        self._processes: list[subprocess.Popen[str]] = []
        self._names: list[str] = []
        self._ports = iter(range(5201, 65000))
        try:
            self.client = self.add_namespace("client")
            self.server = self.add_namespace("server")
            self._join()
        except BaseException:
            self.close()
            raise

    def add_namespace(self, role: str) -> Namespace:
        name = f"{PREFIX}-{os.getpid()}-{role}"
        run(["ip", "netns", "add", name])
        self._names.append(name)
        namespace = Namespace(f"/run/netns/{name}")
        namespace.tune(self._sysctls)
        return namespace

    @contextmanager
    def extra_namespace(self, role: str) -> Iterator[Namespace]:
        """One more namespace, joined to nothing, for as long as the context lasts."""
        namespace = self.add_namespace(role)
        try:
            yield namespace
        finally:
            self._delete(self._names.pop())

    def _join(self) -> None:
        ends = [(self.client, CLIENT_LINK, self.client_address), (self.server, "veth-s", self.server_address)]
        self.client.ip(
            f"link add {CLIENT_LINK} type veth peer name veth-s netns {Path(self.server.path).name}"
        )
        for namespace, link, address in ends:
            namespace.ip(f"addr add {address[4]}/24 dev {link}")
            namespace.ip(f"addr add {address[6]}/64 dev {link} nodad")
            namespace.ip(f"link set {link} up")
        # pasta takes its addresses and its interface from the default route.
        self.client.ip(f"route add default via {self.server_address[4]}")
        self.client.ip(f"-6 route add default via {self.server_address[6]}")

    def free_port(self) -> int:
        """A port no earlier run of this lab has used."""
        return next(self._ports)

    def start(self, namespace: Namespace, *argv: str) -> subprocess.Popen[str]:
        """Start a program in `namespace`; its output goes to a pipe (stdout) and the lab's log (stderr)."""
        with (self.directory / "log").open("a") as log:
            process = subprocess.Popen(
                namespace.command(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
                text=True, start_new_session=True,
            )  # fmt: skip
        self._processes.append(process)
        return process

    @contextmanager
    def running(self, namespace: Namespace, *argv: str) -> Iterator[subprocess.Popen[str]]:
        """A program for as long as the context lasts."""
        process = self.start(namespace, *argv)
        try:
            yield process
        finally:
            self.stop(process)

    def stop(self, process: subprocess.Popen[str]) -> None:
        """End `process` and its session: politely, then not."""
        for sign, patience in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 3.0)):
            try:
                os.killpg(process.pid, sign)
            except ProcessLookupError:
                pass
            try:
                process.wait(patience)
                break
            except subprocess.TimeoutExpired:
                continue
        if process.stdout:
            process.stdout.close()
        if process in self._processes:
            self._processes.remove(process)

    def last_words(self) -> str:
        """The last line any program of this lab wrote to stderr."""
        lines = (self.directory / "log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def close(self) -> None:
        for process in list(self._processes):
            self.stop(process)
        while self._names:
            self._delete(self._names.pop())
        shutil.rmtree(self.directory, ignore_errors=True)

    @staticmethod
    def _delete(name: str) -> None:
        for pid in run(["ip", "netns", "pids", name]).split():
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                pass
        run(["ip", "netns", "delete", name])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def sweep() -> None:
    """Remove the namespaces of benchmarks whose process is gone."""
    for entry in Path("/run/netns").glob(f"{PREFIX}-*-*") if Path("/run/netns").exists() else ():
        maker = entry.name.split("-")[1]
        if not Path(f"/proc/{maker}").exists():
            Lab._delete(entry.name)
