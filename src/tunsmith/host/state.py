"""The directory in which journals are kept: /var/lib/tunsmith for root, below $XDG_STATE_HOME for others.

What is in it is replayed by root, so nobody else may be able to write there. Network namespaces and containers may
share it.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunsmith.errors import HostError

ROOT = Path("/var/lib/tunsmith")


def default_directory() -> Path:
    """Where journals are without --state."""
    if os.geteuid() == 0:
        return ROOT
    home = os.environ.get("XDG_STATE_HOME", "")
    return (Path(home) if os.path.isabs(home) else Path.home() / ".local/state") / "tunsmith"


def prepare(directory: Path) -> None:
    """Make `directory`, mode 0700, unless it is there. Raises HostError where it cannot be, or is open to others."""
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise not_written(directory, error) from error
    check(directory)


def check(directory: Path) -> None:
    """Raises HostError unless `directory` can be trusted: nobody but root and the caller may write there."""
    try:
        found = directory.stat()
    except OSError as error:
        raise HostError(f"cannot look into {directory}: {error.strerror}") from error
    if not stat.S_ISDIR(found.st_mode):
        raise HostError(f"{directory} is no directory: choose another by --state")
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise HostError(
            f"{directory} can be written by others: run `chmod 700 {directory}`, `chown` it, or choose another "
            f"by --state"
        )


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Nobody else looks for instances and starts one meanwhile. For moments only."""
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise HostError(f"cannot open {directory}: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def sync(directory: Path) -> None:
    """Have the names in `directory` on disk. Raises OSError."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def not_written(path: Path, error: OSError) -> HostError:
    """That nothing can be kept there, and what to do about it."""
    return HostError(
        f"cannot write {path}: {error.strerror or error}; tunsmith changes nothing that it cannot write down first "
        f"(another directory: --state DIR)"
    )
