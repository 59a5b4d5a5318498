"""Machines that forbid something, made for real wherever this kernel can be made to."""

from __future__ import annotations

import errno
import os

import pytest

from tests.host.machine import USERS, User, launch, run
from tunsmith.host.knobs import why_no_namespace

ROOT_USER, ORDINARY_USER = USERS


def _refusal(user: User, prelude: str) -> str:
    """The one line that says why there is no sandbox; the program is not started."""
    result = run(launch(["echo", "started"], user, prelude))
    assert (result.returncode, result.stdout) == (125, "")
    (line,) = result.stderr.splitlines()
    return line


@pytest.mark.netns
def test_missing_tun_node_names_module_and_container_option(user: User) -> None:
    line = _refusal(user, "mount -t tmpfs none /dev/net")
    assert "/dev/net/tun is missing" in line
    assert "modprobe tun" in line
    assert "--device /dev/net/tun" in line


@pytest.mark.netns
def test_tun_node_closed_to_users_names_its_usual_mode() -> None:
    assert "chmod 0666 /dev/net/tun" in _refusal(ORDINARY_USER, "chmod 0600 /dev/net/tun")
    assert run(launch(["true"], ROOT_USER, "chmod 0600 /dev/net/tun")).returncode == 0


@pytest.mark.netns
def test_tun_node_without_a_driver_is_said_so(user: User) -> None:
    """As in a kernel without the module: no device answers to the number."""
    line = _refusal(user, "rm /dev/net/tun; mknod -m 666 /dev/net/tun c 10 1; chmod 666 /dev/net/tun")
    assert "modprobe tun" in line


@pytest.mark.netns
@pytest.mark.parametrize("kind", ["user", "net", "mnt"])
def test_namespaces_switched_off_names_the_sysctl(kind: str) -> None:
    """The limit of a nested user namespace, so that this machine's is not touched."""
    nested = ["unshare", "--user", "--map-root-user", "sh", "-c"]
    script = f'echo 0 > /proc/sys/user/max_{kind}_namespaces; exec "$@"'
    result = run([*nested, script, "sh", *launch(["true"], ROOT_USER)[-4:]])
    assert result.returncode == 125
    assert f"sysctl user.max_{kind}_namespaces=" in result.stderr


CHROOT = "mount --rbind / /mnt; mount --rbind /dev/net /mnt/dev/net\n"


def _chrooted(user: User, prelude: str = "") -> str:
    """The line in a chroot, where the kernel refuses user namespaces with EPERM, for no sysctl."""
    command = launch(["true"], user, CHROOT + prelude)
    at = command.index("sh", command.index("-c") + 2) + 1
    result = run([*command[:at], "chroot", "/mnt", *command[at:]], cwd="/")
    assert result.returncode == 125
    return result.stderr


@pytest.mark.netns
def test_refusal_without_a_sysctl_names_container_and_chroot(user: User) -> None:
    line = _chrooted(user)
    assert "container" in line
    assert "chroot" in line


@pytest.mark.netns
@pytest.mark.parametrize(
    ("name", "value"), [("apparmor_restrict_unprivileged_userns", "1"), ("unprivileged_userns_clone", "0")]
)
def test_refusal_names_the_sysctl_of_the_distribution(name: str, value: str) -> None:
    """Ubuntu's and Debian's kernels have these; here a file stands for each."""
    knob = f"mount -t tmpfs none /mnt/proc/sys/kernel; echo {value} > /mnt/proc/sys/kernel/{name}"
    assert f"sysctl kernel.{name}=" in _chrooted(ORDINARY_USER, knob)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS])
def test_kernel_without_user_namespaces_is_said_so(number: int) -> None:
    assert "CONFIG_USER_NS" in why_no_namespace(OSError(number, os.strerror(number)))


def test_unforeseen_error_keeps_its_own_words() -> None:
    assert why_no_namespace(OSError(errno.ENOMEM, "Cannot allocate memory")).endswith(
        "Cannot allocate memory"
    )
