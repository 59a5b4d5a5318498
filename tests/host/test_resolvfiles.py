"""Name services that could let a question escape, and machines with unusual /etc and /run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.host.launch import RESOLV_CONF
from tests.host.machine import EMPTY_RUN, USERS, WRITABLE_ETC, User, launch, on_machine, run, sandboxed
from tests.host.name_services import SOCKETS
from tunsmith.host.resolvfiles import only_files_and_dns

ROOT_USER = USERS[0]
NAME_SERVICES = Path(__file__).with_name("name_services.py")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("hosts: files dns\n", "hosts: files dns\n"),
        ("hosts:\t\tfiles resolve [!UNAVAIL=return] dns\n", "hosts: files dns\n"),
        (
            "passwd: files\n  hosts : mdns4_minimal\nnetworks: files",
            "passwd: files\nhosts: files dns\nnetworks: files",
        ),
        ("# hosts: nis\nhostsx: nis\n", "# hosts: nis\nhostsx: nis\n"),
        ("", ""),
    ],
)
def test_only_the_hosts_line_is_rewritten(before: str, after: str) -> None:
    assert only_files_and_dns(before) == after


@pytest.mark.netns
def test_resolver_is_ours_and_the_real_files_stay(user: User) -> None:
    real = Path("/etc/resolv.conf").read_bytes(), Path("/etc/nsswitch.conf").read_bytes()
    result = run(launch(["cat", "/etc/resolv.conf"], user))
    assert result.stdout == RESOLV_CONF
    result = run(launch(["grep", "^hosts", "/etc/nsswitch.conf"], user))
    assert result.stdout == "hosts: files dns\n"
    assert real == (Path("/etc/resolv.conf").read_bytes(), Path("/etc/nsswitch.conf").read_bytes())


@pytest.mark.netns
@pytest.mark.parametrize(
    "etc",
    [
        pytest.param("rm -f /etc/resolv.conf", id="missing"),
        pytest.param("ln -sf ../run/gone/resolv.conf /etc/resolv.conf", id="dangling-link"),
        pytest.param(
            "ln -sf /run/netconfig /etc/resolv.conf; echo nameserver 9.9.9.9 > /run/netconfig", id="link"
        ),
        pytest.param(
            "mkdir -p /run/systemd/resolve; cd /run/systemd/resolve;"
            "echo nameserver 127.0.0.53 > stub-resolv.conf;"
            "ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf",
            id="systemd-resolved",
        ),
        pytest.param(
            "mkdir -m 700 /run/private; echo nameserver 9.9.9.9 > /run/private/resolv.conf;"
            "ln -sf /run/private/resolv.conf /etc/resolv.conf",
            id="unreachable",
        ),
        pytest.param("rm -f /etc/resolv.conf; mkfifo /etc/resolv.conf", id="pipe"),
        pytest.param("rm -f /etc/resolv.conf; mkdir /etc/resolv.conf", id="directory"),
        pytest.param("rm -f /etc/nsswitch.conf", id="no-nsswitch"),
    ],
)
def test_resolver_is_ours_however_etc_is_laid_out(user: User, etc: str) -> None:
    result = run(launch(["cat", "/etc/resolv.conf", "/etc/hosts"], user, WRITABLE_ETC + EMPTY_RUN + etc))
    assert result.stdout == RESOLV_CONF + Path("/etc/hosts").read_text()


@pytest.mark.netns
def test_forbidden_mounts_name_the_container_option() -> None:
    script = "from tunsmith.host.resolvfiles import hide_name_service; hide_name_service('')"
    result = run(on_machine([sys.executable, "-B", "-c", script], USERS[1]))
    assert "HostError: mounts are forbidden here" in result.stderr
    assert "apparmor=unconfined" in result.stderr


@pytest.mark.netns
def test_files_are_readable_to_everyone_whatever_the_umask() -> None:
    etc = WRITABLE_ETC + "rm -f /etc/resolv.conf; umask 077"
    another = ["setpriv", "--reuid=42", "--regid=42", "--clear-groups"]
    result = run(launch([*another, "cat", "/etc/resolv.conf"], ROOT_USER, etc))
    assert (result.stdout, result.stderr) == (RESOLV_CONF, "")


@pytest.mark.netns
def test_sockets_of_name_services_are_out_of_reach(user: User) -> None:
    serve = [sys.executable, "-B", str(NAME_SERVICES), "serve", *user.become()]
    knock = [sys.executable, "-B", str(NAME_SERVICES), "knock"]
    outside = run(on_machine([*serve, *knock], ROOT_USER, EMPTY_RUN))
    inside = run(on_machine([*serve, *sandboxed(knock)], ROOT_USER, EMPTY_RUN))
    assert outside.stdout.splitlines() == [f"answers {path}" for path in SOCKETS]
    assert inside.stdout.splitlines() == [f"silent {path}" for path in SOCKETS]


@pytest.mark.netns
def test_ssh_takes_included_settings_of_root(user: User) -> None:
    """With one id mapped they would belong to nobody: "Bad owner or permissions"."""
    include = WRITABLE_ETC + (
        f"echo tester:x:{user.uid}:{user.uid}::/:/bin/sh >> /etc/passwd; rm -f /etc/ssh/ssh_config.d/*;"
        "printf 'Host there\\n  Port 2222\\n' > /etc/ssh/ssh_config.d/10-there.conf"
    )
    result = run(launch(["ssh", "-G", "there"], user, include))
    assert "Bad owner" not in result.stderr
    assert "port 2222" in result.stdout.splitlines()
