"""The firewall marks that the rules of this machine use, read out of the text of its rule sets.

nft writes `meta mark & 0x0000ff00 == 0x00000100` and `meta mark set ct mark & 0xffff00ff | 0x00000100`, always with
eight digits; the older iptables, whose rules nft does not see, writes `--mark 0x100/0xff00`.
"""

from __future__ import annotations

import re
import shutil
import subprocess

FULL = 0xFFFFFFFF
_N = "(0x[0-9a-f]{8})"
_COMPARED = re.compile(rf"\bmark (?:& {_N} )?(?:[=!<>]=? )?{_N}(?:-{_N})?")
_WRITTEN = re.compile(rf"\bmark set {_N}")
_AMENDED = re.compile(rf"\bmark set (?:meta|ct) mark(?: & {_N})?(?: [|^] {_N})?")
_LISTED = re.compile(r"\bmark (?:set [^{\n]*|vmap |[=!]= )?\{ ([^}]*) \}")
_SET = re.compile(r"type [^;\n]*\bmark\b[^}]*?elements = \{ ([^}]*) \}")
_ELEMENT = re.compile(_N)
_IPTABLES = re.compile(r"--(?:set-)?x?mark (0x[0-9a-f]+|\d+)(?:/(0x[0-9a-f]+|\d+))?")
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
    """The marks in what `nft list ruleset` says. A rule that writes some bits uses those: & 0xffff00ff | 0x1500 is
    0x1500 in 0xff00."""
    found = set()
    for mask, first, last in _COMPARED.findall(ruleset):
        found |= {(int(value, 0), int(mask or "0xffffffff", 0)) for value in (first, last) if value}
    found |= {(int(value, 0), FULL) for value in _WRITTEN.findall(ruleset)}
    for kept, value in _AMENDED.findall(ruleset):
        bits, kept_bits = int(value or "0", 0), int(kept or "0xffffffff", 0)
        if written := ~kept_bits & FULL | bits:
            found.add((bits, written))
    for elements in _LISTED.findall(ruleset) + _SET.findall(ruleset):
        found |= {(int(value, 0), FULL) for value in _ELEMENT.findall(elements)}
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
