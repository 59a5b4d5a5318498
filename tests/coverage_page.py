"""docs/rfc-coverage.md: which rule of which RFC is kept where, and what proves it.

    python -m tests.coverage_page          writes the page

Rules come from tests/scripts/clauses.txt, code from the docstrings and comments that name a section, proofs
from the headings of packet scripts and from the names of tests (`test_…__rfc5961_3_2`). Every script is run
for its result. A rule that nothing proves is shown as a gap; one that is not kept knowingly says why.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tunsmith.testing.script.parser import parse_file
from tunsmith.testing.script.run import run_on_stack
from tunsmith.testing.script.runner import ScriptFailure
from tunsmith.wire.ip import IPV4, IPV6

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "tunsmith"
SCRIPTS = ROOT / "tests" / "scripts"
PAGE = ROOT / "docs" / "rfc-coverage.md"
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
CHECK = re.compile(rf"(?i)\b({'|'.join(ORDINALS)})\b(?: to ({'|'.join(ORDINALS)}))?")
REFERENCE = re.compile(r"RFC (\d+)((?:(?:,? (?:and )?)(?:§[\d.]*\d|\([\d.]*\d\)))*)")
PART = re.compile(r"§[\d.]*\d|\([\d.]*\d\)")
RULE = re.compile(r"(§[\d.]*\d( [^:]+)?)?: \S")
TEST = re.compile(r"def (test_\w+?__\w*rfc\w+)\(")
TEST_RULE = re.compile(r"rfc(\d+)((?:_\d+)*)")

HEAD = """\
# Which rule is kept where

Made by `python -m tests.coverage_page` from [the list of rules](../tests/scripts/clauses.txt), the sections that
docstrings and comments name, the headings of the [packet scripts](testing.md#packet-scripts) and the names of tests.
A result says how many scripts hold on our stack, in IPv4 and in IPv6; those that hold on Linux as well are counted
behind it. Some rules are not kept, knowingly, and say why; all others that nothing proves are gaps, and are shown
as such.
"""


@dataclass
class Clause:
    """A rule: `key` is `RFC 5961 §3.2`; `deviation` says why it is not kept, in whole or in part."""

    key: str
    what: str
    deviation: str = ""
    code: list[str] = field(default_factory=list)
    scripts: list[str] = field(default_factory=list)
    tests: list[str] = field(default_factory=list)

    @property
    def rfc(self) -> str:
        return self.key.split()[1]

    @property
    def part(self) -> str:
        """What code calls it: the number in parentheses, or the section; nothing for a whole RFC."""
        return next(iter(PART.findall(self.key)[::-1]), "")

    @property
    def check(self) -> str:
        """The ordinal behind the section, if that is what names it."""
        last = self.key.split()[-1]
        return last if last in ORDINALS else ""


def clauses() -> dict[str, list[Clause]]:
    """Titles of RFCs and their rules, in the order of the list."""
    chapters: dict[str, list[Clause]] = {}
    for line in (SCRIPTS / "clauses.txt").read_text().splitlines():
        if line.startswith("RFC "):
            rules = chapters.setdefault(line, [])
            number = line.split()[1].rstrip(":")
        elif line.startswith("  not: "):
            rules[-1].deviation = line.removeprefix("  not: ")
        elif line:
            assert RULE.match(line), line
            key, _, what = line.partition(": ")
            rules.append(Clause(f"RFC {number} {key}".strip(), what))
    return chapters


# --- code ---


def references() -> dict[tuple[str, str], list[tuple[str, set[str]]]]:
    """(RFC, section) to the places that name it, with the ordinals that they name beside it."""
    found: dict[tuple[str, str], list[tuple[str, set[str]]]] = defaultdict(list)
    for path in sorted(SOURCE.rglob("*.py")):
        module = str(path.relative_to(SOURCE))
        if module.startswith("testing"):
            continue
        for place, words in _texts(path.read_text()):
            for match in REFERENCE.finditer(words):
                near = words[max(0, match.start() - 40) : match.end() + 12]
                where = (f"{module} {place}".strip(), _checks(near))
                for part in PART.findall(match[2]) or [""]:
                    if where not in found[match[1], part]:
                        found[match[1], part].append(where)
    return found


def _checks(words: str) -> set[str]:
    named: set[str] = set()
    for match in CHECK.finditer(words):
        begin = ORDINALS.index(match[1].lower())
        end = ORDINALS.index(match[2].lower()) if match[2] else begin
        named.update(ORDINALS[begin : end + 1])
    return named


def _texts(source: str) -> Iterator[tuple[str, str]]:
    """Docstrings and comments of a module, with the name of what they stand in."""
    tree = ast.parse(source)
    spans: list[tuple[int, int, str]] = []

    def visit(node: ast.AST, name: str) -> None:
        for child in ast.iter_child_nodes(node):
            inner = name
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                inner = f"{name}.{child.name}" if name else child.name
                spans.append((child.lineno, child.end_lineno or child.lineno, inner))
            visit(child, inner)

    visit(tree, "")
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        is_text = token.type == tokenize.STRING and token.string.startswith('"""')
        if token.type == tokenize.COMMENT or is_text:
            inside = [name for begin, end, name in spans if begin <= token.start[0] <= end]
            yield (inside[-1] if inside else ""), " ".join(token.string.split())


# --- proofs ---


def attach(chapters: dict[str, list[Clause]]) -> None:
    """Fill in code, scripts and tests. Raises KeyError for a script that names a rule nobody lists."""
    rules = {clause.key: clause for chapter in chapters.values() for clause in chapter}
    for path in sorted(SCRIPTS.rglob("*.script")):
        for key, _ in parse_file(path).clauses:
            rules[key].scripts.append(str(path.relative_to(SCRIPTS)))
    places = references()
    for clause in rules.values():
        for place, checks in _nearest(places, clause):
            if not clause.check or not checks or clause.check in checks:
                clause.code.append(place)
    sections = {
        (clause.rfc, clause.part.strip("§()")): clause for clause in rules.values() if not clause.check
    }
    for (rfc, section), names in _tests().items():
        while (rfc, section) not in sections and section:
            section = section.rpartition(".")[0]
        if (rfc, section) in sections:
            sections[rfc, section].tests += names


def _nearest(
    places: dict[tuple[str, str], list[tuple[str, set[str]]]], clause: Clause
) -> list[tuple[str, set[str]]]:
    """Who names the section, or else the one around it; the whole RFC, where it is no book."""
    part = clause.part
    while part:
        if places.get((clause.rfc, part)):
            return places[clause.rfc, part]
        part = part.rpartition(".")[0]
    return [] if clause.rfc == "9293" else places.get((clause.rfc, ""), [])


def _tests() -> dict[tuple[str, str], list[str]]:
    """(RFC, section) to the tests that are named after it."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for name in TEST.findall(path.read_text()):
            for number, section in TEST_RULE.findall(name.partition("__")[2]):
                found[number, section.strip("_").replace("_", ".")].append(
                    f"{path.relative_to(ROOT / 'tests')} {name.removeprefix('test_').partition('__')[0]}"
                )
    return found


# --- results ---


@dataclass
class Result:
    """What became of a script."""

    holds: bool
    kernel: bool


def results() -> dict[str, Result]:
    """Run every script in both families."""
    found = {}
    for path in sorted(SCRIPTS.rglob("*.script")):
        script = parse_file(path)
        holds = True
        for family in (IPV4, IPV6):
            try:
                run_on_stack(script, family)
            except ScriptFailure:
                holds = False
        found[str(path.relative_to(SCRIPTS))] = Result(holds, script.kernel)
    return found


def page() -> str:
    """The whole page."""
    chapters = clauses()
    attach(chapters)
    ran = results()
    every = [clause for chapter in chapters.values() for clause in chapter]
    gaps = [clause for clause in every if _is_gap(clause)]
    deviations = [clause for clause in every if clause.deviation]
    proven = len(every) - len(gaps) - len(deviations)
    lines = [
        HEAD,
        f"{len(every)} rules: {proven} proven, {len(deviations)} not kept knowingly, {len(gaps)} gaps; {len(ran)} "
        f"scripts, {sum(result.holds for result in ran.values())} hold, "
        f"{sum(result.kernel for result in ran.values())} of them on Linux as well.\n",
        f"Not kept: {_listed(deviations)}.\n",
        f"Gaps: {_listed(gaps)}.\n",
    ]
    for title, chapter in chapters.items():
        number = title.split()[1].rstrip(":")
        link = f"[RFC {number}](https://www.rfc-editor.org/rfc/rfc{number})"
        lines.append(f"## {link}{title.removeprefix(f'RFC {number}')}\n")
        lines.append("| Rule | Code | Proof | Result |\n|---|---|---|---|")
        lines += [_row(clause, ran) for clause in chapter]
        lines.append("")
    return "\n".join(lines)


def _is_gap(clause: Clause) -> bool:
    return not (clause.deviation or clause.scripts or clause.tests)


def _listed(rules: list[Clause]) -> str:
    return "; ".join(f"{clause.key}, {clause.what}" for clause in rules) or "none"


def _row(clause: Clause, ran: dict[str, Result]) -> str:
    section = clause.key.partition(" ")[2].partition(" ")[2]
    rule = f"**{section}** {clause.what}" if section else clause.what
    code = "<br>".join(f"`{place}`" for place in dict.fromkeys(clause.code))
    proofs = [_link(name) for name in clause.scripts] + [f"`{name}`" for name in clause.tests]
    mine = [ran[name] for name in clause.scripts]
    parts = []
    if mine:
        parts.append(f"{sum(result.holds for result in mine)} of {len(mine)}")
        if any(result.kernel for result in mine):
            parts[0] += f", {sum(result.kernel for result in mine)} on Linux"
    elif clause.tests:
        parts.append("holds")
    if clause.deviation:
        parts.append(f"**not kept**: {clause.deviation}")
    elif _is_gap(clause):
        parts.append("**gap**")
    return f"| {rule} | {code} | {', '.join(proofs)} | {'; '.join(parts)} |"


def _link(script: str) -> str:
    return f"[{Path(script).stem}](../tests/scripts/{script})"


if __name__ == "__main__":
    PAGE.write_text(page())
