"""`tunsmith restore` and `tunsmith confirm`: what they print and how they exit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.host.test_journal import another_instance, left_by_a_dead_instance
from tunsmith.cli.main import run


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state"


def test_nothing_to_restore_is_no_failure(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["restore", "--state", str(directory)]) == 0
    assert capsys.readouterr().out == "nothing to restore\n"


def test_a_journal_that_belongs_to_a_living_instance_is_refused(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with another_instance(directory, "tun0") as other:
        assert run(["restore", "--state", str(directory)]) == 1
        captured = capsys.readouterr()
        assert f"process {other.pid}, which runs: stop that one first" in captured.err


def test_what_would_be_done_is_said_and_not_done(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing of it is there: looking takes no root."""
    path = left_by_a_dead_instance(directory)
    assert run(["restore", "--state", str(directory), "--dry-run"]) == 0
    assert "  gone already: ip rule delete not from all fwmark 0x40/0xff" in capsys.readouterr().out
    assert path.exists()


def test_json_has_all_of_it(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = left_by_a_dead_instance(directory)
    assert run(["restore", "--state", str(directory), "--tun", "tun0", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["dry_run"] is False
    (journal,) = found["journals"]
    assert (journal["journal"], journal["tun"], journal["left"]) == (str(path), "tun0", False)
    assert [step["change"] for step in journal["steps"]] == ["AddRule", "AddRoute", "SetSysctl"]
    assert journal["steps"][1]["outcome"] == "gone"
    assert journal["steps"][1]["commands"] == [
        "ip route delete unreachable default table 125 metric 4096 proto 125"
    ]
    assert not path.exists()


def test_a_directory_that_others_may_write_to_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.chmod(0o777)
    assert run(["restore", "--state", str(tmp_path)]) == 1
    assert "written by others" in capsys.readouterr().err


def test_confirming_where_nobody_waits_fails(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left_by_a_dead_instance(directory)
    assert run(["confirm", "--state", str(directory)]) == 1
    assert run(["confirm", "--state", str(directory), "--tun", "tun0"]) == 1
    assert "no instance on tun0 waits" in capsys.readouterr().err
