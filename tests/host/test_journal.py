"""The file: what is on disk when, what is read back, and who is in charge of it."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.host.world import BLOCK, CHANGES, FILTER, RULE, UP
from tunsmith.errors import HostError, UsageError
from tunsmith.host import journal
from tunsmith.host.journal import Busy, Entry, Journal
from tunsmith.host.netns import NetworkNamespace

HOLDER = """
import sys
from pathlib import Path
from tests.host.world import CHANGES
from tunsmith.host.journal import Journal
directory, tun, whole = sys.argv[1:]
mine = Journal.create(Path(directory), tun, whole == "whole")
mine.write(CHANGES)
print(mine.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state"


@contextmanager
def another_instance(directory: Path, tun: str, whole: bool = True) -> Iterator[subprocess.Popen[str]]:
    """A process in charge of a journal of CHANGES; it ends without taking anything back."""
    command = [sys.executable, "-c", HOLDER, str(directory), tun, "whole" if whole else "narrow"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def left_by_a_dead_instance(directory: Path, tun: str = "tun0") -> Path:
    """The path of its journal."""
    with another_instance(directory, tun):
        pass
    return journal.look_up(directory, NetworkNamespace.current(), tun)


def test_what_is_written_is_read_back__without_what_needs_no_undo(directory: Path) -> None:
    mine = Journal.create(directory, "tun0", whole=True)
    mine.write(CHANGES, blocks=(BLOCK,))
    found = journal.read(mine.path)
    assert found == mine.contents
    assert mine.entries == (Entry(FILTER), Entry(BLOCK, block=True), Entry(RULE))
    assert UP not in [entry.change for entry in mine.entries]
    assert found is not None
    assert found.header is not None
    assert (found.header.tun, found.header.whole, found.header.owner.pid) == ("tun0", True, os.getpid())
    assert not found.header.is_past()


def test_nobody_else_may_look_or_write(directory: Path) -> None:
    mine = Journal.create(directory, "tun0", whole=True)
    assert directory.stat().st_mode & 0o777 == 0o700
    assert mine.path.stat().st_mode & 0o777 == 0o600


def test_lines_are_on_disk_before_write_returns(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = Journal.create(directory, "tun0", whole=True)
    synced = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_size))
    mine.write(CHANGES)
    assert synced == [mine.path.stat().st_size]


def test_the_name_is_on_disk_before_create_returns(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    mine = Journal.create(directory, "tun0", whole=True)
    assert synced == [str(mine.path.with_suffix(".new")), str(directory)]


def test_a_full_disk_refuses_the_change_and_leaves_no_half_of_a_line(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = Journal.create(directory, "tun0", whole=True)
    mine.write([FILTER])
    before = mine.path.read_bytes()
    write = os.write

    def half(fd: int, text: bytes) -> int:
        if len(text) < 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, text[: len(text) - 10])

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(HostError, match="No space left on device"):
        mine.write([RULE])
    assert mine.path.read_bytes() == before
    assert mine.entries == (Entry(FILTER),)


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match="--state"):
        Journal.create(tmp_path / "file" / "state", "tun0", whole=True)


def test_a_directory_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(HostError, match="written by others"):
        Journal.create(tmp_path, "tun0", whole=True)


def test_forgetting_replaces_the_file_and_keeps_the_lock(directory: Path) -> None:
    mine = Journal.create(directory, "tun0", whole=True)
    mine.write(CHANGES)
    mine.forget([BLOCK])
    mine.write([BLOCK])
    assert [entry.change for entry in mine.entries] == [FILTER, RULE, BLOCK]
    assert journal.read(mine.path) == mine.contents
    assert journal.is_owned(mine.path)


def test_removing_leaves_an_empty_directory(directory: Path) -> None:
    mine = Journal.create(directory, "tun0", whole=True)
    mine.write(CHANGES)
    mine.remove()
    assert list(directory.iterdir()) == []
    assert journal.read(mine.path) is None


@given(cut=st.integers(1, 60))
def test_a_last_line_that_was_cut_off_is_not_there(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    mine = Journal.create(tmp_path_factory.mktemp("state"), "tun0", whole=True)
    mine.write(CHANGES)
    mine.close()
    text = mine.path.read_bytes()
    found = journal.parse(text[:-cut], mine.path)
    assert found.entries == mine.entries[:-1]
    assert not found.damaged


@given(text=st.binary(max_size=200))
def test_nonsense_is_damage_and_no_error(text: bytes) -> None:
    found = journal.parse(text, Path("x"))
    assert found.header is None
    assert len(found.damaged) == text.count(b"\n")


def test_lines_that_cannot_be_read_are_named_and_the_others_are_read(directory: Path) -> None:
    mine = Journal.create(directory, "tun0", whole=True)
    mine.write(CHANGES)
    lines = mine.path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b"unreachable", b"\xff\xfe")
    found = journal.parse(b"".join(lines), mine.path)
    assert [entry.change for entry in found.entries] == [FILTER, RULE]
    assert found.damaged == (3,)


def test_another_version_is_refused_and_left(directory: Path) -> None:
    path = left_by_a_dead_instance(directory)
    head, rest = path.read_text().split("\n", 1)
    path.write_text(json.dumps({**json.loads(head), "journal": 2}) + "\n" + rest)
    before = path.read_bytes()
    with pytest.raises(HostError, match="another version of tunsmith"):
        Journal.create(directory, "tun0", whole=True)
    with pytest.raises(HostError, match="another version of tunsmith"):
        Journal.take_over(path)
    assert path.read_bytes() == before


def test_a_second_instance_on_the_same_tun_is_refused_naming_the_first(directory: Path) -> None:
    with another_instance(directory, "tun0", whole=False) as other:
        before = {path: path.read_bytes() for path in directory.iterdir()}
        with pytest.raises(UsageError, match=f"process {other.pid} runs on tun0"):
            Journal.create(directory, "tun0", whole=False)
        assert {path: path.read_bytes() for path in directory.iterdir()} == before


@pytest.mark.parametrize(("theirs", "ours"), [(True, True), (True, False), (False, True)])
def test_two_instances_do_not_go_together_where_one_takes_the_whole_machine(
    directory: Path, theirs: bool, ours: bool
) -> None:
    with (
        another_instance(directory, "tun0", theirs) as other,
        pytest.raises(UsageError, match=f"process {other.pid} runs on tun0.*--include"),
    ):
        Journal.create(directory, "tun1", ours)


def test_two_instances_that_are_both_narrowed_go_together(directory: Path) -> None:
    with another_instance(directory, "tun0", whole=False):
        mine = Journal.create(directory, "tun1", whole=False)
        assert mine.entries == ()
        assert len(journal.paths(directory)) == 2


def test_an_instance_of_another_namespace_is_no_concern(directory: Path) -> None:
    path = left_by_a_dead_instance(directory)
    elsewhere = NetworkNamespace(1, 1)
    path.rename(journal.look_up(directory, elsewhere, "tun0"))
    mine = Journal.create(directory, "tun0", whole=True)
    assert mine.entries == ()
    assert journal.paths(directory, elsewhere) == [journal.look_up(directory, elsewhere, "tun0")]


def test_the_journal_of_a_living_owner_is_not_taken_over(directory: Path) -> None:
    with another_instance(directory, "tun0") as other:
        path = journal.look_up(directory, NetworkNamespace.current(), "tun0")
        assert journal.is_owned(path)
        with pytest.raises(Busy, match=f"process {other.pid}"):
            Journal.take_over(path)
    assert not journal.is_owned(path)
    taken = Journal.take_over(path)
    assert taken is not None
    assert len(taken.entries) == 3


def test_a_journal_that_is_not_there_is_not_taken_over(directory: Path) -> None:
    assert Journal.take_over(directory / "1-tun0.journal") is None


@pytest.mark.parametrize("tun", ["tun0", "tun1"])
def test_what_a_dead_instance_has_left_is_inherited(directory: Path, tun: str) -> None:
    path = left_by_a_dead_instance(directory)
    mine = Journal.create(directory, tun, whole=True)
    assert [entry.change for entry in mine.entries] == [FILTER, BLOCK, RULE]
    assert journal.read(mine.path) == mine.contents
    assert journal.paths(directory) == [mine.path]
    assert (mine.path == path) == (tun == "tun0")


def test_giving_up_leaves_what_was_inherited_and_nothing_else(directory: Path) -> None:
    Journal.create(directory, "tun0", whole=True).give_up()
    assert list(directory.iterdir()) == []
    path = left_by_a_dead_instance(directory)
    Journal.create(directory, "tun0", whole=True).give_up()
    found = journal.read(path)
    assert found is not None
    assert [entry.change for entry in found.entries] == [FILTER, BLOCK, RULE]
    assert not journal.is_owned(path)


@pytest.mark.parametrize("key", ["boot", "cookie"])
def test_what_a_kernel_has_forgotten_is_not_inherited(directory: Path, key: str) -> None:
    path = left_by_a_dead_instance(directory)
    head, rest = path.read_text().split("\n", 1)
    path.write_text(json.dumps({**json.loads(head), key: "0" if key == "boot" else 99}) + "\n" + rest)
    found = journal.read(path)
    assert found is not None
    assert found.header is not None
    assert found.header.is_past()
    assert Journal.create(directory, "tun0", whole=True).entries == ()


def test_each_journal_is_described_in_a_line(directory: Path) -> None:
    with another_instance(directory, "tun0") as other:
        (line,) = journal.describe(directory)
        assert line.startswith(f"tun0: process {other.pid} runs; since ")
        assert line.endswith(", 3 changes")
    (line,) = journal.describe(directory)
    assert "tunsmith restore" in line
