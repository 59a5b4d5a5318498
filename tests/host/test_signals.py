from __future__ import annotations

import os
import select
import shlex
import signal
import subprocess
import sys

import pytest

from tests.host.machine import USERS, User, environment, launch
from tests.host.terminal import Terminal

pytestmark = pytest.mark.netns

ROOT_USER = USERS[0]
INTERRUPT, SUSPEND, QUIT = "\x03", "\x1a", "\x1c"

# Says each signal it gets; ends with SIGQUIT or SIGTERM and the number of signals so far.
LISTENER = """
import os, signal
seen = []
def hear(number, frame):
    seen.append(number)
    print(signal.Signals(number).name, flush=True)
for number in {signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGWINCH,
               signal.SIGCONT, signal.SIGQUIT, signal.SIGTERM}:
    signal.signal(number, hear)
print("parent", os.getppid(), flush=True)
while not {signal.SIGQUIT, signal.SIGTERM} & set(seen):
    signal.pause()
raise SystemExit(len(seen))
"""
LISTEN = [sys.executable, "-B", "-c", LISTENER]


def _parent(line: str) -> int:
    """Process id of the holder of the sandbox, from the listener's first line."""
    return int(line.split()[-1])


@pytest.mark.parametrize("name", ["SIGHUP", "SIGINT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGCONT", "SIGWINCH"])
def test_signal_sent_to_us_reaches_the_program(user: User, name: str) -> None:
    with subprocess.Popen(
        launch(LISTEN, user), stdout=subprocess.PIPE, text=True, env=environment()
    ) as process:
        assert process.stdout is not None
        holder = _parent(process.stdout.readline())
        os.kill(holder, signal.Signals[name])
        assert process.stdout.readline() == f"{name}\n"
        os.kill(holder, signal.SIGTERM)
        assert process.stdout.readline() == "SIGTERM\n"
        assert process.wait() == 2


def test_program_on_a_terminal_has_it_in_full(user: User) -> None:
    script = (
        "import os; print([os.isatty(n) for n in range(3)], os.tcgetpgrp(0) == os.getpgrp(), os.ttyname(0));"
        "print(open('/dev/tty').fileno() > 0)"
    )
    with Terminal(launch([sys.executable, "-c", script], user)) as terminal:
        terminal.read_until("[True, True, True] True /dev/pts/")
        terminal.read_until("True")
        assert terminal.wait() == 0


def test_interrupt_key_reaches_the_program_once(user: User) -> None:
    with Terminal(launch(LISTEN, user)) as terminal:
        terminal.read_until("\n")
        terminal.type(INTERRUPT)
        terminal.read_until("SIGINT")
        terminal.type(QUIT)
        terminal.read_until("SIGQUIT")
        assert terminal.wait() == 2


def test_interrupt_from_another_process_reaches_a_program_on_a_terminal(user: User) -> None:
    with Terminal(launch(LISTEN, user)) as terminal:
        os.kill(_parent(terminal.read_until("\n")), signal.SIGINT)
        terminal.read_until("SIGINT")
        terminal.type(QUIT)
        assert terminal.wait() == 2


def test_terminal_that_goes_away_ends_the_program(user: User) -> None:
    with Terminal(launch(["sh", "-c", "echo here; exec sleep 1000"], user)) as terminal:
        terminal.read_until("here")
        terminal.hang_up()
        assert terminal.wait() == 128 + signal.SIGHUP


def test_job_control_stops_and_continues_the_program() -> None:
    with Terminal(["bash", "--norc", "-i"]) as terminal:
        terminal.read_until("prompt> ")
        script = "echo start''ed; read line; echo \"got $line\"; exit 5"
        terminal.type(" ".join(map(shlex.quote, launch(["sh", "-c", script], ROOT_USER))) + "\n")
        terminal.read_until("started")
        terminal.type(SUSPEND)
        terminal.read_until("Stopped")
        terminal.read_until("prompt> ")
        terminal.type("echo code=$?\n")
        terminal.read_until(f"code={128 + signal.SIGTSTP}")
        terminal.read_until("prompt> ")
        terminal.type("fg\n")
        terminal.read_until("fg\r\n")
        terminal.type("hello\n")
        terminal.read_until("got hello")
        terminal.type("echo code=$?\n")
        terminal.read_until("code=5")


def test_program_in_the_background_stops_when_it_wants_the_terminal() -> None:
    with Terminal(["bash", "--norc", "-i"]) as terminal:
        terminal.read_until("prompt> ")
        script = 'read line; echo "got $line"'
        terminal.type("set -b\n")  # say at once when a job stops
        terminal.read_until("prompt> ")
        terminal.type(" ".join(map(shlex.quote, launch(["sh", "-c", script], ROOT_USER))) + " &\n")
        terminal.read_until("Stopped")
        terminal.type("jobs -l\n")
        terminal.read_until("Stopped (tty input)")
        terminal.type("fg\n")
        terminal.read_until("fg\r\n")
        terminal.type("hello\n")
        terminal.read_until("got hello")


def test_program_that_stops_itself_stops_us_until_we_are_continued(user: User) -> None:
    script = "kill -STOP $$; exit 6"
    process = subprocess.Popen(launch(["sh", "-c", script], user), env=environment())
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    assert os.WSTOPSIG(status) == signal.SIGSTOP
    os.kill(process.pid, signal.SIGCONT)
    assert process.wait() == 6


def test_hang_up_ignored_before_stays_ignored(user: User) -> None:
    """As under nohup(1)."""
    script = "trap '' HUP; exec \"$@\""
    status = ["grep", "SigIgn", "/proc/self/status"]
    command = ["sh", "-c", script, "sh", *launch(status, user)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment(), check=True)
    assert int(result.stdout.split()[1], 16) == 1 << (signal.SIGHUP - 1)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_set_up_child_goes_when_we_go(user: User, number: int) -> None:
    command = launch(["sleep", "1000"], user, unreleased=True)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stdout is not None
        child = os.pidfd_open(int(process.stdout.readline()))
        process.send_signal(number)
        process.wait()
        # Readable once the child has ended.
        assert select.select([child], [], []) == ([child], [], [])
        os.close(child)
