"""`tunsmith run` from end to end: a real program, the real engine, real servers outside."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.neighbours import ADDRESS, GREETING
from tests.host.machine import USERS, WRITABLE_ETC, User, environment, on_machine, run

pytestmark = pytest.mark.netns

ROOT_USER = USERS[0]
NEIGHBOURS = [sys.executable, "-B", str(Path(__file__).with_name("neighbours.py"))]
TUNSMITH = [sys.executable, "-B", "-m", "tunsmith", "run"]
CURL = ["curl", "--silent", "--show-error", f"http://{ADDRESS}/"]


def _tunsmith(user: User, *arguments: str, prelude: str = "") -> subprocess.CompletedProcess[str]:
    """`tunsmith run ARGUMENTS` on a machine whose network has the neighbours in it."""
    command = [*NEIGHBOURS, *user.become(), *TUNSMITH, *arguments]
    return run(on_machine(command, ROOT_USER, prelude, network=True))


def test_program_reaches_the_network_of_the_caller(user: User) -> None:
    result = _tunsmith(user, "--", *CURL)
    assert (result.returncode, result.stdout, result.stderr) == (0, GREETING.decode(), "")


@pytest.mark.parametrize(("script", "code"), [("exit 7", 7), ("kill -TERM $$", 143), ("exec /etc", 126)])
def test_exit_code_is_that_of_the_program(user: User, script: str, code: int) -> None:
    assert _tunsmith(user, "--", "sh", "-c", script).returncode == code


def test_program_not_found_is_127(user: User) -> None:
    result = _tunsmith(user, "no-such-program")
    assert (result.returncode, result.stderr) == (127, "tunsmith: no-such-program: command not found\n")


def test_program_without_a_name_is_127(user: User) -> None:
    result = _tunsmith(user, "")
    assert (result.returncode, result.stderr) == (127, "tunsmith: '': command not found\n")


def test_environment_is_that_of_the_caller(user: User) -> None:
    """Also where Python sets a variable for its own sake (PEP 538)."""
    for given in (["PATH=/bin:/usr/bin"], ["PATH=/bin:/usr/bin", "LC_CTYPE=C"]):
        given.append(f"PYTHONPATH={environment()['PYTHONPATH']}")
        command = ["env", "-i", *given, *TUNSMITH, "--", "env"]
        result = run(on_machine([*user.become(), *command], ROOT_USER))
        assert sorted(result.stdout.splitlines()) == sorted(given)


def test_too_few_descriptors_for_anything_is_one_line_and_125(user: User) -> None:
    result = _tunsmith(user, "--", "echo", "started", prelude="ulimit -n 24")
    assert (result.returncode, result.stdout) == (125, "")
    assert result.stderr.startswith("tunsmith: 24 file descriptors are too few")
    assert result.stderr.count("\n") == 1


def test_options_behind_the_program_are_its_own(user: User) -> None:
    assert _tunsmith(user, "echo", "-v", "--via", "x").stdout == "-v --via x\n"


def test_upstream_that_is_down_is_one_line_and_125_and_the_program_is_not_started(user: User) -> None:
    result = _tunsmith(user, "--via", f"socks5://{ADDRESS}:1", "--", "echo", "started")
    assert (result.returncode, result.stdout) == (125, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("tunsmith: ")
    assert f"{ADDRESS}:1" in line


def test_signal_ends_a_start_that_would_not_end(user: User) -> None:
    result = _tunsmith(user, "--via", f"socks5://{ADDRESS}:1080", "--", "echo", "started")
    assert (result.returncode, result.stdout, result.stderr) == (128 + signal.SIGTERM, "", "")


@pytest.mark.parametrize("moment", ["spawn", "ready", "release"])
def test_interrupt_key_during_the_start_is_130_without_a_word(user: User, moment: str) -> None:
    """It ends the child as well, and that may be noticed first."""
    script = (
        "import os, signal, sys\n"
        "from tunsmith.host.sandbox import Sandbox\n"
        "from tunsmith.__main__ import main\n"
        f"step = Sandbox.{moment}\n"
        "def interrupted(*arguments):\n"
        "    if hasattr(arguments[0], 'pid'):\n"
        "        os.kill(arguments[0].pid, signal.SIGINT)\n"
        "        os.waitid(os.P_PID, arguments[0].pid, os.WEXITED | os.WNOWAIT)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    return step(*arguments)\n"
        f"Sandbox.{moment} = interrupted\n"
        "sys.argv = ['tunsmith', 'run', '--', 'echo', 'started']\n"
        "main()\n"
    )
    result = run(on_machine([*user.become(), sys.executable, "-c", script], ROOT_USER))
    assert (result.returncode, result.stdout, result.stderr) == (128 + signal.SIGINT, "", "")


def test_block_refuses_everything(user: User) -> None:
    result = _tunsmith(user, "--via", "block", "--", *CURL)
    assert result.returncode == 7  # curl: could not connect


def test_verbose_says_a_line_for_each_flow(user: User) -> None:
    result = _tunsmith(user, "--verbose", "--", *CURL)
    (line,) = result.stderr.splitlines()
    assert re.fullmatch(
        rf"tcp +\d+ B up +\d+ B down +\d+\.\d\d s  {re.escape(ADDRESS)}:80 direct: closed", line
    )


def test_json_says_an_object_for_each_flow(user: User) -> None:
    result = _tunsmith(user, "--json", "--", *CURL)
    (flow,) = map(json.loads, result.stderr.splitlines())
    assert (flow["event"], flow["protocol"], flow["target"]) == ("flow", "tcp", f"{ADDRESS}:80")
    assert flow["down"] > len(GREETING)


def test_reader_of_flows_that_has_gone_disturbs_nothing(user: User) -> None:
    script = ["sh", "-c", f"{' '.join([*TUNSMITH, '-v', '--', *CURL])} 2>&1 >/dev/null | true"]
    assert run(on_machine([*NEIGHBOURS, *user.become(), *script], ROOT_USER, network=True)).returncode == 0


def test_descriptor_limit_is_raised_for_us_and_kept_for_the_program(user: User) -> None:
    script = "ulimit -Sn; grep 'open files' /proc/$PPID/limits"
    result = _tunsmith(user, "--", "sh", "-c", script, prelude="ulimit -Sn 256; ulimit -Hn 4096")
    inside, ours = result.stdout.splitlines()
    assert inside == "256"
    assert ours.split()[3:5] == ["4096", "4096"]


def test_dead_dns_is_one_line(user: User) -> None:
    etc = WRITABLE_ETC + "printf 'nameserver 127.0.0.53\\nnameserver 192.0.2.1\\n' > /etc/resolv.conf"
    result = _tunsmith(user, "--", "getent", "ahosts", "example.com", prelude=etc)
    assert result.returncode == 2
    complaint = "tunsmith: DNS: no answer from the resolvers of this machine (127.0.0.53, 192.0.2.1)\n"
    assert result.stderr == complaint


@pytest.mark.parametrize("make", ["mkfifo", "mkdir", "touch"])
def test_resolv_conf_that_names_nobody_is_as_to_glibc_the_resolver_on_loopback(user: User, make: str) -> None:
    """Be it empty or nothing that can be read, like a pipe that nobody writes to."""
    etc = WRITABLE_ETC + f"rm -f /etc/resolv.conf; {make} /etc/resolv.conf"
    command = [*user.become(), *TUNSMITH, "--", "getent", "ahosts", "example.com"]
    result = run(on_machine(command, ROOT_USER, etc, network=True))
    assert "no answer from the resolvers of this machine (127.0.0.1)" in result.stderr


def test_search_list_of_the_caller_is_kept_on_direct(user: User) -> None:
    etc = WRITABLE_ETC + "printf 'nameserver 9.9.9.9\\nsearch corp.example\\n' > /etc/resolv.conf"
    result = _tunsmith(user, "--", "cat", "/etc/resolv.conf", prelude=etc)
    assert result.stdout == "nameserver 198.18.0.2\nsearch corp.example\n"


def test_background_children_do_not_hold_up_the_end(user: User) -> None:
    result = _tunsmith(user, "--", "sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!")
    os.kill(int(result.stdout), signal.SIGKILL)
    assert result.returncode == 0


def test_last_words_of_the_program_arrive(user: User) -> None:
    """The program ends right behind its last write; what it wrote reaches the server all the same."""
    script = (
        "import socket; s = socket.create_connection(('192.0.2.1', 8000));"
        "s.sendall(bytes(1 << 20)); import os; os._exit(0)"
    )
    count = [
        "python3",
        "-c",
        (
            "import socket, subprocess, sys;"
            "server = socket.create_server(('192.0.2.1', 8000));"
            "child = subprocess.Popen(sys.argv[1:]);"
            "peer = server.accept()[0]; size = 0\n"
            "while data := peer.recv(65536): size += len(data)\n"
            "print(size)"
        ),
    ]
    command = [*count, *user.become(), *TUNSMITH, "--", sys.executable, "-c", script]
    assert run(on_machine(command, ROOT_USER, network=True)).stdout == f"{1 << 20}\n"


def test_closed_standard_descriptors_stay_closed_for_the_program(user: User) -> None:
    script = " ".join([*TUNSMITH, "--", "ls", "/proc/self/fd"]) + " <&- 2>&-"
    result = run(on_machine([*NEIGHBOURS, *user.become(), "sh", "-c", script], ROOT_USER, network=True))
    assert result.stdout.split() == ["0", "1"]  # 0 is the directory that ls reads


def test_capture_to_a_closed_standard_output_is_told_and_goes_nowhere(user: User) -> None:
    script = " ".join([*TUNSMITH, "--capture", "-", "--", "sh", "-c", "'echo started >&2'"]) + " >&-"
    result = run(on_machine([*user.become(), "sh", "-c", script], ROOT_USER))
    assert result.returncode == 0
    assert result.stderr == "tunsmith: the capture goes nowhere: standard output is closed\nstarted\n"


def test_run_within_run(user: User) -> None:
    result = _tunsmith(user, "--", *TUNSMITH, "--", *CURL)
    assert (result.returncode, result.stdout) == (0, GREETING.decode())


def test_capture_has_the_packets(user: User) -> None:
    script = " ".join([*TUNSMITH, "--capture", "/mnt/flows", "--", *CURL]) + ">/dev/null; cat /mnt/flows"
    disk = "mount -t tmpfs -o mode=1777 none /mnt"
    command = on_machine([*NEIGHBOURS, *user.become(), "sh", "-c", script], ROOT_USER, disk, network=True)
    capture = subprocess.run(command, capture_output=True, env=environment(), check=True).stdout
    assert capture.startswith(b"\x0a\x0d\x0d\x0a")
    assert capture.count(GREETING) == 1
