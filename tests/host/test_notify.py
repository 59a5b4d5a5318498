"""sd_notify, as a service manager hears it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunsmith.host.notify import Notify


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """The manager's socket, and what it is called in NOTIFY_SOCKET."""
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        if request.param == "path":
            sock.bind(name)
            yield sock, name
        else:
            sock.bind("\0" + name)
            yield sock, "@" + name


def test_facts_are_lines_of_one_message(manager: tuple[socket.socket, str]) -> None:
    sock, name = manager
    notify = Notify({"NOTIFY_SOCKET": name})
    assert notify.listens
    notify.say(READY=1, STATUS="a\nb")
    assert sock.recv(4096) == b"READY=1\nSTATUS=a b"
    notify.close()


def test_without_a_manager_nothing_is_said() -> None:
    notify = Notify({})
    assert not notify.listens
    notify.say(READY=1)
    notify.close()


def test_manager_that_has_gone_does_no_harm(tmp_path: Path) -> None:
    notify = Notify({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    notify.say(READY=1)
    notify.close()
    notify.say(READY=1)


class Loop(asyncio.SelectorEventLoop):
    """Remembers timers instead of waiting for them."""

    delays: list[float]

    def call_later(self, delay, callback, *args, context=None):  # type: ignore[override]
        self.delays.append(delay)
        return super().call_later(3600, callback, *args)


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    loop.delays = []
    yield loop
    loop.close()


def test_watchdog_hears_of_the_loop_twice_in_its_interval(
    manager: tuple[socket.socket, str], loop: Loop
) -> None:
    sock, name = manager
    notify = Notify({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())})
    notify.watch(loop)
    assert sock.recv(4096) == b"WATCHDOG=1"
    assert loop.delays == [1.5]
    notify.close()


@pytest.mark.parametrize(
    "environment", [{}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}]
)
def test_watchdog_of_nobody_or_of_another_process_is_left_alone(
    environment: dict[str, str], loop: Loop
) -> None:
    notify = Notify(environment)
    notify.watch(loop)
    assert loop.delays == []
    notify.close()
