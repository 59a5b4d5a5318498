"""The guard: whatever ends the instance, what it made is taken back; and the guard itself goes with a clean stop.

That the guard has ended is seen at the end of the pipe that is the standard error of all.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunsmith.host import journal
from tunsmith.host.guard import MOST_SHORT_LIVES, confirm
from tunsmith.host.journal import Journal
from tunsmith.host.netns import NetworkNamespace

MADE = ["AddRoute", "AddRule", "SetSysctl"]


class Instance:
    """tests/host/guarded.py"""

    def __init__(self, directory: Path, state: Path | None = None) -> None:
        self.state, self.world = directory / "state", directory / "world"
        self.world.mkdir()
        command = [sys.executable, "-m", "tests.host.guarded", str(state or self.state), str(self.world)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.guard = int(self._answer())
        self.path = journal.look_up(self.state, NetworkNamespace.current(), "tun0")

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def do(self, line: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self._answer()

    def made(self) -> list[str]:
        return sorted(path.name for path in self.world.iterdir())

    def end(self, number: int = signal.SIGKILL) -> str:
        """End it by a signal; what is said until the guard has ended, too."""
        self.process.send_signal(number)
        return self.said()

    def said(self) -> str:
        assert self.process.stderr is not None
        text = self.process.stderr.read()
        self.process.wait()
        return text

    def close(self) -> None:
        self.process.kill()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        self.process.wait()


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[Instance]:
    started = Instance(tmp_path)
    yield started
    started.close()


def test_an_instance_that_is_killed_leaves_nothing(instance: Instance) -> None:
    instance.do("make")
    assert instance.made() == MADE
    said = instance.end()
    assert instance.made() == []
    assert list(instance.state.iterdir()) == []
    assert said == (
        f"tunsmith: process {instance.process.pid} on tun0 has ended without putting the network back: "
        f"done, 3 changes taken back\n"
    )


def test_an_instance_that_is_killed_before_it_made_anything_leaves_nothing(instance: Instance) -> None:
    instance.end()
    assert list(instance.state.iterdir()) == []


@pytest.mark.parametrize(
    "number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGQUIT]
)
def test_the_guard_is_deaf_to_what_ends_the_others(instance: Instance, number: int) -> None:
    instance.do("make")
    os.kill(instance.guard, number)
    instance.end()
    assert instance.made() == []


def test_a_state_directory_may_be_named_from_where_one_is(tmp_path: Path) -> None:
    """The guard is somewhere else."""
    started = Instance(tmp_path, Path(os.path.relpath(tmp_path / "state")))
    try:
        started.do("make")
        started.end()
        assert started.made() == []
    finally:
        started.close()


def test_a_clean_stop_ends_the_guard_without_a_word(instance: Instance) -> None:
    instance.do("make")
    instance.do("stop")
    with pytest.raises(ProcessLookupError):
        os.kill(instance.guard, 0)
    assert instance.made() == []
    assert instance.end() == ""


def test_the_guard_is_a_light_process_of_its_own(instance: Instance) -> None:
    proc = Path(f"/proc/{instance.guard}")
    assert (proc / "comm").read_text() == "route-guard\n"
    assert (proc / "cmdline").read_bytes().startswith(b"route-guard: "), "it survives `pkill -f tunsmith`"
    assert os.getsid(instance.guard) == instance.guard
    assert os.readlink(proc / "cwd") == "/"
    kinds = sorted(os.readlink(fd).partition(":")[0] for fd in (proc / "fd").iterdir())
    assert kinds == ["/dev/null", "/dev/null", "anon_inode", "pipe", "socket"]
    if subprocess.call("echo -1000 2>/dev/null >/proc/self/oom_score_adj", shell=True) == 0:
        assert (proc / "oom_score_adj").read_text() == "-1000\n"


def test_a_guard_that_is_killed_is_noticed_and_replaced(instance: Instance) -> None:
    instance.do("make")
    os.kill(instance.guard, signal.SIGKILL)
    assert instance.do("hear") == "DEAD"
    assert int(instance.do("replace")) != instance.guard
    instance.end()
    assert instance.made() == []


def test_guards_that_die_at_once_are_not_replaced_for_ever(instance: Instance) -> None:
    assert instance.do("replace-until-it-fails") == str(MOST_SHORT_LIVES)


def test_a_guard_that_hangs_does_not_hold_up_a_clean_stop(instance: Instance) -> None:
    instance.do("make")
    instance.do("hurry")
    os.kill(instance.guard, signal.SIGSTOP)
    assert instance.do("stop") == "stop"
    with pytest.raises(ProcessLookupError):
        os.kill(instance.guard, 0)


def test_where_both_are_killed_the_journal_is_left(instance: Instance) -> None:
    instance.do("make")
    os.kill(instance.guard, signal.SIGKILL)
    instance.end()
    assert instance.made() == MADE
    assert journal.paths(instance.state) == [instance.path]
    assert not journal.is_owned(instance.path)


def test_what_blocks_stays_where_the_instance_was_to_fail_closed(instance: Instance) -> None:
    instance.do("make closed")
    assert "traffic stays blocked until `tunsmith restore`" in instance.end()
    assert instance.made() == ["AddRoute"]
    assert journal.paths(instance.state) == [instance.path]


def test_children_that_a_dead_instance_has_left_do_not_stop_the_guard(instance: Instance) -> None:
    """They have its end of the pipe and the lock of its journal."""
    instance.do("make")
    child = int(instance.do("leave-child"))
    instance.end()
    os.kill(child, signal.SIGKILL)
    assert instance.made() == []


def test_the_journal_of_a_next_instance_is_not_touched(instance: Instance) -> None:
    """It was quicker than the guard: it has inherited everything."""
    instance.do("make")
    os.kill(instance.guard, signal.SIGSTOP)
    instance.process.kill()
    instance.process.wait()
    mine = Journal.create(instance.state, "tun0", whole=True)
    os.kill(instance.guard, signal.SIGCONT)
    assert instance.said() == ""
    assert instance.made() == MADE
    assert len(mine.entries) == 3


def test_what_is_confirmed_in_time_stays(instance: Instance) -> None:
    instance.do("make")
    instance.do("confirm 60")
    assert "waits for `tunsmith confirm`" in journal.describe(instance.state)[0]
    assert confirm(instance.path)
    assert instance.do("hear") == "CONFIRMED"
    assert "confirm" not in journal.describe(instance.state)[0]
    assert instance.made() == MADE
    assert not confirm(instance.path), "once is enough"


def test_what_is_not_confirmed_in_time_is_for_the_instance_to_put_back(instance: Instance) -> None:
    instance.do("make")
    instance.do("confirm 0.05")
    assert instance.do("hear") == "UNCONFIRMED"
    assert instance.made() == MADE
    assert not confirm(instance.path)
    instance.do("stop")
    assert instance.end() == ""
    assert list(instance.state.iterdir()) == []


@pytest.mark.parametrize("closed", ["", " closed"])
def test_an_instance_that_hangs_and_was_not_confirmed_is_ended(instance: Instance, closed: str) -> None:
    """Also where it was to fail closed: who cannot get in any more cannot lift it either."""
    instance.do(f"make{closed}")
    instance.do("hang")
    instance.do("confirm 0.05")
    assert "3 changes taken back" in instance.said()
    assert instance.process.returncode == -signal.SIGKILL
    assert instance.made() == []


def test_a_guard_that_is_replaced_waits_for_the_confirmation_as_well(instance: Instance) -> None:
    instance.do("make")
    instance.do("confirm 60")
    os.kill(instance.guard, signal.SIGKILL)
    assert instance.do("hear") == "DEAD"
    instance.do("replace")
    assert confirm(instance.path)
    assert instance.do("hear") == "CONFIRMED"


def test_nobody_waits_for_a_confirmation_that_was_not_asked_for(instance: Instance) -> None:
    assert not confirm(instance.path)
