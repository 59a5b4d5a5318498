"""Kill an instance at every one of its steps, and see whether the machine is as it was.

    unshare --net --mount python -m tests.netns.killing DIRECTORY [OPTION]... -- ARGUMENT...

Runs `tunsmith ARGUMENT... --json --state DIRECTORY/state` in a forked child, which costs a fork and no start of an
interpreter. In the N-th try the child is killed as it is about to make its N-th call of the C library that has an
effect outside of it, from the first to the last: sys.setprofile sees them all, and no code of tunsmith knows. Those
that come so far that it works are stopped by SIGTERM: the steps of the tear-down are among the steps. The last try is
not killed.

--who says who is killed at each step: the instance, both it and its guard, the guard of an instance that has been
killed, or a `tunsmith restore` after both. With --strace the instance is a real `tunsmith ARGUMENT...`, and strace(1)
kills it at its N-th system call of each kind.

This process is the parent also of orphans (PR_SET_CHILD_SUBREAPER), so it knows when all is over. Then the machine is
looked at. Prints one JSON object: how often somebody was killed, how long the slowest guard took.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

from tests.netns.whole_machine import build, differences, look
from tunsmith.cli.main import run
from tunsmith.host.guard import NAME

_PR_SET_CHILD_SUBREAPER = 36
EFFECTS = {
    "posix": {
        "close", "dup2", "fork", "fsync", "ftruncate", "kill", "link", "mkdir", "mkfifo", "open", "rename", "unlink",
        "waitpid", "write", "writev",
    },
    "fcntl": {"fcntl", "flock", "ioctl"},
    "_io": {"write"},
    "_posixsubprocess": {"fork_exec"},
    "socket": {"connect", "connect_ex", "send", "sendmsg", "sendto"},
}  # fmt: skip
SYSTEM_CALLS = (
    "sendto", "sendmsg", "write", "fsync", "rename", "unlink", "mkdir", "ioctl", "clone", "clone3", "vfork", "wait4",
)  # fmt: skip
PREPARED = (
    "asyncio", "uvloop", "tunsmith.cli.up", "tunsmith.cli.up_report", "tunsmith.cli.restore", "tunsmith.engine",
    "tunsmith.up.service",
)  # fmt: skip
"""So that a child need not import them."""
WORKS = b'"event": "up"'


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("directory", type=Path)
    options.add_argument("--who", choices=["instance", "both", "guard", "restore"], default="instance")
    options.add_argument("--every", type=int, default=1, help="kill at every so many steps only")
    options.add_argument("--lift", action="store_true", help="run `tunsmith restore` before looking")
    options.add_argument("--strace", action="store_true", help="kill the real program at system calls")
    options.add_argument("arguments", nargs="+")
    asked = options.parse_args()
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    for module in PREPARED:
        import_module(module)
    build(asked.directory)
    state = asked.directory / "state"
    bench = Bench(
        state, [*asked.arguments, "--json", "--state", str(state)], asked.lift or asked.who != "instance"
    )
    if asked.strace:
        for call in SYSTEM_CALLS:
            bench.kill_at_every_step(partial(bench.kill_traced, call), asked.every)
    else:
        attempts = {
            "instance": bench.kill_instance,
            "both": bench.kill_both,
            "guard": bench.kill_guard,
            "restore": bench.kill_restore,
        }
        bench.kill_at_every_step(attempts[asked.who], asked.every)
    left = [path.name for path in state.iterdir()]
    if left:
        sys.exit(f"in the state directory there is {left}")
    print(json.dumps({"killed": bench.killed, "slowest": round(bench.slowest, 3)}))


class Bench:
    """The tries, and what came of them. `slowest` is the longest time from a death to the end of all processes."""

    def __init__(self, state: Path, arguments: list[str], lift: bool) -> None:
        self.killed = 0
        self.slowest = 0.0
        self._state = state
        self._arguments = arguments
        self._lift = lift
        self._before = look()

    def kill_at_every_step(self, attempt: Callable[[int], bool], every: int) -> None:
        """Until one is not killed any more: `attempt` tells whether that came to the step it is given."""
        for step in count(1, every):
            was_killed = attempt(step)
            died = time.monotonic()
            bury_all()
            self.slowest = max(self.slowest, time.monotonic() - died)
            if self._lift:
                restore(self._state)
            different = differences(self._before, look())
            if different:
                sys.exit(f"killed at step {step}: {json.dumps(different, indent=1)}")
            if not was_killed:
                return
            self.killed += 1

    def kill_instance(self, step: int) -> bool:
        return killed(stop_when_it_works(*fork(self._arguments, Killer(step))))

    def kill_both(self, step: int) -> bool:
        return killed(stop_when_it_works(*fork(self._arguments, KillerOfBoth(step))))

    def kill_guard(self, step: int) -> bool:
        stop_when_it_works(*fork(self._arguments, KillerOfGuard(step)), signal.SIGKILL)
        return -signal.SIGKILL in bury_all()  # programs it had started may end as they like

    def kill_restore(self, step: int) -> bool:
        instance, output = fork(self._arguments)
        read_until_it_works(output)
        os.kill(instance, signal.SIGSTOP)  # or it starts another guard
        kill_guard_of(instance)
        os.kill(instance, signal.SIGKILL)
        bury_all()
        return killed(stop_when_it_works(*fork(["restore", "--state", str(self._state)], Killer(step))))

    def kill_traced(self, call: str, step: int) -> bool:
        reading, writing = os.pipe()
        trace = ["strace", "-D", "-qq", "-o", "/dev/null", "-e", f"inject={call}:signal=KILL:when={step}"]
        process = subprocess.Popen(
            [*trace, sys.executable, "-m", "tunsmith", *self._arguments], stdout=writing
        )
        os.close(writing)
        process.returncode = 0  # it is waited for by its number
        return killed(stop_when_it_works(process.pid, reading))


class Killer:
    """Ends this process as it is about to make its call number `step` that has an effect outside."""

    def __init__(self, step: int) -> None:
        self.instance = 0
        self._left = step

    def __call__(self, frame: Any, event: str, called: Any) -> None:
        if (
            event != "c_call"
            or called.__name__ not in EFFECTS.get(_module(called), ())
            or not self.is_meant()
        ):
            return
        self._left -= 1
        if self._left == 0:
            sys.setprofile(None)
            self.kill()

    def is_meant(self) -> bool:
        """Not a child, which has inherited the profile."""
        return os.getpid() == self.instance

    def kill(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class KillerOfBoth(Killer):
    """The guard first, before it notices."""

    def kill(self) -> None:
        kill_guard_of(self.instance)
        super().kill()


class KillerOfGuard(Killer):
    """The guard, after its instance has died."""

    def is_meant(self) -> bool:
        return self.instance not in (os.getpid(), os.getppid())


def fork(arguments: list[str], killer: Killer | None = None) -> tuple[int, int]:
    """A child that runs tunsmith with a killer beside it; its process id and the end of its standard output."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writing, 1)
        os.closerange(3, 256)
        if killer is not None:
            killer.instance = os.getpid()
        sys.setprofile(killer)
        code = run(arguments)
        sys.setprofile(None)
        sys.stdout.flush()
        os._exit(code)
    os.close(writing)
    return child, reading


def stop_when_it_works(child: int, output: int, number: int = signal.SIGTERM) -> int:
    """Wait for its end, which is brought about by a signal where it works; its exit code."""
    if read_until_it_works(output):
        os.kill(child, number)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def read_until_it_works(output: int) -> bool:
    said = b""
    while WORKS not in said and (chunk := os.read(output, 65536)):
        said += chunk
    os.close(output)
    return WORKS in said


def killed(code: int) -> bool:
    """Whether a process was killed; it ended well otherwise, or the whole test fails."""
    if code not in (0, -signal.SIGKILL):
        sys.exit(f"a process ended with {code}")
    return code != 0


def kill_guard_of(instance: int) -> None:
    for child in Path(f"/proc/{instance}/task/{instance}/children").read_text(encoding="ascii").split():
        if Path(f"/proc/{child}/comm").read_text() == f"{NAME}\n":
            os.kill(int(child), signal.SIGKILL)


def bury_all() -> list[int]:
    """Wait for the end of everything that has been started; the exit codes."""
    codes = []
    while True:
        try:
            codes.append(os.waitstatus_to_exitcode(os.wait()[1]))
        except ChildProcessError:
            return codes


def restore(state: Path) -> None:
    """Run `tunsmith restore` twice: the second time finds nothing to do."""
    command = [sys.executable, "-m", "tunsmith", "restore", "--state", str(state)]
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"restore ended with {done.returncode}: {done.stderr}")
    if done.stdout != "nothing to restore\n":
        sys.exit(f"the second restore said {done.stdout}")


def _module(called: Any) -> str:
    """That of a function, or of the class of a method."""
    return str(called.__module__ or type(called.__self__).__module__)


if __name__ == "__main__":
    main()
