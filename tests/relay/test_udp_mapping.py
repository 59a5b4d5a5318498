"""Whom an answer belongs to, and from whom the application is to have it."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.inside import HERE, THERE
from tunsmith.flow import Target
from tunsmith.relay import udp_mapping
from tunsmith.relay.report import FlowRecord
from tunsmith.relay.udp_mapping import UdpFlow, UdpMapping
from tunsmith.wire.ip import IPV4

SOURCE = HERE + (40000).to_bytes(2, "big")
FAKE = bytes((198, 18, 0, 9))


class Scene:
    def __init__(self) -> None:
        self.drops: Counter[str] = Counter()
        self.mapping = UdpMapping(IPV4, SOURCE, self.drops)

    def flow(self, target: Target, address: bytes = FAKE) -> UdpFlow:
        key = IPV4.key(HERE, 40000, address, target.port)
        return self.mapping.enter(key, target, FlowRecord("udp", IPV4, key, target, "via", "test", 0.0))

    def answers(self, peer: Target) -> tuple[bytes, int] | None:
        """As whom the application sees `peer`."""
        known = self.mapping.peers.get(peer) or self.mapping.meet(peer)
        return IPV4.split(known[0])[:2] if known is not None else None


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_address_behind_a_name_answers_as_the_fake_address(scene: Scene) -> None:
    scene.flow(Target("www.example", 1000))
    assert scene.answers(Target("192.0.2.7", 1000)) == (FAKE, 1000)
    assert scene.answers(Target("192.0.2.8", 1000)) == (bytes((192, 0, 2, 8)), 1000)
    assert scene.answers(Target("192.0.2.7", 1000)) == (FAKE, 1000)


def test_stranger_at_another_port_does_not_take_the_place_of_the_name(scene: Scene) -> None:
    scene.flow(Target("stun.example", 3478))
    assert scene.answers(Target("192.0.2.8", 50000)) == (bytes((192, 0, 2, 8)), 50000)
    assert scene.answers(Target("192.0.2.7", 3478)) == (FAKE, 3478)


def test_known_address_is_nobody_elses_answer(scene: Scene) -> None:
    scene.flow(Target("www.example", 1000))
    scene.flow(Target("192.0.2.7", 1000), THERE)
    assert scene.answers(Target("192.0.2.7", 1000)) == (THERE, 1000)
    assert scene.answers(Target("192.0.2.8", 1000)) == (FAKE, 1000)


def test_what_a_flow_met_leaves_with_it(scene: Scene) -> None:
    flow, other = scene.flow(Target("www.example", 1000)), scene.flow(Target("192.0.2.7", 9), THERE)
    scene.answers(Target("192.0.2.8", 1000))
    scene.mapping.leave(flow)
    assert [known for _, known in scene.mapping.peers.values()] == [other]
    scene.mapping.leave(other)
    assert not scene.mapping.flows
    assert scene.answers(Target("192.0.2.8", 1000)) is None
    assert scene.drops == {"udp_stranger": 1}


@pytest.mark.parametrize("host", ["2001:db8::7", "who.example"])
def test_peer_that_no_address_can_stand_for_is_dropped_and_counted(scene: Scene, host: str) -> None:
    scene.flow(Target("192.0.2.7", 9), THERE)
    assert scene.answers(Target(host, 1000)) is None
    assert scene.drops == {"udp_stranger": 1}


def test_peers_remembered_are_bounded__further_ones_pass(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(udp_mapping, "PEERS", 2)
    scene.flow(Target("192.0.2.7", 9), THERE)
    for port in range(1000, 1010):
        assert scene.answers(Target("192.0.2.8", port)) == (bytes((192, 0, 2, 8)), port)
    assert len(scene.mapping.peers) == 3
    assert scene.drops == {"udp_peers": 8}
