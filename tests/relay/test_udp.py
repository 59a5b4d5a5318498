"""The UDP relay between a real stack and a scripted upstream port."""

from __future__ import annotations

import asyncio
import errno
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import cast

import pytest
import pytest_asyncio

from tests.inside import HERE, THERE
from tunsmith.config import Limits
from tunsmith.dial.base import DatagramFault, Datagrams, Dialer
from tunsmith.errors import DialError, DialProhibited, DialUnreachable, DialUnsupported
from tunsmith.flow import Action, Target, Verdict
from tunsmith.relay.flows import FlowBook
from tunsmith.relay.poller import Poller
from tunsmith.relay.report import FlowRecord
from tunsmith.relay.udp import UdpRelay
from tunsmith.relay.udp_mapping import UdpFlow
from tunsmith.stack.config import StackConfig
from tunsmith.stack.stack import Stack
from tunsmith.wire.icmp import ICMP, IcmpError
from tunsmith.wire.ip import IPV4, parse_ip
from tunsmith.wire.vnet import VNET_HDR_LEN

PEER = Target("192.0.2.7", 1000)
KEY = IPV4.key(HERE, 40000, THERE, 1000)


class ScriptedPort:
    """An upstream port: what it was given, and what it will give or raise."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.refuses: OSError | None = None
        self.arrived: deque[tuple[bytes, int, Target] | Exception] = deque()
        self.reported: list[DatagramFault] = []
        self.closed = False

    def fileno(self) -> int:
        return 1000

    def send(self, parts: list[bytes] | list[memoryview], segment_size: int, target: Target) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.sent.append(b"".join(parts))

    def receive(self) -> tuple[bytes, int, Target]:
        found = self.arrived.popleft() if self.arrived else BlockingIOError()
        if isinstance(found, Exception):
            raise found
        return found

    def faults(self) -> list[DatagramFault]:
        faults, self.reported = self.reported, []
        return faults

    def close(self) -> None:
        self.closed = True


class Scene:
    """Poller, dialer and listener of one relay, and a flow on it."""

    def __init__(self) -> None:
        self.port = ScriptedPort()
        self.fault: DialError | None = None
        """Why there is no port."""
        self.ended: list[FlowRecord] = []
        self.drops: Counter[str] = Counter()
        self.stack = Stack(StackConfig())
        book = FlowBook("test", None, self, self.drops, time.monotonic)
        self.relay = UdpRelay(
            asyncio.get_running_loop(),
            cast(Poller, self),
            self.stack,
            cast(Dialer, self),
            Limits(),
            book,
        )
        record = book.enter("udp", IPV4, KEY, PEER, Verdict(Action.DIAL, "via"))
        self.flow: UdpFlow
        self.flow, _ = self.relay.open(IPV4, KEY, PEER, record)

    async def open_datagrams(self, family: int) -> Datagrams:
        if self.fault is not None:
            raise self.fault
        return self.port

    def watch(self, fd: int, events: int, handler: Callable[[int], None]) -> None:
        self.ready = handler

    def forget(self, fd: int) -> None:
        pass

    def flow_ended(self, record: FlowRecord) -> None:
        self.ended.append(record)

    def notice(self, text: str) -> None:
        raise AssertionError(text)

    def send(self, data: bytes) -> None:
        self.relay.on_datagram(self.flow, memoryview(data), 0)
        self.relay.flush()

    def told(self) -> list[tuple[int, int]]:
        """ICMP errors for the application: type and code."""
        packets = [frame[VNET_HDR_LEN:] for frame in self.stack.frames_to_send()]
        messages = [packet[parse_ip(packet).header_length :] for packet in packets]
        return [ICMP.unpack_from(message)[:2] for message in messages]


@pytest_asyncio.fixture
async def scene() -> Scene:
    scene = Scene()
    await scene.relay.dial(scene.flow.mapping)
    return scene


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM])
async def test_datagram_lost_in_a_full_queue_is_counted_and_nobodys_fault(scene: Scene, code: int) -> None:
    scene.port.refuses = OSError(code, "")
    scene.send(b"lost")
    assert not scene.told()
    assert scene.drops == {"udp_upstream_full": 1}
    assert scene.flow.record.outcome == "open"


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (DialUnsupported("no UDP at all"), IcmpError.PORT),
        (DialProhibited("not for you"), IcmpError.PROHIBITED),
        (DialUnreachable("nowhere"), IcmpError.HOST),
    ],
)
async def test_port_that_cannot_be_opened_is_told_so_that_quic_falls_back(
    fault: DialError, told: IcmpError
) -> None:
    scene = Scene()
    scene.fault = fault
    scene.send(b"hello")
    await scene.relay.dial(scene.flow.mapping)
    assert scene.told() == [told.code(IPV4)]
    assert [record.outcome for record in scene.ended] == [f"{told.name.lower()} unreachable"]


async def test_port_that_fails_for_good_ends_and_the_next_datagram_gets_another(scene: Scene) -> None:
    """What came before is delivered; nobody asks it again and again."""
    scene.port.arrived += [(b"one", 0, PEER), OSError(errno.ENOMEM, "")]
    scene.ready(1)
    assert len(list(scene.stack.frames_to_send())) == 1
    assert scene.port.closed
    assert [record.outcome for record in scene.ended] == ["upstream failed"]
    assert not scene.relay.flows


async def test_datagram_that_cannot_leave_is_told_as_its_error(scene: Scene) -> None:
    scene.port.refuses = OSError(errno.ENETUNREACH, "")
    scene.send(b"nowhere")
    assert scene.told() == [IcmpError.NETWORK.code(IPV4)]
    assert scene.flow.record.outcome == "network unreachable"


async def test_answers_that_came_before_the_end_of_an_association_are_delivered(scene: Scene) -> None:
    scene.port.arrived += [(b"one", 0, PEER), (b"two", 0, PEER), EOFError()]
    scene.ready(1)
    [frame] = scene.stack.frames_to_send()
    assert frame.endswith(b"onetwo")
    assert scene.port.closed
    assert [record.outcome for record in scene.ended] == ["proxy closed the association"]


@pytest.mark.parametrize(
    ("kind", "told", "outcome"),
    [
        ((3, 3), (3, 3), "port unreachable"),
        ((3, 9), (3, 13), "prohibited unreachable"),
        ((3, 7), (3, 1), "host unreachable"),
        ((11, 0), (11, 0), "time exceeded"),
        ((3, 4), (3, 4), "open"),
        ((4, 0), None, "open"),
    ],
    ids=["port", "prohibited", "unknown host", "hops", "narrow path", "hint"],
)
async def test_icmp_error_of_the_upstream_is_told(
    scene: Scene, kind: tuple[int, int], told: tuple[int, int] | None, outcome: str
) -> None:
    scene.port.reported = [DatagramFault(PEER, 0, *kind, mtu=1280)]
    scene.ready(1)
    assert scene.told() == ([told] if told else [])
    assert scene.flow.record.outcome == outcome
