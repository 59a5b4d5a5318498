"""The stream link and a program that speaks its format: passt, which gives virtual machines a network."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.links.conftest import ROOT, output
from tests.netns.servers import eventually
from tests.netns.topology import Namespace

pytestmark = pytest.mark.netns

PASST = (
    "passt --foreground --one-off --interface v0 --address 10.5.0.2 --netmask 24 --gateway 10.5.0.1 "
    "--gateway fd05::1 --address fd05::2 --runas 0:0 --quiet --socket"
)


@pytest.mark.skipif(not (shutil.which("passt") and shutil.which("socat")), reason="needs passt and socat")
def test_our_stack_in_the_place_of_a_virtual_machine(
    namespaces: tuple[Namespace, Namespace], tmp_path: Path
) -> None:
    machine, _ = namespaces
    for words in (
        "link add v0 type veth peer name v1",
        "link set v1 up",
        "link set v0 up",
        "address add 10.5.0.2/24 dev v0",
        "address add fd05::2/64 dev v0 nodad",
        "route add default via 10.5.0.1 dev v0",
        "-6 route add default via fd05::1 dev v0",
    ):
        machine.run("ip", *words.split())
    path = tmp_path / "passt"
    echo = "socat TCP6-LISTEN:9999,ipv6only=0,fork,reuseaddr EXEC:cat"
    with (
        subprocess.Popen(machine.command(echo.split())) as server,
        subprocess.Popen(machine.command([*PASST.split(), str(path)]), stderr=subprocess.PIPE) as passt,
    ):
        try:
            eventually(lambda: machine.listens(9999) and path.exists(), "servers")
            guest = [
                sys.executable,
                "-B",
                "-m",
                "tests.links.guest",
                str(path),
                "10.5.0.1",
                "fd05::1",
                "9999",
            ]
            assert output(machine, "env", f"PYTHONPATH={ROOT / 'src'}:{ROOT}", *guest) == "True True\n"
        finally:
            server.kill()
            passt.kill()
