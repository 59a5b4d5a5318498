"""When a scene is content with what it saw."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tunsmith.demo.client import Finished, Flow
from tunsmith.demo.scenes import Scene, scenes, target_of

SCENE = Scene("curl", ("curl",), "direct", "tcp", "www.demo.example:80", "closed", says="Hello")
FLOW = Flow(
    "tcp", "198.18.0.1:1", "192.0.2.80:80", "192.0.2.80:80", "via", "direct", "closed", 80, 119, 0.002
)
GOOD = Finished(0, "Hello\n", "", (FLOW,))


def test_expected_end_is_no_fault() -> None:
    assert SCENE.fault_of(GOOD) == ""


@pytest.mark.parametrize(
    ("finished", "fault"),
    [
        (replace(GOOD, code=7, said="no\nway"), "exit code 7 instead of 0: no way"),
        (replace(GOOD, said="Bye"), "said 'Bye' instead of 'Hello'"),
        (replace(GOOD, flows=()), "no tcp flow"),
        (replace(GOOD, flows=(replace(FLOW, outcome="reset"),)), "reset instead of closed"),
        (
            replace(GOOD, flows=(replace(FLOW, target="192.0.2.1:80"),)),
            "went to 192.0.2.1:80 instead of www.demo.example:80",
        ),
    ],
)
def test_every_difference_is_put_into_words(finished: Finished, fault: str) -> None:
    assert SCENE.fault_of(finished) == fault


def test_flow_that_tunsmith_answers_itself_may_be_missing() -> None:
    assert replace(SCENE, seen=False).fault_of(replace(GOOD, flows=())) == ""


@pytest.mark.parametrize(
    ("protocol", "target", "text"),
    [
        ("tcp", "192.0.2.80:81", "www.demo.example:81"),
        ("tcp", "[2001:db8::80]:80", "six.demo.example:80"),
        ("tcp", "vault.demo.example:80", "vault.demo.example:80"),
        ("icmp", "192.0.2.80:0", "www.demo.example"),
        ("dns", "198.18.0.2:53", "198.18.0.2:53"),
    ],
)
def test_target_bears_its_name(protocol: str, target: str, text: str) -> None:
    assert target_of(replace(FLOW, protocol=protocol, target=target)) == text


def test_both_upstreams_meet_an_open_and_a_closed_port() -> None:
    seen = {(scene.via.split(":")[0], scene.outcome) for scene in scenes() if scene.protocol == "tcp"}
    assert seen == {(via, outcome) for via in ("direct", "socks5") for outcome in ("closed", "refused")}
