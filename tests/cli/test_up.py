"""The command line of `up`, as far as it goes without a machine to change; tests/netns has the rest."""

from __future__ import annotations

import json
from ipaddress import ip_network
from pathlib import Path

import pytest

from tunsmith.cli import main, up_report
from tunsmith.cli.options import parse_prefix
from tunsmith.errors import UsageError
from tunsmith.host.journal import Contents, Entry
from tunsmith.host.restore import Outcome, Replay, Step
from tunsmith.route.change import AddRule
from tunsmith.route.facts import KERNEL, MAIN, Link, LinkAddress, Route, Rule, Snapshot
from tunsmith.route.plan import Plan, plan
from tunsmith.route.wish import Wish
from tunsmith.up.report import Works


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--include", "10.0.0.0/33"], "'10.0.0.0/33' is no network, like 10.0.0.0/8 or 2001:db8::/32"),
        (
            ["--exclude", "10.0.0.1/8"],
            "'10.0.0.1/8' has bits set behind its prefix; did you mean 10.0.0.0/8?",
        ),
        (["--include", "10.0.0.0/8", "--exclude", "10.0.0.0/8"], "10.0.0.0/8 is included and excluded"),
        (["--tun", "a/b"], "'a/b' cannot be the name of an interface"),
        (["--interface", "lo"], "'lo' cannot be the name of an interface here: the kernel uses it itself"),
        (
            ["--tun", "eth0", "--interface", "eth0"],
            "eth0 cannot be the TUN interface and the way out at once",
        ),
        (["--via", "ftp://x"], "unknown scheme 'ftp'"),
        (["--confirm", "0"], "0.0 is not in the range x>=1"),
        (["--strategy", "magic"], "'magic' is not one of"),
        (["extra"], "unexpected extra argument (extra)"),
    ],
)
def test_wrong_command_line_is_one_line_and_nothing_is_changed(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["up", *options]) == 2
    line = capsys.readouterr().err
    assert said in line
    assert line.count("\n") == 1


def test_all_faults_of_a_file_are_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "up.yaml"
    file.write_text("include:\n  - 10.0.0.1/8\nvia: ftp://x\nfail_closed: true\nconfirm: 0\n")
    assert main.run(["up", "--config", str(file)]) == 2
    said = capsys.readouterr().err
    for line, key in ((2, "include"), (3, "via"), (4, "fail_closed"), (5, "confirm")):
        assert f"{file}:{line}: {key}" in said


def test_prefix_may_be_one_address() -> None:
    assert parse_prefix("192.0.2.1") == ip_network("192.0.2.1/32")
    with pytest.raises(UsageError):
        parse_prefix("")


@pytest.fixture
def planned() -> Plan:
    everywhere, lan = ip_network("0.0.0.0/0"), ip_network("192.0.2.0/24")
    machine = Snapshot(
        links=(Link("lo", 1, loopback=True), Link("eth0", 2)),
        addresses=(LinkAddress("eth0", Wish().addresses[0]),),
        routes=(Route(everywhere, "eth0", protocol=3), Route(lan, "eth0", protocol=KERNEL)),
        rules=(Rule(4, 0, 255, protocol=2), Rule(4, 32766, MAIN, protocol=2)),
    )
    return plan(Wish(addresses=Wish().addresses[:1], nft=False), machine)


def test_plan_is_shown_with_its_undo(planned: Plan) -> None:
    there, _, back = up_report.plan_as_text(planned).partition("\n# and back:\n")
    added = [line for line in there.splitlines() if line.startswith("ip rule add")]
    deleted = [line for line in back.splitlines() if line.startswith("ip rule delete")]
    assert added
    assert [line.replace(" delete ", " add ") for line in reversed(deleted)] == added
    as_json = json.loads(up_report.plan_as_json(planned))
    shown = [
        command for step in as_json["steps"] for change in step["changes"] for command in change["commands"]
    ]
    assert [line for line in shown if line.startswith("ip rule add")] == added


def test_what_was_done_is_told_to_people(planned: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    report = up_report.TextReport()
    report.works(Works(planned, "socks5://h:1", Path("/j"), ("a note",), seconds=0.5, confirm=60))
    said = capsys.readouterr().err
    assert f"everything goes through {planned.tun} to socks5://h:1 (ready in 0.50 s)" in said
    assert f"our own sockets bear mark {planned.mark:#x}, table {planned.table}" in said
    assert "note: a note" in said
    assert "run `tunsmith confirm` within 60 s" in said
    assert "by /j" in said


def test_what_was_not_taken_back_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    entry = Entry(AddRule(Rule(4, 100, table=125)))
    report = up_report.TextReport()
    report.stopped(Replay(Path("/j"), Contents(None), (Step(entry, Outcome.DONE),)))
    assert capsys.readouterr().err == "tunsmith: the network is as it was (1 change taken back)\n"
    report.stopped(Replay(Path("/j"), Contents(None), (Step(entry, Outcome.FAILED, "why"),), left=True))
    assert "not taken back: ip rule delete from all" in capsys.readouterr().err
