"""Taking back: the last first, only what is as we made it, and as often as one likes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.host.test_journal import another_instance, left_by_a_dead_instance
from tests.host.world import BLOCK, CHANGES, FILTER, RULE, World
from tunsmith.errors import HostError
from tunsmith.host import journal, restore
from tunsmith.host.journal import Entry, Journal
from tunsmith.host.restore import Outcome, lines, replay, replay_all
from tunsmith.route.change import Change


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def world() -> World:
    """A machine with CHANGES made."""
    made = World()
    for change in CHANGES:
        made.make(change)
    return made


class OneByOne(World):
    """The block cannot go before the filter."""

    def take_back(self, change: Change) -> bool:
        if change == BLOCK and self.holds(FILTER):
            raise HostError("cannot: it would take another with it")
        return super().take_back(change)


def test_change_that_has_to_wait_for_another_is_taken_back_after_it() -> None:
    world = OneByOne()
    for change in CHANGES:
        world.make(change)
    entries = [Entry(change) for change in (FILTER, BLOCK, RULE)]
    steps = restore.take_back(world, entries)
    assert [step.outcome for step in steps] == [Outcome.DONE] * 3
    assert world.undone == [RULE, FILTER, BLOCK]


def test_what_a_dead_instance_has_left_is_taken_back_in_reverse(directory: Path, world: World) -> None:
    left_by_a_dead_instance(directory)
    (found,) = replay_all(directory, world)
    assert world.undone == [RULE, BLOCK, FILTER]
    assert [step.outcome for step in found.steps] == [Outcome.DONE] * 3
    assert not found.left
    assert journal.paths(directory) == []


def test_a_second_time_there_is_nothing_to_do(directory: Path, world: World) -> None:
    left_by_a_dead_instance(directory)
    replay_all(directory, world)
    world.undone.clear()
    assert replay_all(directory, world) == []
    assert world.undone == []


def test_without_a_directory_there_is_nothing_to_do(directory: Path, world: World) -> None:
    assert replay_all(directory, world) == []


def test_what_somebody_has_changed_since_is_left_alone_and_named(directory: Path, world: World) -> None:
    left_by_a_dead_instance(directory)
    world.settings[FILTER.path] = "0"
    world.things.remove(RULE.rule)
    (found,) = replay_all(directory, world)
    assert [step.outcome for step in found.steps] == [Outcome.GONE, Outcome.DONE, Outcome.CHANGED]
    assert world.settings[FILTER.path] == "0"
    assert (
        "changed by somebody since, left alone: sysctl -w net/ipv4/conf/eth0/rp_filter=1" in lines(found)[-1]
    )
    assert journal.paths(directory) == []


def test_what_fails_stays_in_the_journal_for_the_next_time(directory: Path, world: World) -> None:
    left_by_a_dead_instance(directory)
    world.stubborn = {BLOCK}
    (found,) = replay_all(directory, world)
    assert found.left
    assert "not permitted" in "\n".join(lines(found))
    (path,) = journal.paths(directory)
    left = journal.read(path)
    assert left is not None
    assert [entry.change for entry in left.entries] == [BLOCK]
    world.stubborn = set()
    (found,) = replay_all(directory, world)
    assert not found.left
    assert not world.things
    assert journal.paths(directory) == []


def test_what_blocks_stays_until_it_is_lifted(directory: Path, world: World) -> None:
    mine = Journal.create(directory, "tun0", whole=True)
    mine.write(CHANGES, blocks={BLOCK, RULE})
    found = replay(mine, world, lift=False)
    assert [step.outcome for step in found.steps] == [Outcome.BLOCKS, Outcome.BLOCKS, Outcome.DONE]
    assert world.things == {BLOCK.route, RULE.rule}
    assert ["traffic is blocked" in line for line in journal.describe(directory)] == [True]
    replay_all(directory, world)
    assert not world.things
    assert journal.paths(directory) == []


def test_a_next_instance_inherits_what_blocks_and_lifts_it_when_it_likes(
    directory: Path, world: World
) -> None:
    mine = Journal.create(directory, "tun0", whole=True)
    mine.write(CHANGES, blocks={BLOCK})
    replay(mine, world, lift=False)
    replay_all(directory, world, lift=False)
    assert world.things == {BLOCK.route}
    following = Journal.create(directory, "tun0", whole=True)
    assert [entry.change for entry in following.entries] == [BLOCK]
    replay(following, world)
    assert not world.things


def test_a_dry_run_says_the_same_and_does_nothing(directory: Path, world: World) -> None:
    path = left_by_a_dead_instance(directory)
    before = path.read_bytes()
    world.settings[FILTER.path] = "0"
    (dry,) = replay_all(directory, world, dry_run=True)
    assert world.undone == []
    assert path.read_bytes() == before
    (wet,) = replay_all(directory, world)
    assert dry.steps == wet.steps


@pytest.mark.parametrize("dry_run", [False, True])
def test_what_belongs_to_a_living_instance_is_left_alone(
    directory: Path, world: World, dry_run: bool
) -> None:
    with another_instance(directory, "tun0") as other:
        (found,) = replay_all(directory, world, dry_run=dry_run)
        assert found.left
        assert f"process {other.pid}" in found.notice
        assert world.undone == []
        assert len(journal.paths(directory)) == 1


def test_only_the_tun_that_is_named(directory: Path, world: World) -> None:
    left_by_a_dead_instance(directory, "tun0")
    assert replay_all(directory, world, tun="tun1") == []
    assert len(replay_all(directory, world, tun="tun0")) == 1


@pytest.mark.parametrize("key", ["boot", "cookie"])
def test_of_a_kernel_that_has_gone_only_the_journal_is_removed(
    directory: Path, world: World, key: str
) -> None:
    path = left_by_a_dead_instance(directory)
    head, rest = path.read_text().split("\n", 1)
    path.write_text(json.dumps({**json.loads(head), key: "0" if key == "boot" else 99}) + "\n" + rest)
    (found,) = replay_all(directory, world)
    assert "booted since" in found.notice
    assert world.undone == []
    assert journal.paths(directory) == []


def test_of_a_damaged_journal_what_can_be_read_is_taken_back_and_the_file_is_kept(
    directory: Path, world: World
) -> None:
    path = left_by_a_dead_instance(directory)
    lines_before = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines_before[:2], b"\0" * 40 + b"\n", *lines_before[3:]]))
    (found,) = replay_all(directory, world)
    assert world.undone == [RULE, FILTER]
    assert "line 3 cannot be read" in found.notice
    assert str(path.with_suffix(".damaged")) in found.notice
    assert path.with_suffix(".damaged").exists()
    assert journal.paths(directory) == []


def test_a_journal_without_a_readable_first_line_is_taken_back_too(directory: Path, world: World) -> None:
    path = left_by_a_dead_instance(directory)
    path.write_bytes(b"x" + path.read_bytes())
    (found,) = replay_all(directory, world)
    assert world.undone == [RULE, BLOCK, FILTER]
    assert found.title == path.name


def test_a_journal_of_another_version_is_named_and_the_others_are_taken_back(
    directory: Path, world: World
) -> None:
    path = left_by_a_dead_instance(directory, "tun0")
    path.write_text(path.read_text().replace('"journal": 1', '"journal": 7'))
    left_by_a_dead_instance(directory.parent / "other", "tun1")
    for each in journal.paths(directory.parent / "other"):
        each.rename(directory / each.name)
    found = replay_all(directory, world)
    assert [each.left for each in found] == [True, False]
    assert "another version" in found[0].notice
    assert journal.paths(directory) == [path]
