from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from tests.host.launch import RESOLV_CONF
from tests.host.machine import User, launch, on_machine, run
from tunsmith.config import Network
from tunsmith.host.sandbox import Sandbox

pytestmark = pytest.mark.netns

# What a program can tell about itself; the same with and without a sandbox.
SELF_PORTRAIT = """
import json, os, resource, signal, sys
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines())
os.close(0)
print(json.dumps({
    "ids": [os.getresuid(), os.getresgid(), os.getgroups()],
    "cwd": os.getcwd(),
    "environment": dict(os.environ),
    "umask": os.umask(0),
    "argv": sys.argv[1:],
    "descriptors": sorted(os.listdir("/proc/self/fd")),
    "limits": resource.getrlimit(resource.RLIMIT_NOFILE),
    "signals": [status["SigBlk"], status["SigIgn"]],
    "group is that of the session": os.getpgrp() == os.getsid(0),
}))
"""


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("exit 0", 0),
        ("exit 7", 7),
        ("kill -KILL $$", 128 + signal.SIGKILL),
        ("kill -TERM $$", 128 + signal.SIGTERM),
        ("kill -PIPE $$", 128 + signal.SIGPIPE),
    ],
)
def test_exit_code_is_that_of_the_program_or_128_and_the_signal(user: User, script: str, code: int) -> None:
    assert run(launch(["sh", "-c", script], user)).returncode == code


def test_program_not_found_is_127(user: User) -> None:
    result = run(launch(["no-such-program"], user))
    assert (result.returncode, result.stderr) == (127, "tunsmith: no-such-program: command not found\n")


@pytest.mark.parametrize("what", ["/etc/passwd", "/etc"])
def test_program_not_executable_is_126(user: User, what: str) -> None:
    result = run(launch([what], user))
    assert (result.returncode, result.stderr) == (126, f"tunsmith: {what}: Permission denied\n")


def test_program_is_found_along_path_and_a_script_without_interpreter_goes_to_the_shell(
    user: User, tmp_path: Path
) -> None:
    script = tmp_path / "greet"
    script.write_text('echo "hello $1"\n')
    script.chmod(0o755)
    reachable = f"mount -t tmpfs none /srv; cp {script} /srv; chmod 755 /srv /srv/greet"
    result = run(launch(["env", "PATH=/usr/bin:/bin:/srv", "sh", "-c", "exec greet you"], user, reachable))
    assert result.stdout == "hello you\n"


def test_program_keeps_everything_it_was_given(user: User, tmp_path: Path) -> None:
    portrait = [sys.executable, "-B", "-c", SELF_PORTRAIT, "a", "b c", ""]
    with open(tmp_path / "given", "w") as given:
        options = {"pass_fds": [given.fileno()], "cwd": "/usr", "umask": 0o027}
        without = run(on_machine(portrait, user), **options)
        within = run(launch(portrait, user), **options)
    assert within.stderr == ""
    assert json.loads(within.stdout) == json.loads(without.stdout)


def test_standard_streams_go_through(user: User) -> None:
    result = run(launch(["sh", "-c", "cat; echo oops >&2"], user), input="through\n")
    assert (result.stdout, result.stderr) == ("through\n", "oops\n")


def test_only_ways_out_are_loopback_and_the_tun(user: User) -> None:
    addresses = json.loads(run(launch(["ip", "-json", "address"], user)).stdout)
    assert {link["ifname"]: [a["local"] for a in link["addr_info"]] for link in addresses} == {
        "lo": ["127.0.0.1", "::1"],
        "tun0": ["198.18.0.1", "2001:2::1"],
    }
    assert [link["mtu"] for link in addresses if link["ifname"] == "tun0"] == [1500]
    for family in ("-4", "-6"):
        routes = json.loads(run(launch(["ip", "-json", family, "route"], user)).stdout)
        assert [route["dev"] for route in routes if route["dst"] == "default"] == ["tun0"]


def test_loopback_works_inside(user: User) -> None:
    script = (
        "import socket\n"
        "for host in '127.0.0.1', '::1':\n"
        "    family = socket.AF_INET6 if ':' in host else socket.AF_INET\n"
        "    server = socket.create_server((host, 80), family=family)\n"
        "    socket.create_connection((host, 80)).close()\n"
    )
    assert run(launch([sys.executable, "-c", script], user)).returncode == 0


def test_ping_sockets_are_open_to_the_program(user: User) -> None:
    script = "import socket as s; s.socket(s.AF_INET, s.SOCK_DGRAM, s.IPPROTO_ICMP)"
    assert run(launch([sys.executable, "-c", script], user)).returncode == 0


def test_root_may_become_another_user_inside_as_apt_does() -> None:
    user = User("root", 0)
    result = run(launch(["setpriv", "--reuid=42", "--regid=65534", "--clear-groups", "id", "-u"], user))
    assert (result.stdout, result.stderr) == ("42\n", "")


async def test_frames_of_the_program_arrive_on_the_descriptor_we_hold() -> None:
    script = (
        "import socket; client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
        "client.sendto(b'payload', ('203.0.113.9', 9))"
    )
    sandbox = Sandbox.spawn([sys.executable, "-c", script], Network(), RESOLV_CONF)
    try:
        sandbox.ready()
        assert not os.get_inheritable(sandbox.tun_fd)
        sandbox.release()
        assert await sandbox.wait() == 0
        frame = os.read(sandbox.tun_fd, 1 << 16)
        os.close(sandbox.tun_fd)
    finally:
        sandbox.close()
    header, packet = frame[:10], frame[10:]
    assert header[0] & 1  # NEEDS_CSUM: left to us
    assert packet[12:20] == bytes([198, 18, 0, 1, 203, 0, 113, 9])
    assert packet.endswith(b"payload")


def test_network_ends_with_its_holder_even_by_sigkill(user: User) -> None:
    """The program lives on, its TUN does not."""
    script = "kill -KILL $PPID; while ip link show tun0 >/dev/null 2>&1; do :; done; ip -4 route; echo gone"
    result = run(launch(["sh", "-c", script], user))
    assert (result.returncode, result.stdout) == (-signal.SIGKILL, "gone\n")


def test_background_children_do_not_hold_up_the_end(user: User) -> None:
    script = "sleep 1000 >/dev/null 2>&1 & echo $!; exit 3"
    result = run(launch(["sh", "-c", script], user))
    os.kill(int(result.stdout), signal.SIGKILL)
    assert result.returncode == 3


def test_nothing_is_left_on_the_machine(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """A namespace that nobody mounted lives as long as somebody is in it."""
    node = os.stat("/dev/net/tun")
    monkeypatch.setenv("STARTED_BY", mark := uuid4().hex)
    assert run(launch(["printenv", "STARTED_BY"], user)).stdout == f"{mark}\n"
    assert not _processes_with(mark)
    assert "tunsmith" not in Path("/proc/self/mountinfo").read_text()
    assert "tun0" not in os.listdir("/sys/class/net")
    assert os.stat("/dev/net/tun") == node


def _processes_with(mark: str) -> list[str]:
    """The command lines of all processes that were given `mark` in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().decode())
        except OSError:  # it has just ended
            continue
    return found
