"""`tunsmith demo` as a user meets it: it tells the truth, fails in words, and leaves one file behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import pcapng_reader
from tests.host.machine import User, environment, on_machine

pytestmark = pytest.mark.netns

TUNSMITH = [sys.executable, "-B", "-m", "tunsmith"]
CLOSED_PORT = 81
RST = 0x04


@dataclass(frozen=True)
class Home:
    """Where a demo runs: its directory of temporary files, and a mark on every process it starts."""

    user: User
    files: Path

    @property
    def environment(self) -> dict[str, str]:
        return {**environment(), "TMPDIR": str(self.files), "LANG": "C.UTF-8"}

    def command(self, *arguments: str, path: str | None = None, prelude: str = "") -> list[str]:
        """`tunsmith ARGUMENTS`; programs are looked up along `path` where given."""
        search = ["env", f"PATH={path}"] if path else []
        return on_machine([*search, *TUNSMITH, *arguments], self.user, prelude)

    def run(
        self, *arguments: str, path: str | None = None, prelude: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """The same, to its end."""
        command = self.command(*arguments, path=path, prelude=prelude)
        return subprocess.run(
            command, capture_output=True, text=True, env=self.environment, timeout=60, check=False
        )

    def processes(self) -> list[str]:
        """Command lines of all processes of the demo, wherever they have gone."""
        mark = f"TMPDIR={self.files}".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
        return found


@pytest.fixture
def home(user: User) -> Iterator[Home]:
    """A home; afterwards no process of the demo may be left."""
    files = Path(tempfile.mkdtemp(prefix="tunsmith-test-"))
    os.chown(files, user.uid, user.uid)
    home = Home(user, files)
    yield home
    try:
        eventually(lambda: not home.processes(), "the end of all processes")
    finally:
        shutil.rmtree(files)


def eventually(true: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.01)


def programs(home: Home, *names: str) -> str:
    """A directory with these programs of the machine, to be the whole PATH."""
    path = home.files.parent / f"{home.files.name}-bin"
    path.mkdir()
    for name in names:
        found = shutil.which(name)
        assert found
        (path / name).symlink_to(found)
    return str(path)


def test_facts_are_as_promised_and_the_capture_is_all_that_is_left(home: Home) -> None:
    result = home.run("demo", "--json", "--seconds", "0.2")
    assert (result.returncode, result.stderr) == (0, "")
    facts = json.loads(result.stdout)
    assert facts["faults"] == []
    flows = {
        (
            flow["via"].split(":")[0],
            flow["protocol"],
            f"{flow['name']}:{flow['target'].rpartition(':')[2]}",
        ): flow
        for flow in facts["flows"]
        if "target" in flow
    }
    for via, name in (("direct", "www.demo.example"), ("socks5", "vault.demo.example")):
        page, closed = flows[via, "tcp", f"{name}:80"], flows[via, "tcp", f"{name}:81"]
        assert (page["verdict"], page["rule"], page["upstream"]) == ("closed", "via", page["via"])
        assert page["up"] > 0
        assert page["down"] > 0
        assert (closed["verdict"], closed["up"], closed["down"]) == ("refused", 0, 0)
        assert flows[via, "udp", "echo.demo.example:7"]["down"] == len("Hello by UDP")
    assert facts["names"] == {"proxy": ["vault.demo.example", "echo.demo.example"], "leaked": []}
    assert facts["speed"]["without"] > 0
    assert facts["speed"]["through"] > 0
    capture = Path(facts["capture"])
    assert list(home.files.iterdir()) == [capture]
    assert (capture.stat().st_uid, capture.stat().st_mode & 0o777) == (home.user.uid, 0o600)


def test_screen_without_a_terminal_is_plain_text_of_80_columns(home: Home) -> None:
    result = home.run("demo", "--seconds", "0.1")
    assert (result.returncode, result.stderr) == (0, "")
    assert "\x1b" not in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "vault.demo.example:80" in result.stdout
    (capture,) = home.files.iterdir()
    assert str(capture) in result.stdout


def test_capture_shows_the_closed_port_as_a_reset(home: Home) -> None:
    home.run("demo", "--json", "--seconds", "0.1")
    (capture,) = home.files.iterdir()
    packets = [packet.data for packet in pcapng_reader.read(capture.read_bytes()).packets]
    tcp = [packet for packet in packets if packet[0] >> 4 == 4 and packet[9] == 6]
    from_closed = [packet for packet in tcp if int.from_bytes(packet[20:22], "big") == CLOSED_PORT]
    assert from_closed
    assert all(packet[33] & RST for packet in from_closed)


def test_python_stands_in_for_what_is_not_installed(home: Home) -> None:
    path = programs(home, "sh", "getent")
    try:
        result = home.run("demo", "--json", "--seconds", "0.1", path=path)
    finally:
        shutil.rmtree(path)
    assert (result.returncode, result.stderr) == (0, "")
    labels = {flow["program"] for flow in json.loads(result.stdout)["flows"]}
    assert labels == {"python", "python, IPv6", "python :81", "python, UDP", "getent"}


def test_unexpected_verdict_is_named_and_the_exit_code_is_1(home: Home) -> None:
    path = programs(home, "sh", "getent")
    curl = Path(path, "curl")
    curl.write_text("#!/bin/sh\necho nothing from nowhere\n")
    curl.chmod(0o755)
    try:
        result = home.run("demo", "--seconds", "0.1", path=path)
    finally:
        shutil.rmtree(path)
    assert (result.returncode, result.stderr) == (1, "")
    assert "✘ curl :81 through direct: exit code 0 instead of 7" in result.stdout
    assert "✘ without tunsmith: nothing from nowhere" in result.stdout


def test_capture_that_finds_no_room_is_a_fault_and_the_rest_is_shown(home: Home) -> None:
    full = f"mount -t tmpfs -o size=4k,mode=1777 none {home.files}\n"
    result = home.run("demo", "--json", "--seconds", "0.1", prelude=full)
    assert (result.returncode, result.stderr) == (1, "")
    facts = json.loads(result.stdout)
    assert facts["faults"] == ["capture: [Errno 28] No space left on device"]
    assert facts["capture"] == ""


def test_output_that_nobody_takes_is_one_line(home: Home) -> None:
    result = home.run("demo", "--seconds", "0.1", prelude="exec >/dev/full\n")
    line = "tunsmith: the demo cannot go on: [Errno 28] No space left on device\n"
    assert (result.returncode, result.stderr) == (1, line)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_in_the_middle_of_a_transfer_leaves_nothing(home: Home, number: signal.Signals) -> None:
    with _transferring(home) as demo:
        demo.send_signal(number)
        output = demo.communicate(timeout=10)
    assert (demo.returncode, output) == (128 + number, ("", ""))
    assert home.processes() == []
    assert list(home.files.iterdir()) == []


def test_death_in_the_middle_of_a_transfer_leaves_nothing_for_long(home: Home) -> None:
    with _transferring(home) as demo:
        demo.kill()
    eventually(lambda: not home.processes(), "the end of what the demo had started")
    assert list(home.files.iterdir()) == []


@pytest.mark.parametrize(
    "prelude",
    ["rm /dev/net/tun\n", "echo 0 > /proc/sys/user/max_user_namespaces\n"],
    ids=["no TUN", "no namespaces"],
)
def test_machine_that_forbids_it_is_told_as_run_tells_it(home: Home, prelude: str) -> None:
    """In a user namespace, so that the limit of this machine is not touched."""
    expected = _nested(home, prelude, "run", "--", "true")
    result = _nested(home, prelude, "demo")
    assert expected.returncode == 125
    assert (result.returncode, result.stdout, result.stderr) == (125, "", expected.stderr)
    assert len(result.stderr.splitlines()) == 1


def _nested(home: Home, prelude: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = f'set -e\n{prelude}exec "$@"'
    nested = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
    command = on_machine([*nested, *TUNSMITH, *arguments], home.user, "chmod 777 /dev/net\n")
    return subprocess.run(
        command, capture_output=True, text=True, env=home.environment, timeout=30, check=False
    )


def _transferring(home: Home) -> subprocess.Popen[str]:
    """A demo whose speed test goes through tunsmith at this moment."""
    demo = subprocess.Popen(
        home.command("demo", "--json", "--seconds", "1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=home.environment,
    )
    eventually(
        lambda: any("tunsmith run" in line and "/stream" in line for line in home.processes()),
        "a transfer through tunsmith",
    )
    return demo
