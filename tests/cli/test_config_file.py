"""`--config FILE`: the options of a command in YAML; all that is wrong is said at once, with its line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from tunsmith.cli import config_file, main
from tunsmith.cli.options import publish, upstream
from tunsmith.errors import UsageError, WrongConfig

Ask = Callable[..., dict[str, Any]]


@click.command()
@config_file.option
@click.option("--via", type=upstream, default="direct")
@click.option("--interface")
@click.option("--publish", type=publish, multiple=True)
@click.option("--max-flows", type=click.IntRange(min=1), default=7)
@click.option("-v", "--verbose", is_flag=True)
def command(**options: Any) -> dict[str, Any]:
    return options


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """What the command is called with, given a file's text and a command line."""
    monkeypatch.chdir(tmp_path)

    def call(text: str | bytes, *arguments: str) -> dict[str, Any]:
        Path("t.yaml").write_bytes(text.encode() if isinstance(text, str) else text)
        found: dict[str, Any] = command.main(["--config", "t.yaml", *arguments], standalone_mode=False)
        return found

    return call


def test_settings_are_the_options_of_the_command(ask: Ask) -> None:
    found = ask(
        "via: socks5://127.0.0.1:9\nmax-flows: 12\nverbose: yes\npublish: [80:80, '::1:1:1']\n".replace(
            "'::1:1:1'", "'[::1]:1:1'"
        )
    )
    assert found == {
        "via": "socks5://127.0.0.1:9",
        "interface": None,
        "publish": ("80:80", "[::1]:1:1"),
        "max_flows": 12,
        "verbose": True,
    }


def test_the_command_line_wins(ask: Ask) -> None:
    found = ask("via: block\npublish: 80:80\nmax-flows: 12\n", "--via", "direct", "--publish", "1:2")
    assert (found["via"], found["publish"], found["max_flows"]) == ("direct", ("1:2",), 12)


def test_an_empty_file_changes_nothing(ask: Ask) -> None:
    assert ask("# nothing yet\n")["via"] == "direct"


@pytest.mark.parametrize("word", ["no", "1e3", "0x10", "10:30", "null", "~", "2026-01-01"])
def test_scalars_are_taken_as_they_are_written(ask: Ask, word: str) -> None:
    assert ask(f"interface: {word}\n")["interface"] == word


def test_every_fault_is_told_at_once_with_its_line(ask: Ask) -> None:
    text = """# a comment
via: ftp://example.com
publish:
  - 80:80
  - 80:99999
  - [1, 2]
max_flows: 5
max-flows: 0
verbose: maybe
via: direct
interface:
interface2: {a: b}
"""
    with pytest.raises(WrongConfig) as caught:
        ask(text)
    places = [fault.rsplit(": ", fault.count(": "))[0:2] for fault in caught.value.faults]
    assert [": ".join(place) for place in places] == [
        "t.yaml:2: via",
        "t.yaml:5: publish[1]",
        "t.yaml:6: publish[2]",
        "t.yaml:7: max_flows",
        "t.yaml:8: max-flows",
        "t.yaml:9: verbose",
        "t.yaml:10: via",
        "t.yaml:11: interface",
        "t.yaml:12: interface2",
    ]
    assert "did you mean max-flows?" in caught.value.faults[3]
    assert caught.value.faults[6] == "t.yaml:10: via: is said twice"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("- via\n", "t.yaml:1: settings are `name: value`, a line each"),
        ("via\n", "t.yaml:1: settings are `name: value`, a line each"),
        ("via: direct\n\tx: 1\n", "t.yaml:2: not YAML: found character '\\t' that cannot start any token"),
        ("via: [1\n", "t.yaml:2: not YAML: expected ',' or ']', but got '<stream end>'"),
        ("via: direct\n--- \nvia: block\n", "t.yaml:2: not YAML: but found another document"),
        (
            "via: \x00\n",
            "t.yaml:1: not YAML: unacceptable character #x0000: special characters are not allowed",
        ),
        ("max-flows: many\n", "t.yaml:1: max-flows: 'many' is not a valid integer range."),
        ("config: other.yaml\n", "t.yaml:1: config: no such setting"),
        ("via: !!python/object:os.system direct\n? [1]\n: 2\n", "t.yaml:2: "),
    ],
)
def test_what_is_no_configuration_is_told_with_its_line(ask: Ask, text: str, fault: str) -> None:
    with pytest.raises(WrongConfig) as caught:
        ask(text)
    assert caught.value.faults[0].startswith(fault)


def test_a_file_that_cannot_be_read_is_told(ask: Ask) -> None:
    with pytest.raises(UsageError, match=r"^--config t\.yaml: not a text file$"):
        ask(b"via: \xff\xfe\n")
    with pytest.raises(UsageError, match=r"^--config missing: No such file or directory$"):
        command.main(["--config", "missing"], standalone_mode=False)
    with pytest.raises(UsageError, match=r"^--config /: Is a directory$"):
        command.main(["--config", "/"], standalone_mode=False)


def test_run_refuses_a_wrong_file_before_anything_happens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.yaml"
    path.write_text("via: ftp://x\npublish: 1\n")
    assert main.run(["run", "--config", str(path), "--", "true"]) == main.WRONG_USAGE
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1:3] for line in lines] == [[f"{path}:1", "via"], [f"{path}:2", "publish"]]
