"""Upstreams, devices, reporters and handlers that fail."""

from __future__ import annotations

import asyncio
import errno
import time

import pytest

from tests.engine.bench import Bench, swept
from tests.inside import Upstream, until
from tunsmith.config import Publish, Settings
from tunsmith.device.memory import MemoryDevice
from tunsmith.engine import Engine
from tunsmith.errors import (
    DialError,
    DialRefused,
    ProxyAuthFailed,
    ProxyError,
    UsageError,
)
from tunsmith.relay.report import FlowRecord
from tunsmith.stack.events import Established


def caught(loop: asyncio.AbstractEventLoop) -> list[str]:
    """What is raised into `loop` from now on."""
    errors: list[str] = []
    loop.set_exception_handler(lambda _, context: errors.append(repr(context.get("exception"))))
    return errors


async def test_device_that_goes_away_is_told_of_once(bench: Bench) -> None:
    bench.inside.connect()
    await until(lambda: bench.upstream.streams)

    def gone(buffer: memoryview) -> int:
        raise OSError(errno.EBADFD, "File descriptor in bad state")

    bench.device.read = gone  # type: ignore[method-assign]
    bench.inside.send_datagram(b"?", 1000)
    await until(lambda: bench.notes.notices)
    assert not await bench.engine.drain(1.0, 1.0)
    bench.engine.close()
    bench.engine.close()
    assert bench.notes.notices == ["the TUN device is gone: File descriptor in bad state"]
    assert bench.notes.outcomes == ["stopped"]


async def test_reporter_that_raises_ends_neither_the_engine_nor_other_flows(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(record: FlowRecord) -> None:
        bench.notes.flows.append(record)
        raise BrokenPipeError("nobody reads any more")

    monkeypatch.setattr(bench.notes, "flow_ended", broken)
    first = bench.inside.connect(source_port=50000)
    await until(lambda: Established(first) in bench.inside.events)
    first.abort(time.monotonic())
    bench.inside.send_datagram(b"?", 1000)
    await until(lambda: bench.engine.udp.flows)
    await swept(bench, 31)
    assert len(bench.notes.flows) == 2
    assert bench.upstream.ports[0].closed
    second = bench.inside.connect(source_port=50001)
    await until(lambda: Established(second) in bench.inside.events)
    assert bench.engine.drops["report_failed"] == 2


async def test_fault_in_a_handler_costs_its_packet_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An OSError from the middle of a packet is not one of the device."""
    errors = caught(asyncio.get_running_loop())

    def broken(*_: object) -> None:
        monkeypatch.undo()
        raise OSError("a fault")

    monkeypatch.setattr(bench.engine.book, "enter", broken)
    bench.inside.connect(source_port=50000)
    second = bench.inside.connect(source_port=50001)
    await until(lambda: Established(second) in bench.inside.events)
    assert errors == ["OSError('a fault')"]
    assert not bench.notes.notices


async def test_however_many_packets_fail_the_device_is_read_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = caught(asyncio.get_running_loop())

    def broken(*_: object) -> None:
        raise ValueError("a fault")

    with monkeypatch.context() as broken_for_now:
        broken_for_now.setattr(bench.engine.book, "enter", broken)
        for port in range(100):
            bench.inside.connect(source_port=50000 + port)
        await until(lambda: len(errors) >= 100)
    connection = bench.inside.connect(source_port=40000)
    await until(lambda: Established(connection) in bench.inside.events)


@pytest.mark.parametrize("at_once", [True, False])
async def test_dialer_that_breaks_its_contract_is_a_failed_dial(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    async def fail(*_: object) -> None:
        raise ValueError("oops")

    def fail_at_once(*_: object) -> None:
        raise ValueError("oops")

    monkeypatch.setattr(bench.upstream, "begin", fail_at_once if at_once else fail)
    monkeypatch.setattr(bench.upstream, "open_datagrams", fail)
    connection = bench.inside.connect()
    await until(lambda: bench.inside.closed(connection))
    assert bench.inside.closed(connection) == [errno.EHOSTUNREACH]
    bench.inside.send_datagram(b"?", 1000)
    await until(lambda: len(bench.notes.flows) == 2)
    assert bench.notes.outcomes == ["error", "host unreachable"]
    assert bench.notes.notices == ["192.0.2.7:80: the upstream failed: ValueError('oops')"]


@pytest.mark.parametrize("publish", [(), (Publish("192.0.2.1", 1, 1),)], ids=["upstream", "published port"])
async def test_engine_that_cannot_start_is_closed(
    monkeypatch: pytest.MonkeyPatch, publish: tuple[Publish, ...]
) -> None:
    class Broken(Upstream):
        closed = 0

        async def start(self) -> None:
            if not publish:
                raise ProxyError("the proxy is down")

        def close(self) -> None:
            self.closed += 1

    upstream = Broken()
    ours, theirs = MemoryDevice.pair()
    engine = Engine(ours, upstream, Settings(publish=publish))
    with pytest.raises((ProxyError, UsageError)):
        await engine.start()
    assert upstream.closed == 1
    assert ours.fileno() == -1
    engine.close()
    theirs.close()


async def test_broken_upstream_is_told_of_once_a_minute_and_kind(bench: Bench) -> None:
    """A scan would else fill the terminal. What one destination does is nobody's business."""

    async def try_with(error: DialError) -> None:
        bench.upstream.fail = error
        ended = len(bench.notes.flows)
        bench.inside.connect(source_port=50000 + ended)
        await until(lambda: len(bench.notes.flows) > ended)

    await try_with(ProxyError("the proxy is down"))
    await try_with(ProxyError("the proxy is down"))
    await try_with(DialRefused("192.0.2.7 refuses"))
    assert bench.notes.notices == ["the proxy is down"]
    await try_with(ProxyAuthFailed("wrong password"))
    await try_with(DialError("out of file descriptors"))
    assert bench.notes.notices == ["the proxy is down", "wrong password", "out of file descriptors"]
    bench.clock.ahead += 61
    await try_with(ProxyError("the proxy is down again"))
    assert bench.notes.notices[3:] == ["the proxy is down again"]


async def test_broken_upstream_is_told_of_for_datagrams_too(bench: Bench) -> None:
    bench.upstream.fail = DialError("out of file descriptors")
    bench.inside.send_datagram(b"?", 1000)
    await until(lambda: bench.notes.notices)
    assert bench.notes.notices == ["out of file descriptors"]
    assert not bench.engine.udp.mappings
