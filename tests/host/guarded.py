"""A process with a journal and a guard, told by lines on standard input what to do; a line says it is done.

    python -m tests.host.guarded STATE WORLD

The guard is another process, so what holds is a file each in the directory WORLD.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from contextlib import suppress
from pathlib import Path

from tests.host.world import BLOCK, CHANGES, World
from tunsmith.errors import HostError
from tunsmith.host import guard, restore
from tunsmith.host.guard import Guard
from tunsmith.host.journal import Journal
from tunsmith.route.change import Change


class FileWorld(World):
    """A World that processes share."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.directory = directory

    def _file(self, change: Change) -> Path:
        return self.directory / type(change).__name__

    def make(self, change: Change) -> None:
        self._file(change).touch()

    def holds(self, change: Change) -> bool:
        return self._file(change).exists()

    def take_back(self, change: Change) -> bool:
        held = self.holds(change)
        self._file(change).unlink(missing_ok=True)
        return held


def main(state: Path, directory: Path) -> None:
    signal.signal(signal.SIGTERM, lambda *_: None)  # a handler in Python, for the guard to get rid of
    world = FileWorld(directory)
    journal = Journal.create(state, "tun0", whole=True)
    watch = Guard.start(journal.path, lambda: FileWorld(directory))
    changes = [each for each in CHANGES if each.undo() is not None]
    print(watch._pid, flush=True)
    for line in sys.stdin:
        word, *arguments = line.split()
        match word:
            case "make":
                journal.write(changes, blocks={BLOCK} if arguments else ())
                for change in changes:
                    world.make(change)
            case "hear":
                select.select([watch], [], [])
                word = watch.hear().name
            case "replace":
                watch.replace()
                word = str(watch._pid)
            case "replace-until-it-fails":
                guard.SHORT_LIFE = 3600.0
                with suppress(HostError):
                    for replaced in range(99):
                        word = str(replaced)
                        os.kill(watch._pid, signal.SIGKILL)
                        watch.replace()
            case "hurry":
                guard.PATIENCE_WITH_GUARD = 0.01
            case "confirm":
                watch.confirm_within(float(arguments[0]))
            case "hang":
                guard.PATIENCE_WITH_PARENT = 0.01
                os.kill(watch._pid, signal.SIGKILL)
                watch.replace()
            case "leave-child":
                word = str(child := os.fork())
                if child == 0:
                    os.close(2)
                    signal.pause()
            case "stop":
                restore.replay(journal, world)
                watch.release()
        print(word, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
