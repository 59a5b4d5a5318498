"""`tunsmith link` on a machine of its own: what ip(8) shows afterwards, and what it does not touch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cli.link import TUNSMITH, Machine, machine
from tests.host.machine import environment

pytestmark = pytest.mark.netns


@pytest.fixture
def here() -> Iterator[Machine]:
    with machine() as fresh:
        yield fresh


def tunsmith(here: Machine, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        here.command([*TUNSMITH, "link", *words]),
        capture_output=True,
        text=True,
        env=environment(),
        timeout=30,
        check=False,
    )


def done(here: Machine, *words: str) -> str:
    """What it prints; it must succeed."""
    found = tunsmith(here, *words)
    assert (found.returncode, found.stderr) == (0, "")
    return found.stdout


def refused(here: Machine, *words: str) -> str:
    """The one line with which it refuses; nothing may have been changed."""
    before = here.state()
    found = tunsmith(here, *words)
    assert (found.returncode, found.stdout) == (2, "")
    assert here.state() == before
    assert found.stderr.count("\n") == 1
    return found.stderr


def details(here: Machine, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(here.run("ip", "-json", "-details", "link", "show", name))[0]
    return found


FULL = ("tun7", "--user", "42424", "--multi-queue", "--address", "10.7.0.1/24", "--address", "fd07::1/64")


def test_add_makes_what_was_asked_for(here: Machine) -> None:
    done(here, "add", *FULL, "--mtu", "1400", "--up")
    link = details(here, "tun7")
    assert (link["mtu"], "UP" in link["flags"]) == (1400, True)
    wanted = {"type": "tun", "persist": True, "user": 42424, "multi_queue": True}
    assert link["linkinfo"]["info_data"].items() >= wanted.items()
    shown = here.run("ip", "-brief", "address", "show", "tun7")
    assert shown.split()[2:4] == ["10.7.0.1/24", "fd07::1/64"]


def test_add_a_tap_for_a_group(here: Machine) -> None:
    done(here, "add", "tap7", "--tap", "--group", "daemon")
    wanted = {"type": "tap", "persist": True, "group": "daemon", "multi_queue": False}
    assert details(here, "tap7")["linkinfo"]["info_data"].items() >= wanted.items()


def test_the_printed_commands_do_the_same_and_those_of_the_undo_take_it_back(here: Machine) -> None:
    before = here.state()
    commands, undo = done(here, "add", *FULL, "--up", "--dry-run").split("\n\n# and back:\n")
    assert here.state() == before
    assert done(here, "add", *FULL, "--up") == commands + "\n"
    made = details(here, "tun7")
    done(here, "delete", "tun7")
    assert here.state() == before
    here.run("sh", "-ec", commands)
    again = details(here, "tun7")
    assert again["linkinfo"] == made["linkinfo"]
    assert again["flags"] == made["flags"]
    here.run("sh", "-ec", undo)
    assert here.state() == before


def test_a_second_time_there_is_nothing_to_do(here: Machine) -> None:
    done(here, "add", *FULL, "--up")
    before = details(here, "tun7"), here.run("ip", "address")
    assert done(here, "add", *FULL, "--up") == "# nothing to do: it is as it should be\n"
    assert (details(here, "tun7"), here.run("ip", "address")) == before
    assert done(here, "add", *FULL, "--mtu", "9000") == "ip link set dev tun7 up mtu 9000\n"
    assert done(here, "up", "tun7") == "# nothing to do: it is as it should be\n"


def test_down_and_up(here: Machine) -> None:
    done(here, "add", "tun7")
    assert done(here, "up", "tun7") == "ip link set dev tun7 up\n"
    assert "UP" in details(here, "tun7")["flags"]
    assert json.loads(done(here, "down", "tun7", "--json")) == {
        "dry_run": False,
        "changes": [
            {
                "change": "SetLink",
                "name": "tun7",
                "up": False,
                "was_up": True,
                "commands": ["ip link set dev tun7 down"],
                "undo": ["ip link set dev tun7 up"],
            }
        ],
    }
    assert "UP" not in details(here, "tun7")["flags"]


def test_the_undo_of_a_deletion_makes_it_again(here: Machine) -> None:
    done(here, "add", *FULL, "--mtu", "1400", "--up")
    undo = done(here, "delete", "tun7", "--dry-run").split("# and back:\n")[1]
    assert here.has("tun7")
    done(here, "delete", "tun7")
    assert not here.has("tun7")
    here.run("sh", "-ec", undo)
    assert details(here, "tun7")["mtu"] == 1400
    assert here.run("ip", "-brief", "address", "show", "tun7").split()[2:4] == ["10.7.0.1/24", "fd07::1/64"]


def test_what_is_no_tun_is_never_deleted_nor_set(here: Machine) -> None:
    here.run("ip", "link", "add", "br7", "type", "bridge")
    for words in (
        ("delete", "br7"),
        ("delete", "--force", "br7"),
        ("up", "br7"),
        ("down", "br7"),
        ("show", "br7"),
    ):
        assert "there is no TUN or TAP interface" in refused(here, *words)
    assert "is taken by an interface that is no TUN or TAP" in refused(here, "add", "br7")


def test_what_a_program_has_open_is_deleted_only_by_force(here: Machine) -> None:
    done(here, "add", "tun7")
    script = "import time; from tunsmith.host.tun import open_tun; d = open_tun('tun7'); print(flush=True); input()"
    with here.popen(sys.executable, "-B", "-c", script) as program:
        assert program.stdout is not None
        program.stdout.readline()
        words = refused(here, "delete", "tun7")
        assert f"tun7 is in use by python (process {program.pid}): end that first" in words
        (shown,) = json.loads(done(here, "show", "tun7", "--json"))
        assert (shown["open"], shown["offloads"]) == (True, ["checksum", "tso", "gso"])
        assert [holder["pid"] for holder in shown["holders"]] == [program.pid]
        assert f"(process {program.pid})" in done(here, "show")
        done(here, "delete", "--force", "tun7")
        assert not here.has("tun7")
        program.kill()


def test_one_of_that_name_in_another_namespace_is_another(here: Machine) -> None:
    """tun0 of `tunsmith run`, say."""
    done(here, "add", "tun7")
    script = (
        "from tunsmith.host.syscalls import unshare; from tunsmith.host.tun import open_tun\n"
        "unshare(0x40000000); d = open_tun('tun7'); print(flush=True); input()"
    )
    with here.popen(sys.executable, "-B", "-c", script) as program:
        assert program.stdout is not None
        program.stdout.readline()
        assert json.loads(done(here, "show", "tun7", "--json"))[0]["holders"] == []
        done(here, "delete", "tun7")
        program.kill()


def test_show_tells_what_it_was_made_for(here: Machine) -> None:
    assert done(here, "show") == ""
    done(here, "add", *FULL, "--up")
    assert done(here, "show") == (
        "tun7: a TUN for user 42424 with many queues, up, mtu 1500\n"
        "    stays until it is deleted\n"
        "    address 10.7.0.1/24\n"
        "    address fd07::1/64\n"
        "    nobody has it open\n"
    )


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("add", "tun/7"), "cannot be the name of an interface"),
        (("add", "lo"), "cannot be the name of an interface"),
        (("add", "tun7", "--address", "10.7.0.1/33"), "10.7.0.1/33: not an address with its prefix"),
        (("add", "tun7", "--address", "10.7.0.0/24"), "is not a host's address"),
        (("add", "tun7", "--address", "192.0.2.9/24"), "up7 has the address 192.0.2.9/24 already"),
        (("add", "tun7", "--mtu", "60"), "an MTU of 60"),
        (("add", "tun7", "--mtu", "1000", "--address", "fd07::1/64"), "the 1280 that IPv6 needs"),
        (("add", "tun7", "--user", "nobody-of-that-name"), "there is no such user"),
        (("add", "up7"), "a TUN for user 7 with one queue, not a TUN for root with one queue"),
        (("add", "up7", "--user", "7", "--tap"), "not a TAP for user 7"),
        (("delete", "tun9"), "there is no TUN or TAP interface tun9 here"),
        (("up",), "Missing argument"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_changed(
    here: Machine, words: tuple[str, ...], why: str
) -> None:
    here.run("ip", "tuntap", "add", "up7", "mode", "tun", "user", "7")
    here.run("ip", "address", "add", "192.0.2.9/24", "dev", "up7")
    assert why in refused(here, *words)


def test_who_may_not_is_told_and_may_look(here: Machine) -> None:
    done(here, "add", *FULL)
    before = here.state()
    ordinary = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"]
    for words, code in (
        (["add", "tun8"], 125),
        (["delete", "tun7"], 125),
        (["add", "tun8", "--dry-run"], 0),
        (["show"], 0),
    ):
        found = subprocess.run(
            here.command([*ordinary, *TUNSMITH, "link", *words]),
            capture_output=True, text=True, env=environment(), timeout=30, check=False,
        )  # fmt: skip
        assert found.returncode == code, found.stderr
        assert found.stderr.count("\n") == (1 if code else 0)
    assert here.state() == before
