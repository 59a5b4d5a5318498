"""host/sysctl.py: switches by their path, and plain words where /proc/sys is read-only."""

from __future__ import annotations

import sys

import pytest

from tests.host.machine import USERS, on_machine, run
from tunsmith.host.sysctl import read_sysctl


def test_white_space_is_one_blank() -> None:
    found = read_sysctl("net/ipv4/tcp_rmem")
    assert found is not None
    assert [word.isdigit() for word in found.split(" ")] == [True, True, True]


def test_what_does_not_exist_is_none() -> None:
    assert read_sysctl("net/ipv4/conf/no-such-interface/rp_filter") is None


@pytest.mark.netns
def test_a_read_only_proc_sys_is_told_with_the_way_out() -> None:
    script = "from tunsmith.host.sysctl import set_sysctl\nset_sysctl('net/ipv4/ip_forward', '1')"
    prelude = "mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys"
    done = run(on_machine([sys.executable, "-B", "-c", script], USERS[0], prelude, network=True))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "tunsmith.errors.HostError: cannot set net/ipv4/ip_forward to 1: /proc/sys is read-only here, as in most "
        "containers: set it when the container is started, with `--sysctl net.ipv4.ip_forward=1`"
    )
