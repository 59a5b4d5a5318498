"""`tunsmith route` on a machine with an uplink: traffic is led into a TUN that was made by hand, and back."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.link import TUNSMITH, Machine
from tests.host.machine import environment
from tests.netns.servers import eventually

pytestmark = pytest.mark.netns

UPLINK = """\
echo 1 > /proc/sys/net/ipv6/conf/default/addr_gen_mode
ip link add uplink type veth peer name router
ip link set uplink up
ip link set router up
ip address add 10.9.0.2/24 dev uplink
ip address add fd09::2/64 dev uplink nodad
ip route add default via 10.9.0.1
ip route add default via fd09::1
ip tuntap add tun7 mode tun
ip address add 10.7.0.1/24 dev tun7
ip address add fd07::1/64 dev tun7 nodad
ip link set tun7 up
"""
FAR = {4: "203.0.113.9", 6: "2001:db9::9"}
families = pytest.mark.parametrize("family", [4, 6])


class Routed(Machine):
    """Has an uplink and a TUN; `state_directory` is for journals."""

    def __init__(self, state_directory: Path) -> None:
        super().__init__()
        self.state_directory = state_directory
        self.run("sh", "-ec", UPLINK)
        eventually(self._is_settled, "an address that is local")

    def _is_settled(self) -> bool:
        local = self.run("ip", "-6", "route", "show", "table", "local", "type", "local")
        return all(f"{address} " in local for address in ("fd09::2", "fd07::1"))

    def route(self, word: str, *options: str) -> subprocess.CompletedProcess[str]:
        command = [*TUNSMITH, "route", word, "--state", str(self.state_directory), *options]
        return subprocess.run(
            self.command(command), capture_output=True, text=True, env=environment(), timeout=30, check=False
        )

    def done(self, word: str, *options: str) -> str:
        """What it prints; it must succeed."""
        found = self.route(word, *options)
        assert (found.returncode, found.stderr) == (0, "")
        return found.stdout

    def state(self) -> dict[str, str]:
        """With the firewall, and without what comes a moment later."""
        found = {
            **super().state(),
            "-6 rule": self.run("ip", "-6", "rule"),
            "nft": self.run("nft", "list", "ruleset"),
        }
        told = {name: sorted(text.replace(" linkdown", "").splitlines()) for name, text in found.items()}
        return {name: "\n".join(lines) for name, lines in told.items() if name != "-o link"}

    def way(self, family: int, *words: str) -> str:
        """The interface by which a packet would leave."""
        shown = json.loads(self.run("ip", f"-{family}", "-json", "route", "get", FAR[family], *words))
        return str(shown[0]["dev"])


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Routed]:
    with closing(Routed(tmp_path / "state")) as fresh:
        yield fresh


@families
def test_what_is_applied_leads_into_the_tun_but_for_sockets_with_the_mark(here: Routed, family: int) -> None:
    assert here.way(family) == "uplink"
    told = json.loads(here.done("apply", "--tun", "tun7", "--json"))
    assert here.way(family) == "tun7"
    assert here.way(family, "mark", str(told["mark"])) == "uplink"
    here.done("undo", "--tun", "tun7")
    assert here.way(family) == "uplink"


def test_undo_by_another_process_puts_everything_back_and_a_second_one_does_nothing(here: Routed) -> None:
    before = here.state()
    here.done("apply", "--tun", "tun7")
    assert here.state() != before
    done = json.loads(here.done("undo", "--tun", "tun7", "--json"))
    assert {step["outcome"] for journal in done["journals"] for step in journal["steps"]} == {"done"}
    assert here.state() == before
    assert here.done("undo", "--tun", "tun7") == "# nothing to undo: no routes were applied to tun7\n"
    assert here.state() == before


def test_the_commands_of_the_plan_do_the_same_and_those_of_its_undo_take_it_back(here: Routed) -> None:
    before = here.state()
    commands, undo = here.done("plan", "--tun", "tun7").split("\n\n# and back:\n")
    assert here.done("apply", "--tun", "tun7", "--dry-run") == f"{commands}\n\n# and back:\n{undo}"
    assert here.state() == before
    here.done("apply", "--tun", "tun7")
    applied = here.state()
    here.done("undo", "--tun", "tun7")
    here.run("sh", "-ec", commands)
    assert here.state() == applied
    here.run("sh", "-ec", undo)
    assert here.state() == before


def test_what_somebody_has_changed_since_stays(here: Routed) -> None:
    here.done("apply", "--tun", "tun7")
    here.run("ip", "route", "replace", "default", "dev", "tun7", "table", "125", "proto", "static")
    here.done("undo", "--tun", "tun7")
    assert "proto static" in here.run("ip", "route", "show", "table", "125")


def test_only_what_is_included_and_not_excluded(here: Routed) -> None:
    here.done("apply", "--tun", "tun7", "--include", "203.0.113.0/24", "--exclude", "203.0.113.128/25")
    assert here.way(4) == "tun7"
    for other in ("203.0.113.200", "192.0.2.1"):
        assert json.loads(here.run("ip", "-json", "route", "get", other))[0]["dev"] == "uplink"
    assert here.way(6) == "uplink"


def test_the_addresses_that_the_tun_has_stay_its_only_ones(here: Routed) -> None:
    addresses = here.run("ip", "address", "show", "tun7")
    here.done("apply", "--tun", "tun7")
    assert here.run("ip", "address", "show", "tun7") == addresses


@families
def test_a_tun_without_an_address_gets_one_of_both_families(here: Routed, family: int) -> None:
    """Else what speaks the other would leave past it."""
    here.run("ip", "address", "flush", "dev", "tun7")
    here.done("apply", "--tun", "tun7")
    assert here.way(family) == "tun7"
    assert "inet" in here.run("ip", f"-{family}", "address", "show", "tun7")
    here.done("undo", "--tun", "tun7")
    assert "inet" not in here.run("ip", "address", "show", "tun7")


def test_notes_say_what_the_program_behind_it_must_do(here: Routed) -> None:
    told = here.done("apply", "--tun", "tun7")
    assert "(SO_MARK), or they come back into it" in told
    assert "nobody has tun7 open" in told
    assert told.endswith("# `tunsmith route undo --tun tun7` takes it back\n")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--tun", "tun9"), "there is no TUN interface tun9 here: make it by `tunsmith link add tun9`"),
        (("--tun", "uplink"), "there is no TUN interface uplink here"),
        (("--tun", "tap7"), "tap7 is a TAP"),
        (("--tun", "tun7", "--include", "10.0.0.1/8"), "did you mean 10.0.0.0/8?"),
        (("--tun", "tun7", "--exclude", "nonsense"), "'nonsense' is no network"),
        (("--tun", "tun7", "--interface", "wlan9"), "there is no interface wlan9"),
        (("--tun", "tun7", "--via", "gopher://x"), "unknown scheme"),
        ((), "Missing option '--tun'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_changed(
    here: Routed, options: tuple[str, ...], why: str
) -> None:
    here.run("ip", "tuntap", "add", "tap7", "mode", "tap")
    before = here.state()
    found = here.route("apply", *options)
    assert (found.returncode, found.stdout, found.stderr.count("\n")) == (2, "", 1)
    assert why in found.stderr
    assert here.state() == before
    assert not here.state_directory.exists()


def test_a_second_time_is_refused(here: Routed) -> None:
    here.done("apply", "--tun", "tun7")
    before = here.state()
    found = here.route("apply", "--tun", "tun7")
    assert (found.returncode, found.stdout) == (2, "")
    assert "`tunsmith route undo --tun tun7` comes first" in found.stderr
    assert here.state() == before


def test_what_cannot_be_written_down_is_not_done(here: Routed) -> None:
    here.state_directory.write_text("in the way")
    before = here.state()
    found = here.route("apply", "--tun", "tun7")
    assert (found.returncode, found.stdout, found.stderr.count("\n")) == (125, "", 1)
    assert str(here.state_directory) in found.stderr
    assert here.state() == before


def test_an_interface_that_is_gone_leaves_nothing_behind(here: Routed) -> None:
    here.done("apply", "--tun", "tun7")
    here.run("ip", "link", "delete", "tun7")
    here.done("undo", "--tun", "tun7")
    assert "125" not in here.run("ip", "rule") + here.run("ip", "-6", "rule")
    assert here.run("nft", "list", "ruleset") == ""


def test_restore_leaves_it_alone(here: Routed) -> None:
    """It is no leftover, though the process that made it has ended."""
    here.done("apply", "--tun", "tun7")
    before = here.state()
    here.run("env", "PYTHONPATH=src", *TUNSMITH, "restore", "--state", str(here.state_directory))
    assert here.state() == before
