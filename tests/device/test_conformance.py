from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.device import rigs
from tunsmith.testing.conformance import CHECKS, Rig, check_device
from tunsmith.wire.packet_info import BSD4, LINUX4, NONE, PacketInfo, bsd4, offset

ROOT = Path(__file__).parents[2]
each = pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))


@each
def test_memory(check: Callable[[Rig], None]) -> None:
    with rigs.memory() as rig:
        check(rig)


@each
def test_captured(check: Callable[[Rig], None], tmp_path: Path) -> None:
    with rigs.captured(tmp_path / "capture") as rig:
        check(rig)


@each
def test_delayed(check: Callable[[Rig], None]) -> None:
    with rigs.delayed() as rig:
        check(rig)


@each
def test_frames_over_sockets(check: Callable[[Rig], None]) -> None:
    with rigs.frames_over_sockets() as rig:
        check(rig)


@each
@pytest.mark.parametrize("info", [NONE, LINUX4, BSD4, bsd4(28), offset(7)], ids=repr)
def test_packets_over_sockets(info: PacketInfo, check: Callable[[Rig], None]) -> None:
    with rigs.packets_over_sockets(info) as rig:
        check(rig)


@each
@pytest.mark.parametrize("pipes", [True, False], ids=["pipes", "socket"])
@pytest.mark.parametrize(
    "options", [{}, {"packet_info": BSD4}, {"vnet_header": True}, {"mtu": 9000}], ids=repr
)
def test_stream(options: dict[str, Any], pipes: bool, check: Callable[[Rig], None]) -> None:
    with rigs.stream(pipes, **options) as rig:
        check(rig)


@each
@pytest.mark.parametrize("options", [{}, {"packet_info": LINUX4}, {"vnet_header": True}], ids=repr)
def test_objects(options: dict[str, Any], check: Callable[[Rig], None]) -> None:
    with rigs.objects(**options) as rig:
        check(rig)


def test_all_at_once() -> None:
    check_device(rigs.memory)


@pytest.mark.netns
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare(1)")
@pytest.mark.parametrize("kind", rigs.INTERFACES)
def test_interface(kind: str) -> None:
    result = subprocess.run(
        ["unshare", "--net", sys.executable, "-B", "-m", "tests.device.rigs", kind],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.stdout, result.stderr) == ("conforms\n", "")
