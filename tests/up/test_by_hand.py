"""up/by_hand.py: all of it or none, and nobody's way crossed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from tests.host.private_network import Network, private_network
from tunsmith.errors import HostError, UsageError
from tunsmith.host.journal import Journal
from tunsmith.route.change import AddRoute, Change, SetSysctl
from tunsmith.route.draft import Step
from tunsmith.route.facts import Route
from tunsmith.route.wish import Wish
from tunsmith.up.asked import Asked
from tunsmith.up.by_hand import ByHand, apply, plan_by_hand, undo

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]


@pytest.fixture
def network() -> Iterator[Network]:
    with private_network() as found:
        found.ip(
            "tuntap add tun7 mode tun\naddress add 10.7.0.1/24 dev tun7\naddress add fd07::1/64 dev tun7 nodad\n"
        )
        yield found


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    return Asked(Wish(tun="tun7"), tmp_path / "state")


def _with(found: ByHand, change: Change) -> ByHand:
    return replace(found, steps=(*found.steps, Step("one more", (change,))))


def test_where_one_change_fails_all_are_taken_back(network: Network, asked: Asked) -> None:
    before = network.everything()
    broken = AddRoute(Route(ip_network("192.0.2.0/24"), "tun99", table=300))
    with pytest.raises(HostError, match="there is no interface tun99"):
        apply(asked, _with(plan_by_hand(asked), broken))
    assert network.everything().replace("pfifo_fast", "noop") == before.replace("pfifo_fast", "noop")
    assert not [path for path in asked.state.rglob("*") if path.is_file()]
    assert undo(asked.state, "tun7", dry_run=False) == []


def test_a_sysctl_that_cannot_be_set_is_told_and_the_rest_is_done(network: Network, asked: Asked) -> None:
    """Containers have /proc/sys read-only."""
    (missed,) = apply(asked, _with(plan_by_hand(asked), SetSysctl("net/ipv4/conf/tun99/rp_filter", "2", "0")))
    assert "net/ipv4/conf/tun99/rp_filter" in missed
    (done,) = undo(asked.state, "tun7", dry_run=False)
    assert not done.left


def test_a_dry_run_of_the_undo_takes_nothing_back(network: Network, asked: Asked) -> None:
    apply(asked, plan_by_hand(asked))
    before = network.everything()
    (told,) = undo(asked.state, "tun7", dry_run=True)
    assert told.steps
    assert network.everything() == before
    (done,) = undo(asked.state, "tun7", dry_run=False)
    assert [step.entry for step in done.steps] == [step.entry for step in told.steps]


def test_beside_an_instance_of_up_it_is_refused(network: Network, asked: Asked) -> None:
    found = plan_by_hand(asked)
    before = network.everything()
    running = Journal.create(asked.state, "tunsmith0", True)
    with pytest.raises(UsageError, match=f"process {os.getpid()} leads traffic into tunsmith0 already"):
        apply(asked, found)
    assert network.everything() == before
    running.remove()


def test_a_switch_is_put_back_to_what_it_was(network: Network, asked: Asked) -> None:
    """The plan knows only that of an interface that is new."""
    for name, value in (("all", "1"), ("tun7", "0")):
        Path(f"/proc/sys/net/ipv4/conf/{name}/rp_filter").write_text(value)
    apply(asked, plan_by_hand(asked))
    path = Path("/proc/sys/net/ipv4/conf/tun7/rp_filter")
    assert path.read_text() == "2\n"
    undo(asked.state, "tun7", dry_run=False)
    assert path.read_text() == "0\n"
