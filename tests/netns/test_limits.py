"""Bounds: flows that can go on go on, and what is wrong is said in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.netns import ports
from tests.netns.caller import CLIENT, Caller
from tests.netns.test_transfers import resident
from tests.netns.topology import BLACK_HOLE, SERVER

pytestmark = pytest.mark.netns


def test_oldest_idle_flow_makes_room(caller: Caller) -> None:
    """Ten connections where eight may be: the first ones are reset, the last ones live."""
    script = (
        "import socket\n"
        f"socks = [socket.create_connection(('{SERVER[4]}', {ports.ECHO})) for _ in range(8)]\n"
        "for sock in socks[4:] + socks[:4]:\n"
        "    sock.sendall(b'x')\n"
        "    assert sock.recv(1) == b'x'\n"
        f"socks += [socket.create_connection(('{SERVER[4]}', {ports.ECHO})) for _ in range(2)]\n"
        "alive = []\n"
        "for number, sock in enumerate(socks):\n"
        "    try:\n"
        "        sock.sendall(b'y')\n"
        "        alive.append(sock.recv(1) == b'y')\n"
        "    except ConnectionResetError:\n"
        "        alive.append(False)\n"
        "print(*[number for number, lives in enumerate(alive) if lives])\n"
    )
    done = caller.run(CLIENT[0], "-c", script, options=["--max-flows", "8"])
    assert (done.stdout.split(), done.stderr) == (list("01236789"), "")


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_datagram_flows_are_flows(caller: Caller) -> None:
    """A program that asks from a thousand ports costs no more descriptors than it may."""
    script = (
        "import socket, sys\n"
        "for _ in range(1000):\n"
        "    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "    sock.settimeout(10)\n"
        f"    sock.sendto(b'?', ('{SERVER[4]}', {ports.WHO}))\n"
        "    assert sock.recv(100)\n"
        "print('asked', flush=True)\n"
        "sys.stdin.readline()\n"
    )
    with caller.running(CLIENT[0], "-c", script, options=["--max-flows", "64"]) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "asked\n"
        assert descriptors(process.pid) < 64 + 32
        process.stdin.close()
        assert process.wait() == 0


def test_silent_hosts_do_not_hide_the_others(caller: Caller) -> None:
    """Of connection attempts that were given up nothing is heard; new ones still get through."""
    script = (
        "import socket\n"
        "for port in range(1, 1501):\n"
        "    with socket.socket() as sock:\n"
        "        sock.setblocking(False)\n"
        f"        sock.connect_ex(('{BLACK_HOLE[4]}', port))\n"
        f"print(socket.create_connection(('{SERVER[4]}', {ports.WHO}), 10).recv(100) != b'')\n"
    )
    done = caller.run(CLIENT[0], "-c", script)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_few_descriptors(caller: Caller) -> None:
    """With `ulimit -n 256` flows that are open go on, those beyond are refused, and a line says why."""
    caller.extra = "ulimit -n 256"
    script = (
        "import resource, socket, time\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)\n"
        "socks, errors = [], set()\n"
        "for _ in range(250):\n"
        "    try:\n"
        f"        socks.append(socket.create_connection(('{SERVER[4]}', {ports.ECHO}), 10))\n"
        "    except OSError as error:\n"
        "        errors.add(error.errno)\n"
        "for sock in socks:\n"
        "    sock.sendall(b'x')\n"
        "print(sum(sock.recv(1) == b'x' for sock in socks) == len(socks) > 200, errors)\n"
        "for sock in socks: sock.close()\n"
        "until = time.monotonic() + 10\n"
        "while time.monotonic() < until:\n"
        "    try:\n"
        f"        socket.create_connection(('{SERVER[4]}', {ports.WHO}), 10).close()\n"
        "        break\n"
        "    except OSError: pass\n"
        "print(time.monotonic() < until)\n"
    )
    done = caller.run(CLIENT[0], "-c", script)
    assert done.stdout == "True {113}\nTrue\n", done
    [line] = done.stderr.splitlines()
    assert line.startswith("tunsmith: ")
    assert "out of file descriptors (the limit is 256); raise it with `ulimit -n`" in line


@pytest.mark.parametrize("count", [1000, pytest.param(5000, marks=pytest.mark.slow)])
def test_many_idle_flows_and_one_that_works(caller: Caller, count: int) -> None:
    caller.captures = False
    caller.extra = "ulimit -n 16384"
    script = (
        "import socket, sys\n"
        f"idle = [socket.create_connection(('{SERVER[4]}', {ports.ECHO})) for _ in range({count})]\n"
        f"print(socket.create_connection(('{SERVER[4]}', {ports.WHO})).recv(100) != b'', flush=True)\n"
        "sys.stdin.readline()\n"
        "for sock in idle: sock.sendall(b'x')\n"
        "print(all(sock.recv(1) == b'x' for sock in idle))\n"
    )
    with caller.running(CLIENT[0], "-c", script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        assert resident(process.pid) < 120 << 20
        assert process.communicate("go on\n", 60) == ("True\n", "")


def test_full_disk_ends_the_capture_and_nothing_else(caller: Caller) -> None:
    """The file holds whole blocks up to there."""
    caller.captures = False
    place = caller.home / "small"
    place.mkdir()
    caller.extra = f"mount -t tmpfs -o size=256k,mode=1777 none {place}"
    script = 'curl -sS "$0/big" | wc -c; tcpdump -nr "$1" 2>&1 | grep -c "IP 198.18"; ls -l "$1" >&2'
    file = str(place / "run.pcapng")
    done = caller.run("sh", "-c", script, f"http://{SERVER[4]}", file, options=["--capture", file])
    whole, packets = map(int, done.stdout.split())
    assert whole == 100 << 20
    assert packets > 3
    complaints = [line for line in done.stderr.splitlines() if line.startswith("tunsmith: ")]
    assert len(complaints) == 1
    assert "No space left on device" in complaints[0]
