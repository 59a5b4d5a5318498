"""The firewall marks that the rules of this machine use, read out of the text of its rule sets.

nft writes `meta mark & 0x0000ff00 == 0x00000100` and `ct mark set meta mark`; the older iptables, whose rules nft
does not see, writes `--mark 0x100/0xff00`. Only numbers beside the word count: a mark that comes out of a map has
them in its elements.
"""

from __future__ import annotations

import re
import shutil
import subprocess

FULL = 0xFFFFFFFF
_NUMBER = r"(0x[0-9a-fA-F]+|\d+)"
_NFT = re.compile(
    rf"\bmark (?:set )?(?:(?:meta|ct) mark )?(?:& {_NUMBER} )?(?:[=!|^]=? )?(?:{_NUMBER}|\{{ ([^}}]*) \}})"
)
_NFT_SET = re.compile(r"type [^;\n]*\bmark\b.*?elements = \{ ([^}]*) \}", re.DOTALL)
_IPTABLES = re.compile(rf"--(?:set-)?x?mark {_NUMBER}(?:/{_NUMBER})?")
_ELEMENT = re.compile(rf"(?<![\w.]){_NUMBER}(?![\w.])")
_LEGACY = (
    ("/proc/net/ip_tables_names", "iptables-legacy-save"),
    ("/proc/net/ip6_tables_names", "ip6tables-legacy-save"),
)
_PATIENCE = 20.0


def used_marks(ruleset: str) -> frozenset[tuple[int, int]]:
    """Every mark in use as (mark, mask); `ruleset` is what nft lists."""
    found = marks_in_nft(ruleset)
    for tables, program in _LEGACY:
        if _has_tables(tables) and shutil.which(program):
            found |= marks_in_iptables(_output_of(program))
    return found


def marks_in_nft(ruleset: str) -> frozenset[tuple[int, int]]:
    """The marks in what `nft list ruleset` says."""
    found = set()
    for mask, value, several in _NFT.findall(ruleset):
        bits = int(mask, 0) if mask else FULL
        if value:
            found.add((int(value, 0), bits))
        found |= {(int(each, 0), bits) for each in _ELEMENT.findall(several)}
    for elements in _NFT_SET.findall(ruleset):
        found |= {(int(each, 0), FULL) for each in _ELEMENT.findall(elements)}
    return frozenset(found)


def marks_in_iptables(rules: str) -> frozenset[tuple[int, int]]:
    """The marks in what `iptables-save` says."""
    return frozenset(
        (int(mark, 0), int(mask, 0) if mask else FULL) for mark, mask in _IPTABLES.findall(rules)
    )


def _has_tables(path: str) -> bool:
    try:
        with open(path, encoding="ascii") as file:
            return bool(file.read().strip())
    except OSError:
        return False


def _output_of(program: str) -> str:
    try:
        return subprocess.run(
            [program], capture_output=True, text=True, errors="replace", timeout=_PATIENCE, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
