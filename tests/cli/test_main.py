from __future__ import annotations

import subprocess
import sys

import pytest

from tests.host.machine import environment
from tunsmith import __version__
from tunsmith.cli.main import COMMANDS, run


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["run"], "no command given"),
        (["run", "--"], "no command given"),
        (["run", "--nonsense", "--", "true"], "No such option"),
        (["run", "--max-flows", "0", "--", "true"], "0 is not in the range"),
        (["run", "--max-flows", "many", "--", "true"], "'many' is not a valid integer"),
        (["run", "--publish", "x", "--", "true"], "--publish x: not of the form"),
        (["run", "--via", "gopher://host", "--", "true"], "gopher"),
        (["run", "--via", "socks5://host:99999", "--", "true"], "99999"),
        (["run", "--interface", "no-such-link", "--", "true"], "no-such-link"),
        (["run", "--capture", "/no/such/directory/file", "--", "true"], "No such file or directory"),
    ],
)
def test_wrong_command_line_is_one_line_and_code_2(
    arguments: list[str], complaint: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    out, err = capfd.readouterr()
    (line,) = err.splitlines()
    assert line.startswith("tunsmith: ")
    assert complaint in line
    assert out == ""


def test_secrets_of_a_wrong_url_are_not_shown(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["run", "--via", "gopher://user:hunter2@host", "--", "true"]) == 2
    assert "hunter2" not in capfd.readouterr().err


def test_version(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capfd.readouterr().out == f"tunsmith {__version__}\n"


def test_help_teaches_by_example(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    assert "tunsmith run -- curl" in capfd.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--help"]) == 0
    assert f"Usage: tunsmith {name}" in capfd.readouterr().out


def test_no_arguments_is_help_and_code_2(capfd: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    assert "Commands:" in capfd.readouterr().err


def test_help_costs_no_import_of_a_command() -> None:
    script = (
        "import sys; from tunsmith.cli.main import run; run(['--help']);"
        "raise SystemExit(any(name in sys.modules for name in ('tunsmith.cli.run', 'asyncio', 'socket')))"
    )
    assert subprocess.run([sys.executable, "-c", script], env=environment(), check=False).returncode == 0


def test_module_is_the_command() -> None:
    command = [sys.executable, "-m", "tunsmith", "--version"]
    result = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, f"tunsmith {__version__}\n")
