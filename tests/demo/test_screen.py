"""What the screen shows, and that it fits."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tunsmith.demo.client import Finished, Flow
from tunsmith.demo.facts import Act, Facts, Stage
from tunsmith.demo.internet import BEHIND_PROXY, PUBLIC
from tunsmith.demo.scenes import scenes
from tunsmith.demo.screen import Screen


def played() -> Facts:
    """The facts at the end of a good demo."""
    facts = Facts([Act(scene) for scene in scenes()])
    addresses = {**PUBLIC, **BEHIND_PROXY}
    for act in facts.acts:
        scene = act.scene
        host, _, port = scene.target.partition(":")
        host = addresses.get(host, host) if scene.via == "direct" else host
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port or 0}"
        upstream = "tunsmith" if scene.protocol == "dns" else scene.via
        flow = Flow(
            scene.protocol, "198.18.0.1:4", "[2001:2::3]:80", target, "via", upstream, scene.outcome,
            9999, 9999, 0.0123,
        )  # fmt: skip
        act.end(Finished(scene.code, scene.says, "", (flow,) if scene.seen else ()))
    facts.names.stage = Stage.DONE
    facts.names.proxy = list(BEHIND_PROXY)
    for transfer, rate in ((facts.without, 20e9), (facts.behind, 10e9)):
        transfer.stage, transfer.progress, transfer.rate = Stage.DONE, 1.0, rate
    facts.capture = "/tmp/tunsmith-demo-12345678.pcapng"
    return facts


def shown(facts: Facts, width: int) -> list[str]:
    file = io.StringIO()
    Screen(Console(file=file, width=width, highlight=False), facts).show_result()
    return [line.rstrip() for line in file.getvalue().splitlines()]


def test_terminal_of_80_by_24_takes_it_all_with_the_prompt_below() -> None:
    lines = shown(played(), 80)
    assert max(map(len, lines)) <= 80
    assert len(lines) < 24
    assert not any("…" in line for line in lines[4:])


@pytest.mark.parametrize("width", [80, 100, 120])
def test_every_program_has_a_line_with_target_and_verdict(width: int) -> None:
    lines = shown(played(), width)
    for scene in scenes():
        upstream = "tunsmith" if scene.protocol == "dns" else scene.via.split(":")[0]
        wanted = (scene.label, f"{scene.protocol} {scene.target}", upstream, f"✔ {scene.outcome}")
        assert any(all(word in line for word in wanted) for line in lines)


def test_wide_terminal_shows_addresses_and_times() -> None:
    lines = shown(played(), 120)
    assert any("2001:2::3" in line and "12.3 ms" in line for line in lines)


def test_speed_is_compared() -> None:
    line = next(line for line in shown(played(), 80) if "through tunsmith" in line)
    assert "10.0 Gbit/s 50% of that" in line


def test_what_has_not_happened_yet_is_left_open() -> None:
    lines = shown(Facts([Act(scene) for scene in scenes()]), 80)
    assert not any("✔" in line or "✘" in line or "Gbit/s" in line for line in lines)


def test_fault_and_leak_are_said_and_nothing_is_called_good() -> None:
    facts = played()
    facts.acts[0].fault = "reset instead of closed"
    facts.names.leaked = ["vault.demo.example"]
    lines = shown(facts, 80)
    assert "fault   ✘ curl through direct: reset instead of closed" in lines
    assert "fault   ✘ names: names that did not go to the proxy: vault.demo.example" in lines
    assert not any(line.startswith("result") for line in lines)
