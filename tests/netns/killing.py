"""Kill an instance at every one of its steps, and see whether the machine is as it was.

    unshare --net --mount python -m tests.netns.killing DIRECTORY [OPTION]... -- ARGUMENT...

Runs `tunsmith ARGUMENT... --json --state DIRECTORY/state` in a forked child, which costs a fork and no start of an
interpreter. In the N-th try the child is killed as it is about to make its N-th call of the C library that has an
effect outside of it, from the first to the last: sys.setprofile sees them all, and no code of tunsmith knows. Those
that come so far that it works are stopped by SIGTERM: the steps of the tear-down are among the steps. The last try is
not killed.

With --strace, a real `tunsmith ARGUMENT...` is killed at the N-th system call of each kind instead, by strace(1).

This process is the parent also of orphans (PR_SET_CHILD_SUBREAPER), so it knows when the guard is done. Then the
machine is looked at. Prints one JSON object: how many tries, how long the slowest restore took.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

from tests.host.private_network import SET_UP, Network
from tunsmith.cli.main import run
from tunsmith.host.guard import NAME
from tunsmith.host.syscalls import MS_PRIVATE, MS_REC, mount

_PR_SET_CHILD_SUBREAPER = 36
EFFECTS = {
    "posix": {
        "close", "dup2", "fork", "fsync", "ftruncate", "kill", "link", "mkdir", "mkfifo", "open", "rename", "unlink",
        "waitpid", "write", "writev",
    },
    "fcntl": {"fcntl", "flock", "ioctl"},
    "_io": {"open", "write", "flush", "close"},
    "_posixsubprocess": {"fork_exec"},
    "socket": {"bind", "close", "connect", "connect_ex", "send", "sendmsg", "sendto"},
}  # fmt: skip
SYSTEM_CALLS = (
    "sendto", "sendmsg", "write", "fsync", "rename", "unlink", "mkdir", "ioctl", "clone", "clone3", "vfork", "wait4",
)  # fmt: skip
PREPARED = (
    "asyncio",
    "uvloop",
    "tunsmith.cli.up",
    "tunsmith.cli.up_report",
    "tunsmith.engine",
    "tunsmith.up.service",
)
"""So that a child need not import them."""
MACHINE = """\
address add 10.9.0.7/24 dev uplink
link add lan type veth peer name lanbox
link set lanbox up
link set lan up
address add 192.168.7.1/24 dev lan
address add fd07::1/64 dev lan nodad
route add 203.0.113.0/24 via 192.168.7.9 dev lan metric 77
route add unreachable 198.51.100.0/24 table 77
rule add fwmark 0x100/0xff00 lookup 77 priority 1000
"""
FIREWALL = "table inet theirs { chain input { type filter hook input priority 0; policy accept; tcp dport 9 drop; }; }"
SYSCTLS = {
    "ipv4/conf/all/rp_filter": "1",
    "ipv4/conf/uplink/rp_filter": "1",
    "ipv4/conf/default/rp_filter": "2",
}
_SHOW = (
    "ip -details link; ip address; ip route show table all; ip -6 route show table all; ip rule; ip -6 rule;"
    "nft list ruleset"
)
_MOVING = ("nf_conntrack_count", "/neigh/default/last_queued")


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument(
        "directory", type=Path, help="an empty one, which is covered by a file system in memory"
    )
    options.add_argument("--every", type=int, default=1, help="kill at every so many steps only")
    options.add_argument(
        "--both", action="store_true", help="kill the guard with it, and run `tunsmith restore`"
    )
    options.add_argument(
        "--restore", action="store_true", help="run `tunsmith restore` before the machine is looked at"
    )
    options.add_argument("--strace", action="store_true", help="kill the real program at system calls")
    options.add_argument("arguments", nargs="+")
    asked = options.parse_args()
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    for module in PREPARED:
        import_module(module)
    build(asked.directory)
    bench = Bench(asked, [*asked.arguments, "--json", "--state", str(asked.directory / "state")])
    if asked.strace:
        for call in SYSTEM_CALLS:
            bench.kill_at_every_step(partial(bench.start_traced, call))
    else:
        bench.kill_at_every_step(bench.fork)
    left = [path.name for path in bench.state.iterdir()]
    if left:
        sys.exit(f"in the state directory there is {left}")
    print(json.dumps({"killed": bench.killed, "slowest": round(bench.slowest, 3)}))


class Bench:
    """The tries, and what came of them. `slowest` is the longest time from a death to the end of its guard."""

    def __init__(self, asked: argparse.Namespace, arguments: list[str]) -> None:
        self.state = asked.directory / "state"
        self.killed = 0
        self.slowest = 0.0
        self._asked = asked
        self._arguments = arguments
        self._before = look()

    def kill_at_every_step(self, start: Callable[[int], tuple[int, int]]) -> None:
        """Until one is not killed any more. `start` starts an instance that will be killed at a step, and tells its
        process id and the end of its standard output."""
        for step in count(1, self._asked.every):
            code = stop_when_it_works(*start(step))
            died = time.monotonic()
            bury_all()
            self.slowest = max(self.slowest, time.monotonic() - died)
            if self._asked.restore or self._asked.both:
                restore(self.state)
            self._compare(step)
            if code == 0:
                return
            if code != -signal.SIGKILL:
                sys.exit(f"the instance of step {step} ended with {code}")
            self.killed += 1

    def fork(self, step: int) -> tuple[int, int]:
        """An instance that is killed as it comes to its call number `step`."""
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.dup2(writing, 1)
            os.closerange(3, 256)
            sys.setprofile(Killer(step, self._asked.both))
            code = run(self._arguments)
            sys.setprofile(None)
            os._exit(code)
        os.close(writing)
        return child, reading

    def start_traced(self, call: str, step: int) -> tuple[int, int]:
        """An instance that is killed as it enters system call `call` for the time number `step`."""
        reading, writing = os.pipe()
        trace = ["strace", "-D", "-qq", "-o", "/dev/null", "-e", f"inject={call}:signal=KILL:when={step}"]
        program = [sys.executable, "-m", "tunsmith", *self._arguments]
        process = subprocess.Popen([*trace, *program], stdout=writing)
        os.close(writing)
        process.returncode = 0  # it is waited for by its number
        return process.pid, reading

    def _compare(self, step: int) -> None:
        now = look()
        changed = {key: (was, now.get(key)) for key, was in self._before.items() if was != now.get(key)}
        if changed or now.keys() != self._before.keys():
            sys.exit(f"killed at step {step}: {json.dumps(changed, indent=1)}")


def stop_when_it_works(child: int, output: int) -> int:
    """Wait for its end, which is brought about by SIGTERM where it works; its exit code."""
    said = b""
    while chunk := os.read(output, 65536):
        said += chunk
        if b'"event": "up"' in said:
            os.kill(child, signal.SIGTERM)
            break
    os.close(output)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def bury_all() -> None:
    """Wait for the end of everything that has been started."""
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


def restore(state: Path) -> None:
    """Run `tunsmith restore` twice: the second time finds nothing to do."""
    command = [sys.executable, "-m", "tunsmith", "restore", "--state", str(state)]
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"restore ended with {done.returncode}: {done.stderr}")
    if done.stdout != "nothing to restore\n":
        sys.exit(f"the second restore said {done.stdout}")


class Killer:
    """Ends this process before its call number `step` that has an effect outside; with `both` its guard before."""

    def __init__(self, step: int, both: bool) -> None:
        self._left = step
        self._both = both
        self._pid = os.getpid()

    def __call__(self, frame: Any, event: str, called: Any) -> None:
        if event != "c_call" or called.__name__ not in EFFECTS.get(_module(called), ()):
            return
        self._left -= 1
        if self._left == 0 and os.getpid() == self._pid:
            if self._both:
                self._kill_guard()
            os.kill(self._pid, signal.SIGKILL)

    def _kill_guard(self) -> None:
        sys.setprofile(None)
        children = Path(f"/proc/self/task/{self._pid}/children").read_text(encoding="ascii").split()
        for child in children:
            if Path(f"/proc/{child}/comm").read_text() == f"{NAME}\n":
                os.kill(int(child), signal.SIGKILL)


def _module(called: Any) -> str:
    """That of a function, or of the class of a method."""
    return str(called.__module__ or type(called.__self__).__module__)


def build(directory: Path) -> None:
    """A machine with a history: a second address, a LAN, somebody else's rules, tables and filters, strict reverse
    path filters, and a resolv.conf that is a link."""
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    mount("none", str(directory), "tmpfs")
    upper, work = directory / "etc", directory / "work"
    upper.mkdir()
    work.mkdir()
    mount("none", "/etc", "overlay", options=f"lowerdir=/etc,upperdir={upper},workdir={work}")
    resolv_conf = Path("/etc/resolv.conf")
    resolv_conf.unlink(missing_ok=True)
    resolv_conf.symlink_to("resolv.theirs")
    resolv_conf.write_text("nameserver 10.9.0.1\n# theirs, without an end of line")
    resolv_conf.chmod(0o640)
    network = Network()
    Path("/proc/sys/net/ipv6/conf/default/addr_gen_mode").write_text("1", encoding="ascii")
    network.ip(SET_UP + MACHINE)
    subprocess.run("ip -6 rule add to fd77::/16 lookup 77 priority 1000", shell=True, check=True)
    network.wait_for_carrier()
    subprocess.run(["nft", "-f", "-"], input=FIREWALL, text=True, check=True)
    for path, value in SYSCTLS.items():
        Path("/proc/sys/net", path).write_text(value, encoding="ascii")


def look() -> dict[str, Any]:
    """All that has to be as it was."""
    shown = subprocess.run(["sh", "-c", _SHOW], capture_output=True, text=True, check=True).stdout
    seen: dict[str, Any] = {"network": shown.splitlines()}
    for folder, _, names in os.walk("/proc/sys/net"):
        for name in names:
            path = os.path.join(folder, name)
            try:
                seen[path] = "" if path.endswith(_MOVING) else Path(path).read_text(errors="replace")
            except OSError as error:
                seen[path] = error.errno
    resolv_conf = Path("/etc/resolv.conf")
    seen["resolv.conf"] = resolv_conf.read_text()
    seen["mode of resolv.conf"] = oct(resolv_conf.stat().st_mode)
    seen["link of resolv.conf"] = (
        os.readlink(resolv_conf) if stat.S_ISLNK(resolv_conf.lstat().st_mode) else None
    )
    return seen


if __name__ == "__main__":
    main()
