"""What the documents say is so: examples run, commands parse, files and names exist."""

from __future__ import annotations

import ast
import functools
import inspect
import json
import os
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import FunctionType

import click
import pytest

import tunsmith
import tunsmith.testing
from tunsmith.aio.datagrams import Datagram, DatagramEndpoint, DatagramTransport
from tunsmith.aio.flows import Flow, Flows
from tunsmith.aio.host import Host
from tunsmith.aio.loop import StackEventLoop
from tunsmith.aio.pings import PingEndpoint, PingRequest
from tunsmith.aio.server import Server
from tunsmith.aio.stack import Stack
from tunsmith.aio.statistics import ConnectionStatistics
from tunsmith.aio.transport import Transport
from tunsmith.cli import main, run
from tunsmith.device.base import Device
from tunsmith.errors import UsageError
from tunsmith.stack.events import ConnectionHandler, ListenerHandler, PingHandler, StackHandler
from tunsmith.stack.routes import Route
from tunsmith.testing.script.host import Host as ScriptHost
from tunsmith.testing.script.parser import ScriptError, parse
from tunsmith.testing.script.run import run_on_stack
from tunsmith.wire.ip import IPV4, IPV6

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "tunsmith"
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "docs" / "architecture.md",
    ROOT / "docs" / "guide.md",
    ROOT / "docs" / "links.md",
    ROOT / "docs" / "testing.md",
    ROOT / "docs" / "up.md",
    *sorted((ROOT / "docs" / "adr").glob("*.md")),
]
MADE = {".venv/", ".artifacts/"}
"""Places that exist once they are needed."""
PATH = re.compile(r"\.?[\w-]+(/[\w.-]+)*(/|\.(py|md|toml))|(scripts|\.ci)/[\w-]+")
ATTRIBUTE = re.compile(r"([A-Z][a-zA-Z]*[a-z][a-zA-Z]*)\.(\w+)(\(.*\))?")
DOTTED = re.compile(r"(stack|wire|dial|relay|device|host|dns|rules|cli|config|testing)(\.\w+)+(\(.*\))?")

documents = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=[str(path.relative_to(ROOT)) for path in DOCUMENTS]
)


@dataclass
class Block:
    """A fenced block of a document."""

    language: str
    line: int
    lines: list[str] = field(default_factory=list)


def blocks(document: Path) -> Iterator[Block]:
    block: Block | None = None
    for number, line in enumerate(document.read_text().splitlines(), 1):
        if not line.lstrip().startswith("```"):
            if block is not None:
                block.lines.append(line)
        elif block is None:
            block = Block(line.lstrip()[3:], number)
        else:
            yield block
            block = None


def spans(document: Path) -> set[str]:
    """The inline code of a document."""
    prose = re.sub(r"(?ms)^ *```.*?^ *```", "", document.read_text())
    return set(re.findall(r"`([^`\n]+)`", prose))


@functools.cache
def names_of_classes() -> dict[str, set[str]]:
    """Every class of the source, with the names of its attributes, those of its bases included."""
    found: dict[str, set[str]] = {}
    bases: dict[str, set[str]] = {}
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, set()).update(_names_in(node))
                bases.setdefault(node.name, set()).update(ast.unparse(base) for base in node.bases)

    def names_of(name: str) -> set[str]:
        return found.get(name, set()).union(*map(names_of, bases.get(name, ())))

    return {name: names_of(name) for name in found}


def _names_in(node: ast.ClassDef) -> Iterator[str]:
    for part in ast.walk(node):
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
            yield part.name
        elif isinstance(part, ast.AnnAssign | ast.Assign):
            for target in part.targets if isinstance(part, ast.Assign) else [part.target]:
                if isinstance(target, ast.Name):
                    yield target.id
                elif isinstance(target, ast.Attribute):
                    yield target.attr


# --- names ---


@documents
def test_files_that_are_named_exist(document: Path) -> None:
    places = (ROOT, SOURCE, document.parent)
    links = set(re.findall(r"\]\(([^)#:]+)\)", document.read_text()))
    named = {span for span in spans(document) if PATH.fullmatch(span)} | links
    missing = {name for name in named if not any((place / name).exists() for place in places)}
    assert missing <= MADE, missing


@documents
def test_classes_and_attributes_that_are_named_exist(document: Path) -> None:
    classes = names_of_classes()
    missing = set()
    for span in spans(document):
        if match := ATTRIBUTE.fullmatch(span):
            if match[2] not in classes.get(match[1], ()):
                missing.add(span)
        elif re.fullmatch(r"[A-Z][a-z]+([A-Z][a-z]+)+", span) and span not in classes:
            missing.add(span)
    assert not missing


@documents
def test_dotted_names_resolve(document: Path) -> None:
    for span in spans(document):
        if DOTTED.fullmatch(span) and not PATH.fullmatch(span):
            _resolve(span.partition("(")[0])


def _resolve(name: str) -> None:
    module, attributes = ["tunsmith", *name.split(".")], list[str]()
    while True:
        try:
            found: object = import_module(".".join(module))
            break
        except ModuleNotFoundError:
            attributes.insert(0, module.pop())
    for attribute in attributes:
        found = getattr(found, attribute)


def test_public_names_are_all_in_the_guide() -> None:
    """Those of the package, and what the classes that people get from it can do."""
    guide = (ROOT / "docs" / "guide.md").read_text()
    missing = {name for name in tunsmith._WHERE if name not in guide}
    for public in (Host, Stack, Flow, Flows, DatagramEndpoint, PingEndpoint, PingRequest):
        for name in vars(public):
            if not name.startswith("_") and not re.search(rf"\b{name}\b", guide):
                missing.add(f"{public.__name__}.{name}")
    missing |= {name for name in ConnectionStatistics.__dataclass_fields__ if f"`{name}`" not in guide}
    assert not missing - {
        "Flows.accept",
        "Flows.on_flow",
        "Flows.settle",
        "PingEndpoint.put",
    }  # of the inside


def _offered() -> Iterator[type | FunctionType]:
    """What people can lay their hands on: names of the package, what its calls return, and all of `testing`."""
    yield from (getattr(tunsmith, name) for name in tunsmith._WHERE)
    yield from (Host, Server, Transport, DatagramTransport, DatagramEndpoint, Datagram, Flow, Flows)
    yield from (PingEndpoint, PingRequest, StackEventLoop, Route)
    for module in pkgutil.walk_packages(tunsmith.testing.__path__, "tunsmith.testing."):
        if not module.name.endswith("__main__"):
            for name, thing in vars(import_module(module.name)).items():
                own = getattr(thing, "__module__", "") == module.name and not name.startswith("_")
                if own and isinstance(thing, type | FunctionType):
                    yield thing


CONTRACTS = (Device, ConnectionHandler, StackHandler, ListenerHandler, PingHandler, ScriptHost)
"""Whoever keeps one of these need not repeat it."""


@pytest.mark.parametrize("thing", dict.fromkeys(_offered()), ids=lambda thing: thing.__qualname__)
def test_what_is_offered_says_what_it_does(thing: type | FunctionType) -> None:
    """A docstring of its own, of what it overrides, or of the contract that it keeps."""
    assert thing.__doc__
    assert not thing.__doc__.startswith(f"{thing.__name__}(")  # as dataclasses have it by themselves
    bare = {
        name
        for name, member in vars(thing).items()
        if not name.startswith("_")
        and isinstance(member, FunctionType | property | classmethod | staticmethod)
        if not inspect.getdoc(getattr(thing, name))
        and not any(hasattr(contract, name) for contract in CONTRACTS)
        and not any(name in vars(base) for base in thing.__mro__[1:])  # type: ignore[union-attr]
    }
    assert not bare


def test_names_of_what_calls_return_are_in_the_documents() -> None:
    text = "".join((ROOT / "docs" / f"{name}.md").read_text() for name in ("guide", "links", "testing"))
    for thing in (Server, Transport, DatagramTransport, Datagram, ScriptError):
        assert f"`{thing.__name__}`" in text
    for name in vars(Server):
        if not name.startswith("_") and name not in ("on_connection", "get_loop"):  # of the inside
            assert f"`{name}" in text, name


def test_decisions_are_all_in_the_index() -> None:
    folder = ROOT / "docs" / "adr"
    index = (folder / "README.md").read_text()
    for page in folder.glob("[0-9]*.md"):
        number, title = re.match(r"# (\d+)\. (.*)", page.read_text()).groups()  # type: ignore[union-attr]
        assert page.name.startswith(number)
        assert f"| [{number}]({page.name}) | {title} |" in index


def test_modules_named_in_the_layers_are_all_there_are() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    for folder in SOURCE.iterdir():
        if (folder / "__init__.py").exists():
            assert f"`{folder.name}/`" in text, folder.name


# --- commands ---


def _commands(document: Path) -> Iterator[str]:
    for block in blocks(document):
        for line in block.lines:
            if block.language in ("sh", "console"):
                yield line.strip().removeprefix("$ ")


@documents
def test_tunsmith_commands_parse(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work.yaml").touch()  # a file the reader is thought to have
    monkeypatch.chdir(tmp_path)
    for line in _commands(document):
        words = shlex.split(line, comments=True)
        if words[:2] == ["tunsmith", "run"]:
            try:
                context = run.command.make_context("tunsmith run", words[2:])
            except UsageError:  # the value of an option: an example of what is refused
                continue
            assert context.params["arguments"], line
        elif words[:1] == ["tunsmith"]:
            assert words[1] in main.COMMANDS, line


@documents
def test_scripts_exist_and_take_these_options(document: Path) -> None:
    for line in _commands(document):
        if match := re.match(r"(scripts|\.ci)/(\S+)", line):
            assert os.access(ROOT / match[0], os.X_OK), line


def test_options_of_run_are_all_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    for parameter in run.command.params:
        if isinstance(parameter, click.Option):
            assert any(option in readme for option in parameter.opts), parameter.opts


# --- examples ---


@documents
def test_python_examples_run_and_say_what_is_printed_below_them(document: Path) -> None:
    for block, below in pairwise([*blocks(document), Block("", 0)]):
        if block.language == "python":
            done = subprocess.run(
                [sys.executable, "-B", "-c", "\n".join(block.lines)],
                capture_output=True,
                text=True,
                check=True,
                timeout=30,
                env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
            )
            assert below.language == "text"
            assert done.stdout.splitlines() == below.lines


@documents
def test_packet_scripts_hold(document: Path) -> None:
    for block in blocks(document):
        if block.language == "script":
            for family in (IPV4, IPV6):
                run_on_stack(parse("\n".join(block.lines), f"{document.name}:{block.line}"), family)


@pytest.mark.netns
def test_console_examples_say_what_the_readme_says(tmp_path: Path) -> None:
    if os.geteuid() != 0 or not shutil.which("curl"):
        pytest.skip("needs root and curl")
    expected: list[tuple[str, list[str]]] = []
    for block in blocks(ROOT / "README.md"):
        for line in block.lines if block.language == "console" else ():
            if line.startswith("$ "):
                expected.append((line[2:], []))
            else:
                expected[-1][1].append(line)
    done = subprocess.run(
        [
            sys.executable,
            "-B",
            str(ROOT / "tests" / "readme_internet.py"),
            *(command for command, _ in expected),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    for (command, lines), output in zip(expected, json.loads(done.stdout), strict=True):
        assert _without_numbers(output.splitlines()) == _without_numbers(lines), command


def _without_numbers(lines: list[str]) -> list[str]:
    """Sizes, times and ports differ from run to run, and so does the order of flows that end together. So may
    who ends a flow: a program that has all it wanted may be gone before the other side has closed."""
    masked = (re.sub(r" *\d+(\.\d+)?( [KM]iB)?", "N", line) for line in lines)
    return sorted(line.replace("stopped", "closed") for line in masked)
