from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.host.machine import ROOT, environment
from tunsmith import __version__
from tunsmith.cli.main import COMMANDS, run

ENTRY_POINT = "tunsmith.__main__"
MODULE = [sys.executable, "-m", "tunsmith"]


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
        (["run", "--interface", "", "--", "true"], "an interface name has 1 to 15 bytes"),
        (["run", "--interface", "\udcff", "--", "true"], "no such interface"),
        (["run", "--capture", "", "--", "true"], "the name of the file is empty"),
        (["demo", "--seconds", "nan"], "--seconds nan"),
        (["echo", "tun0", "10.7.0.2"], "Missing argument 'PORT'"),
        (["echo", "tun0", "10.7.0.2", "65536"], "65536 is not in the range"),
        (["echo", "tun0", "localhost", "7"], "ADDRESS localhost: not an IP address"),
        (["echo", "tun0", "224.0.0.1", "7"], "no address that a host can have"),
        (["echo", "tun0", "10.7.0.0/24", "7"], "in 10.7.0.0/24 that is the network itself; take"),
        (
            ["echo", "tun0", "10.7.0.255", "7"],
            "in 10.7.0.0/24 that is everybody; take the address of a host, like 10.7.0.2",
        ),
        (
            ["echo", "tun0", "fd07::", "7"],
            "in fd07::/64 that is the network itself; take the address of a host, like fd07::2",
        ),
        (
            ["connect", "tun0", "10.7.0.0/30", "0", "10.7.0.1", "7"],
            "LADDR 10.7.0.0/30: in 10.7.0.0/30 that is",
        ),
        (["echo", "--mac", "02:00:5e:10:00:01", "tun0", "10.7.0.2", "7"], "--mac goes with --tap"),
        (["echo", "--tap", "--mac", "nonsense", "tap0", "10.7.0.2", "7"], "--mac: 'nonsense' is no MAC"),
        (["echo", "--tap", "--mac", "zz", "tap0", "10.7.0.2", "7"], "six bytes in hexadecimal"),
        (["echo", "tun0", "255.255.255.255", "7"], "no address that a host can have"),
        (["echo", "tun0", "fe80::2", "7"], "link-local addresses are not for this"),
        (["echo", "tun0/1", "10.7.0.2", "7"], "is no name for an interface"),
        (
            ["connect", "tun0", "10.7.0.2", "0", "fd07::1", "80"],
            "LADDR 10.7.0.2 and RADDR fd07::1: both have to be IPv4",
        ),
        (["connect", "tun0", "10.7.0.2", "0", "10.7.0.2", "80"], "they have to be two hosts"),
        (
            ["connect", "--mac", "02:00:5e:10:00:01", "tun0", "10.7.0.2", "0", "10.7.0.1", "80"],
            "goes with --tap",
        ),
        (["connect", "--timeout", "nan", "tun0", "10.7.0.2", "0", "10.7.0.1", "80"], "--timeout nan"),
        (["connect", "tun0", "10.7.0.2", "0", "10.7.0.1", "0"], "0 is not in the range"),
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


def test_elsewhere_it_says_that_it_needs_linux(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    for name in COMMANDS:
        assert run([name]) == 125
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith("tunsmith: this needs Linux, not darwin")


def test_help_that_cannot_be_written_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [*MODULE, "--help"],
            env=environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    complaint = "tunsmith: cannot write to standard output: No space left on device\n"
    assert (result.returncode, result.stderr) == (1, complaint)


def test_exit_code_stands_where_the_complaint_cannot_be_written() -> None:
    with open("/dev/full", "w") as full:
        command = [*MODULE, "run", "--via", "gopher://x", "--", "true"]
        assert subprocess.run(command, env=environment(), stderr=full, check=False).returncode == 2


def test_library_needs_nothing_of_linux() -> None:
    """Whoever has no TUN can still use the stack, and test with it; but not run packet scripts on Linux."""
    script = (
        "import asyncio, importlib, pkgutil, sys, os, signal, socket\n"
        "for name in ('fcntl', 'resource', 'termios', 'pwd', 'grp', 'uvloop'): sys.modules[name] = None\n"
        "sys.platform = 'other'\n"
        "for module, names in (\n"
        "    (os, 'fork geteuid getuid pidfd_open readv writev O_NONBLOCK O_CLOEXEC'),\n"
        "    (socket, 'AF_NETLINK SO_BINDTODEVICE SOCK_NONBLOCK recv_fds send_fds'),\n"
        "    (signal, 'SIGSTOP SIGTSTP SIGWINCH pidfd_send_signal pthread_sigmask'),\n"
        "):\n"
        "    for name in names.split(): delattr(module, name)\n"
        "import tunsmith.stack, tunsmith.wire, tunsmith.device.memory, tunsmith.testing\n"
        "for package in (tunsmith.stack, tunsmith.wire, tunsmith.testing):\n"
        "    for found in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        if not found.name.endswith(('kernel_bench', 'kernel_host')): importlib.import_module(found.name)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], env=environment(), capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")


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


@pytest.mark.parametrize(
    "moment",
    ["interrupt()", "type('Noise', (), {'__del__': lambda _: interrupt()})()"],
    ids=["code", "callback"],
)
def test_interrupt_while_modules_are_imported_is_130_without_a_word(tmp_path: Path, moment: str) -> None:
    """Ctrl-C in the first moments; the module that notices it is the first one that is not ours."""
    interrupt = "import os, signal\ndef interrupt(): os.kill(os.getpid(), signal.SIGINT)\n"
    (tmp_path / "click.py").write_text(f"{interrupt}{moment}\n")
    path = f"{tmp_path}:{environment()['PYTHONPATH']}"
    for command in (MODULE, [sys.executable, "-c", f"from {ENTRY_POINT} import main; main()"]):
        result = subprocess.run(
            command, env={**environment(), "PYTHONPATH": path}, capture_output=True, text=True, check=False
        )
        assert (result.returncode, result.stdout, result.stderr) == (130, "", "")


def test_entry_point_of_the_package_is_the_one_tested_here() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"tunsmith": f"{ENTRY_POINT}:main"}
