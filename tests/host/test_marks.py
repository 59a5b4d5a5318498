"""host/marks.py: the marks in the text of rule sets, of nft and of the older iptables."""

from __future__ import annotations

import subprocess

import pytest

from tests.host.private_network import Network
from tunsmith.host import nft
from tunsmith.host.marks import FULL, marks_in_iptables, used_marks

RULES = {
    "meta mark 0x11": {(0x11, FULL)},
    "meta mark != 0x12 counter": {(0x12, FULL)},
    "meta mark 7-9": {(7, FULL), (9, FULL)},
    "meta mark & 0xff00 == 0x1300": {(0x1300, 0xFF00)},
    "meta mark & 0xff00 != 0": {(0, 0xFF00)},
    "meta mark set 0x14": {(0x14, FULL)},
    "meta mark set meta mark & 0xffff00ff | 0x1500": {(0x1500, 0xFF00)},
    "meta mark set ct mark & 0xffff00ff | 0x1600": {(0x1600, 0xFF00)},
    "ct mark set meta mark | 0x1600": {(0x1600, 0x1600)},
    "meta mark set meta mark & 0xffff00ff": {(0, 0xFF00)},
    "meta mark set ct mark": set(),
    "ct mark 0x16 meta mark set ct mark": {(0x16, FULL)},
    "ct mark & 0xff == 0x17 accept": {(0x17, 0xFF)},
    "meta mark { 0x18, 0x19 } drop": {(0x18, FULL), (0x19, FULL)},
    "meta mark vmap { 0x28 : drop, 0x29 : accept }": {(0x28, FULL), (0x29, FULL)},
    "meta mark set tcp dport map { 80 : 0x5, 81 : 0x6 }": {(5, FULL), (6, FULL)},
    "meta mark @lanes accept": {(0x51, FULL), (0x52, FULL)},
    'ip dscp 0x10 tcp dport 4711 comment "bookmark 0x00000099"': set(),
}
SETS = "set lanes { type mark; elements = { 0x51, 0x52 } ; }\n"


@pytest.mark.netns
@pytest.mark.parametrize(("rule", "marks"), RULES.items(), ids=RULES)
def test_every_way_to_say_a_mark_in_nft_is_found(
    network: Network, rule: str, marks: set[tuple[int, int]]
) -> None:
    sets = SETS if "@" in rule else ""
    text = f"table inet t {{\n{sets} chain c {{ type filter hook output priority mangle\n{rule}\n}}\n}}\n"
    subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)
    assert used_marks(nft.ruleset()) == marks


@pytest.mark.netns
def test_marks_of_a_map_are_found(network: Network) -> None:
    text = "table ip t {\nmap lots { type ipv4_addr : mark; elements = { 10.0.0.1 : 0x61 } ; }\n}\n"
    subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)
    assert used_marks(nft.ruleset()) == {(0x61, FULL)}


@pytest.mark.netns
def test_no_rules_no_marks(network: Network) -> None:
    assert used_marks(nft.ruleset()) == frozenset()


def test_marks_of_iptables() -> None:
    rules = """\
-A OUTPUT -m mark --mark 0x100/0xff00 -j ACCEPT
-A OUTPUT -m mark ! --mark 51820 -j MARK --set-xmark 0x40000/0xff0000
-A PREROUTING -p tcp --dport 22 -j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xff
-A OUTPUT -j MARK --set-mark 7
"""
    assert marks_in_iptables(rules) == {(0x100, 0xFF00), (51820, FULL), (0x40000, 0xFF0000), (7, FULL)}
