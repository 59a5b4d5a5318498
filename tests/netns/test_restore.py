"""What becomes of C when `tunsmith up` dies there: the guard, `tunsmith restore`, the next start, and what is left
alone. The fixture `caller` compares C's network before and after each test.

That the network is as it was after a kill at any moment is test_fault_injection.py's."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.caller import ROOT, Caller, Done
from tests.netns.machine import UP, Up, fails, up
from tests.netns.servers import eventually
from tests.netns.topology import SERVER, Namespace
from tunsmith.host.guard import NAME

pytestmark = pytest.mark.netns

RP_FILTER = "/proc/sys/net/ipv4/conf/c0/rp_filter"
SRC_VALID_MARK = "/proc/sys/net/ipv4/conf/c0/src_valid_mark"


@pytest.fixture
def root(caller: Caller) -> Caller:
    """C, with root at the keyboard."""
    caller.user = 0
    return caller


def state(root: Caller) -> Path:
    return root.home / "state"


def restore(root: Caller, *options: str) -> Done:
    return root.plain(*UP[:-1], "restore", "--state", str(state(root)), *options)


def guards_of(running: Up) -> list[int]:
    pid = running.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [int(each) for each in children if Path(f"/proc/{each}/comm").read_text() == f"{NAME}\n"]


def guard_of(running: Up) -> int:
    (guard,) = guards_of(running)
    return guard


def kill(running: Up) -> str:
    """SIGKILL; what is said on standard error until the guard, too, has ended."""
    running.process.kill()
    running.process.wait()
    running.close()
    return "".join(running.errors)


def kill_both(running: Up) -> None:
    running.process.send_signal(signal.SIGSTOP)  # or it starts another guard
    os.kill(guard_of(running), signal.SIGKILL)
    kill(running)


def test_a_kill_is_mended_by_the_guard(root: Caller) -> None:
    with up(root) as running:
        assert "changes taken back" in kill(running)
    assert list(state(root).iterdir()) == []
    done = restore(root)
    assert (done.returncode, done.stdout) == (0, "nothing to restore\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_to_all_processes_is_a_clean_stop(root: Caller, number: int) -> None:
    """As systemd and terminals send it."""
    with up(root) as running:
        os.kill(guard_of(running), number)
        running.stop(number)
        assert running.errors == []


def test_a_guard_that_is_killed_is_replaced(root: Caller) -> None:
    with up(root) as running:
        first = guard_of(running)
        os.kill(first, signal.SIGKILL)
        eventually(lambda: guards_of(running) not in ([], [first]), "another guard")
        assert "changes taken back" in kill(running)


def test_what_both_leave_is_taken_back_by_restore_line_by_line(root: Caller) -> None:
    with up(root) as running:
        kill_both(running)
    before = root.topology.caller.run("ip", "rule")
    dry = restore(root, "--dry-run")
    assert root.topology.caller.run("ip", "rule") == before
    done = restore(root)
    assert done.returncode == 0
    assert "  taken back: ip rule delete from all fwmark 0x0/0x" in done.stdout
    assert dry.stdout.splitlines()[1:] == done.stdout.splitlines()
    done = restore(root)
    assert (done.returncode, done.stdout) == (0, "nothing to restore\n")


def test_what_both_leave_is_taken_back_by_the_next_start_which_says_so(root: Caller) -> None:
    with up(root) as running:
        kill_both(running)
    with up(root) as running:
        assert "has ended without putting the network back: done, " in running.notices()[0]


def test_restore_does_not_touch_what_an_instance_that_runs_has_made(root: Caller) -> None:
    with up(root) as running:
        done = restore(root)
        assert done.returncode == 1
        assert f"process {running.process.pid}, which runs: stop that one first" in done.stderr
        assert "lookup 125" in root.topology.caller.run("ip", "rule")


@pytest.fixture
def their_changes(root: Caller) -> Iterator[None]:
    """A strict filter on the uplink, for which the mark of answers has to count; and in the end everything is taken
    back that somebody does while an instance runs."""
    ip = root.topology.caller.run
    before = ip("cat", RP_FILTER)
    ip("sh", "-c", f"echo 1 > {RP_FILTER}")
    yield
    ip("sh", "-c", f"echo {before.strip()} > {RP_FILTER}")
    for word in ("rule del priority 500", "-6 rule del priority 500", "route del 192.0.2.0/24"):
        ip("ip", *word.split())
    ip("sh", "-c", f"echo 0 > {SRC_VALID_MARK}")
    ip("nft", "delete", "table", "inet", "tunsmith_tunsmith0")


@pytest.mark.usefixtures("their_changes")
def test_what_somebody_has_done_since_survives_and_what_somebody_has_changed_is_named(root: Caller) -> None:
    ip = root.topology.caller.run
    with up(root) as running:
        ip("ip", "rule", "add", "priority", "500", "from", "192.0.2.1", "lookup", "main")
        ip("ip", "-6", "rule", "add", "priority", "500", "from", "2001:db8::1", "lookup", "main")
        ip("ip", "route", "add", "192.0.2.0/24", "dev", "c0")
        ip("sh", "-c", f"echo 2 > {SRC_VALID_MARK}")
        ip("nft", "add", "chain", "inet", "tunsmith_tunsmith0", "theirs")
        said = kill(running)
    assert "changed by somebody since, left alone: sysctl -w net/ipv4/conf/c0/src_valid_mark=0" in said
    assert "changed by somebody since, left alone: nft delete table inet tunsmith_tunsmith0" in said
    assert ip("cat", SRC_VALID_MARK) == "2\n"
    assert "192.0.2.1" in ip("ip", "rule")
    assert "192.0.2.0/24" in ip("ip", "route")
    assert "lookup 125" not in ip("ip", "rule")


def test_failing_closed_outlives_a_kill_and_is_lifted_by_restore(root: Caller) -> None:
    reach = ("ping", "-c1", "-W1", SERVER[4])
    with up(root, "--fail-closed") as running:
        assert "traffic stays blocked" in kill(running)
    assert root.plain(*reach).returncode != 0
    assert root.plain("ping", "-c1", "-W1", "10.81.1.1").returncode == 0, "the LAN stays"
    assert restore(root, "--keep-blocks").returncode == 0
    assert root.plain(*reach).returncode != 0
    assert restore(root).returncode == 0
    assert root.plain(*reach).returncode == 0


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [
        ("mount -t tmpfs -o ro none /srv", "Read-only file system"),
        (
            "mount -t tmpfs -o size=16k none /srv; head -c 9999999 /dev/zero >/srv/full 2>/dev/null || :",
            "No space left on device",
        ),
        ("mount -t tmpfs none /srv; ln -s /dev/null /srv/state", "/srv/state is no directory"),
        ("mount -t tmpfs -o mode=777 none /srv; mkdir -m 777 /srv/state", "can be written by others"),
    ],
    ids=["read-only", "full", "no directory", "open to all"],
)
def test_where_nothing_can_be_written_down_nothing_is_changed(
    root: Caller, extra: str, complaint: str
) -> None:
    root.extra = extra
    code, said = fails(root, "--state", "/srv/state")
    assert code == 125
    assert complaint in said
    assert len(said.splitlines()) == 1


def test_a_journal_of_another_version_is_refused_and_left(root: Caller) -> None:
    with up(root) as running:
        kill_both(running)
    (path,) = state(root).iterdir()
    text = path.read_text()
    path.write_text(text.replace('"journal": 1', '"journal": 99'))
    for code, said in (fails(root), (restore(root).returncode, restore(root).stderr)):
        assert code != 0
        assert "another version of tunsmith (journal 99, not 1)" in said
    path.write_text(text)
    assert restore(root).returncode == 0


def test_the_journal_of_a_namespace_that_has_gone_is_removed(root: Caller) -> None:
    state(root).mkdir(mode=0o700)
    gone = Namespace()
    gone.run("ip", "link", "set", "lo", "up")
    script = "from pathlib import Path; from tunsmith.host.journal import Journal; import sys\n" + (
        "from tunsmith.route.change import SetSysctl\n"
        "Journal.create(Path(sys.argv[1]), 'tun0', True).write([SetSysctl('net/ipv4/ip_forward', '1', '0')])"
    )
    gone.run("env", f"PYTHONPATH={ROOT}/src", sys.executable, "-c", script, str(state(root)))
    found = json.loads(restore(root, "--json").stdout)
    assert found["journals"] == [], "it is there, and none of ours"
    gone.close()
    done = restore(root)
    assert (done.returncode, "its network namespace has gone" in done.stdout) == (0, True)
    assert list(state(root).iterdir()) == []
