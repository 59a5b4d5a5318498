"""Programs people use, unchanged, each against the real server it was made for."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.netns import ports
from tests.netns.caller import Caller
from tests.netns.pattern import blocks
from tests.netns.static_programs import StaticPrograms
from tests.netns.topology import SERVER

pytestmark = pytest.mark.netns

HOSTS = [SERVER[4], f"[{SERVER[6]}]", "both.example.test"]
HELLO = "hello from S\n"
SSH_OPTIONS = (
    "-F/dev/null", "-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null", "-oLogLevel=ERROR",
    "-oBatchMode=yes",
)  # fmt: skip
MEDIUM = 20 << 20


def ssh_key(caller: Caller) -> str:
    return f"-i{caller.topology.files}/ssh/user"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("host", HOSTS)
def test_curl(caller: Caller, host: str) -> None:
    done = caller.run("curl", "-sS", f"http://{host}/")
    assert (done.returncode, done.stdout, done.stderr) == (0, HELLO, "")


def test_wget(caller: Caller) -> None:
    done = caller.run("wget", "-q", "-O-", "http://www.example.test/", f"http://[{SERVER[6]}]/")
    assert (done.returncode, done.stdout, done.stderr) == (0, HELLO * 2, "")


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("program", ["glibc", "musl", "go"])
def test_statically_linked_program(
    caller: Caller, static_programs: StaticPrograms, program: str, host: str
) -> None:
    """Nothing is preloaded into programs, so those that cannot be preloaded into work as well, each with the
    resolver it was linked with."""
    done = caller.run(*static_programs.fetch(program, host))
    assert (done.returncode, done.stdout.endswith(HELLO)) == (0, True), done


def test_python_urllib(caller: Caller) -> None:
    script = (
        "import urllib.request as r; print(r.urlopen('http://www.example.test/').read().decode(), end='')"
    )
    done = caller.run(sys.executable, "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (0, HELLO, "")


def test_python_asyncio(caller: Caller) -> None:
    script = (
        "import asyncio\n"
        "async def fetch(host):\n"
        "    reader, writer = await asyncio.open_connection(host, 80)\n"
        "    writer.write(b'GET / HTTP/1.0\\r\\n\\r\\n')\n"
        "    answer = await reader.read()\n"
        "    writer.close()\n"
        "    return answer.endswith(b'hello from S\\n')\n"
        "async def main():\n"
        f"    hosts = ['{SERVER[4]}', '{SERVER[6]}', 'www.example.test'] * 10\n"
        "    print(all(await asyncio.gather(*map(fetch, hosts))))\n"
        "asyncio.run(main())\n"
    )
    done = caller.run(sys.executable, "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


@pytest.mark.parametrize("scheme", ["git", "http", "ssh"])
def test_git_clone(caller: Caller, scheme: str) -> None:
    if scheme == "ssh":
        url = f"ssh://root@www.example.test:{ports.SSH}{caller.topology.files}/web/project.git"
    else:
        url = f"{scheme}://www.example.test/project.git"
    ssh = " ".join(["ssh", ssh_key(caller), *SSH_OPTIONS])
    clone = caller.home / "clone"
    done = caller.run("git", "-c", f"core.sshCommand={ssh}", "clone", "-q", url, str(clone))
    assert (done.returncode, done.stderr) == (0, "")
    assert (clone / "data").read_bytes() == b"".join(blocks(3 << 20))


def test_ssh_command_and_its_exit_code(caller: Caller) -> None:
    remote = ["root@www.example.test", "cat; echo $SSH_CONNECTION; exit 23"]
    port = f"-p{ports.SSH}"
    done = caller.run("ssh", ssh_key(caller), *SSH_OPTIONS, port, *remote, stdin="through\n")
    assert done.returncode == 23, done.stderr
    words = done.stdout.split()
    assert (words[0], words[1], words[3:]) == ("through", "10.81.1.2", [SERVER[4], str(ports.SSH)])


def test_scp_both_ways(caller: Caller) -> None:
    sent, back = caller.home / "sent", caller.home / "back"
    sent.write_bytes(b"".join(blocks(MEDIUM)))
    there = f"scp://root@www.example.test:{ports.SSH}/{caller.topology.files}/scp-{caller.home.name}"
    scp = f"scp -q {ssh_key(caller)} {' '.join(SSH_OPTIONS)}"
    done = caller.run("sh", "-c", f"{scp} {sent} {there} && {scp} {there} {back}")
    assert (done.returncode, done.stderr) == (0, "")
    assert sha256(back) == sha256(sent)


def test_pip_download(caller: Caller) -> None:
    done = caller.run(
        sys.executable, "-m", "pip", "download", "-q", "--no-cache-dir", "--disable-pip-version-check",
        "--index-url", "http://www.example.test/simple/", "--trusted-host", "www.example.test",
        "--dest", str(caller.home / "wheels"), "greeting",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in (caller.home / "wheels").iterdir()] == ["greeting-1.0-py3-none-any.whl"]


def test_apt_get_update(caller: Caller) -> None:
    state = caller.home / "apt"
    sources = caller.home / "sources.list"
    sources.write_text("deb [trusted=yes] http://www.example.test/apt ./\n")
    options = {
        "Dir::State": state / "state", "Dir::Cache": state / "cache", "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "/dev/null", "Dir::State::status": "/dev/null", "APT::Sandbox::User": "",
        "Acquire::GzipIndexes": "false",
        "Dir::Etc::main": "/dev/null", "Dir::Etc::parts": "/dev/null",
    }  # fmt: skip
    words = [f"-o{key}={value}" for key, value in options.items()]
    done = caller.run(
        "sh", "-c", 'mkdir -p "$1/state/lists/partial" "$1/cache/archives/partial"; shift; exec "$@"', "sh",
        str(state), "apt-get", *words, "update",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "http://www.example.test/apt ./ Packages" in done.stdout
    assert any("Package: greeting" in path.read_text() for path in state.glob("state/lists/*_Packages"))


@pytest.mark.parametrize("option", ["+notcp", "+tcp"])
@pytest.mark.parametrize("server", [[], [f"@{SERVER[4]}"], [f"@{SERVER[6]}"]], ids=["own", "v4", "v6"])
def test_dig(caller: Caller, server: list[str], option: str) -> None:
    done = caller.run("dig", *server, option, "+short", "both.example.test", "A", "both.example.test", "AAAA")
    assert (done.returncode, done.stdout.split()) == (0, list(SERVER.values())), done.stderr


def test_fork_tree(caller: Caller) -> None:
    """Descendants are behind tunsmith, too, also those that have left the session."""
    both = f"(curl -sS http://{SERVER[4]}/ & curl -sS http://[{SERVER[6]}]/ & wait)"
    script = f"for n in 1 2 3 4; do (setsid sh -c '{both}' & wait) & done; wait"
    done = caller.run("sh", "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (0, HELLO * 8, "")


@pytest.mark.parametrize("options", ["--parallel=2", "--reverse"])
@pytest.mark.parametrize("family", [4, 6])
def test_iperf3(caller: Caller, options: str, family: int) -> None:
    received = iperf3(caller, family, "--bytes=50M", options)["sum_received"]
    # It stops when it has sent so much, whatever is still on the way.
    assert received["bytes"] > 20 << 20


@pytest.mark.parametrize("options", [[], ["--reverse"]], ids=["up", "down"])
@pytest.mark.parametrize("family", [4, 6])
def test_iperf3_with_datagrams(caller: Caller, options: list[str], family: int) -> None:
    received = iperf3(caller, family, "--udp", "--bitrate=20M", "--bytes=4M", *options)["sum"]
    # A machine that is busy elsewhere for a tenth of a second loses some; a path that loses is another matter.
    assert received["bytes"] > 3 << 20
    assert received["lost_percent"] < 20


def iperf3(caller: Caller, family: int, *options: str) -> dict[str, Any]:
    """What it reports at its end."""
    caller.captures = False
    where = ["--client", SERVER[family], f"--port={ports.IPERF}"]
    done = caller.run("iperf3", "--json", *where, *options)
    report = json.loads(done.stdout)
    assert done.returncode == 0, report.get("error")
    end: dict[str, Any] = report["end"]
    return end


def test_root_may_use_it_as_well(caller: Caller) -> None:
    caller.user = 0
    done = caller.run("curl", "-sS", "http://www.example.test/")
    assert (done.returncode, done.stdout, done.stderr) == (0, HELLO, "")
