"""What `up` changes in the kernel, on disk before it is changed, so that it can be taken back whatever ends us.

One file for each network namespace and TUN in the state directory, lines of JSON. The first says whose it is, each
other one is a change that has an undo:

    {"journal": 1, "tun": "tunsmith0", "whole": true, "pid": 4711, "started": 91542, "since": 1795399584,
     "boot": "01df03fa-…", "netns": 4026531833, "cookie": 3}
    {"change": "AddRule", "rule": {"version": 4, "priority": 32000, "table": 125, …}}
    {"change": "AddRoute", "route": {"prefix": "0.0.0.0/0", "table": 125, "kind": "unreachable", …}, "block": true}

A line is on disk, and so is the name of the file, before the change is made. So what was made is a part of what was
written: whoever takes it back (host/restore.py) looks first. Lines are only added; to take some out, a new file takes
the place of the old in one step. A last line without its end was cut off by a power loss, and its change never made.

`block` marks what keeps traffic in where we die and were asked to fail closed: it stays until somebody lifts it.

Whoever is in charge of a journal holds flock(2) on it: the instance while it lives, then its guard, `tunsmith
restore` or the next start. A lock that can be had means that the owner is dead.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Container, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunsmith.errors import HostError, UsageError
from tunsmith.host import state
from tunsmith.host.netns import NetworkNamespace
from tunsmith.host.process import Process, boot_id
from tunsmith.route import record
from tunsmith.route.change import Change

VERSION = 1
PATIENCE = 3.0
"""Seconds in which somebody who takes back what a dead owner has left is done."""
_SUFFIX = ".journal"
_LOOK_AGAIN = 0.02


@dataclass(frozen=True, slots=True)
class Header:
    """Whose journal it is. `whole`: the instance takes the traffic of the whole machine, not of some prefixes only;
    `since`: when it was started, in seconds of the epoch."""

    tun: str
    whole: bool
    owner: Process
    since: int
    boot: str
    namespace: NetworkNamespace

    def is_past(self) -> bool:
        """Whether the kernel that was changed has gone: the machine was booted, or the namespace is another one
        that got the same number. (One that nobody holds any longer is host/netns.py's to find.)"""
        here = NetworkNamespace.current()
        reused = here.inode == self.namespace.inode and here.cookie != self.namespace.cookie
        return self.boot != boot_id() or reused


@dataclass(frozen=True, slots=True)
class Entry:
    """A change that was made or was about to be. `block`: it stays where we die and were to fail closed."""

    change: Change
    block: bool = False


@dataclass(frozen=True, slots=True)
class Contents:
    """What a journal says. `header` is None where its first line cannot be read, `damaged` are the numbers of
    all lines that cannot; a last line that was cut off is not among them."""

    header: Header | None
    entries: tuple[Entry, ...] = ()
    damaged: tuple[int, ...] = ()


class Busy(HostError):
    """Somebody else is in charge of the journal; `contents` is what it says."""

    def __init__(self, path: Path, contents: Contents) -> None:
        owner = contents.header.owner.pid if contents.header else "?"
        super().__init__(f"{path.name} belongs to process {owner}, which runs: stop that one first")
        self.contents = contents


class Journal:
    """A journal that this process is in charge of, until `close`, `remove` or its own end."""

    __slots__ = ("_fd", "_size", "contents", "path")

    def __init__(self, path: Path, fd: int, contents: Contents) -> None:
        self.path = path
        self.contents = contents
        self._fd = fd
        self._size = os.fstat(fd).st_size

    @classmethod
    def create(cls, directory: Path, tun: str, whole: bool) -> Journal:
        """The journal of this process, on disk. What dead instances in this namespace have left and nobody has taken
        back (host/restore.py comes before) becomes a part of it, so that it is taken back with the rest.

        Raises UsageError where an instance runs that this one cannot run beside, HostError where nothing can be
        written or a leftover is not to be understood. Nothing was changed then."""
        directory = directory.absolute()  # the guard has another working directory
        state.prepare(directory)
        namespace = NetworkNamespace.current()
        header = Header(tun, whole, Process.current(), int(time.time()), boot_id(), namespace)
        with state.locked(directory):
            left = []
            try:
                for path in paths(directory, namespace):
                    try:
                        other = cls.take_over(path)
                    except Busy as busy:
                        _refuse_beside(header, busy)
                        continue
                    if other is not None:
                        left.append(other)
                own = directory / _name(namespace, tun)
                inherited = [entry for other in left if not other.is_past for entry in other.entries]
                journal = cls(own, *_replace(own, Contents(header, tuple(inherited))))
                for other in left:
                    if other.path != own:
                        other.remove()
                return journal
            finally:
                for other in left:
                    other.close()

    @classmethod
    def take_over(cls, path: Path, patience: float = PATIENCE, anyway: bool = False) -> Journal | None:
        """The journal of a dead owner; None where there is none any more. Who takes back at this moment gets
        `patience` seconds for it. `anyway`: the caller knows that the owner is dead, and that what holds the lock
        are children it has left.

        Raises Busy where the owner lives or does not become free, HostError where it cannot be read."""
        deadline = time.monotonic() + patience
        while (fd := _open(path)) >= 0:
            try:
                contents = parse(_read(fd), path)
                if _try_lock(fd):
                    if not _is_still(path, fd):
                        continue
                    kept, fd = fd, -1
                    return cls(path, kept, contents)
                if time.monotonic() >= deadline:
                    if not anyway:
                        raise Busy(path, contents)
                    kept, fd = fd, -1
                    return cls(path, kept, contents)
                if not anyway and contents.header is not None and contents.header.owner.is_alive():
                    raise Busy(path, contents)
            finally:
                if fd >= 0:
                    os.close(fd)
            time.sleep(_LOOK_AGAIN)
        return None

    @property
    def entries(self) -> tuple[Entry, ...]:
        """What is written and not forgotten, in the order in which it was made."""
        return self.contents.entries

    @property
    def is_past(self) -> bool:
        """Whether there is nothing left of what it says, see `Header.is_past`."""
        return self.contents.header is not None and self.contents.header.is_past()

    def descriptors(self) -> tuple[int, ...]:
        """What holds the lock: a program that is given it does so, too."""
        return (self._fd,) if self._fd >= 0 else ()

    def write(self, changes: Iterable[Change], blocks: Container[Change] = ()) -> None:
        """Have `changes` on disk, in this order, before they are made; those without an undo are left out. Those
        that are in `blocks` as well stay where we die. Raises HostError where that fails: make none of them."""
        added = tuple(Entry(each, each in blocks) for each in changes if each.undo() is not None)
        if not added:
            return
        text = "".join(_line(entry) for entry in added).encode()
        try:
            _write_all(self._fd, text)
            os.fsync(self._fd)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._fd, self._size)
            raise state.not_written(self.path, error) from error
        self._size += len(text)
        self.contents = Contents(self.contents.header, (*self.entries, *added), self.contents.damaged)

    def keep(self, entries: Iterable[Entry]) -> None:
        """Forget all but `entries`: the others have been taken back. Raises HostError where that cannot be written;
        the journal is as before then, which does no harm."""
        contents = Contents(self.contents.header, tuple(entries))
        fd, self._fd = self._fd, -1
        try:
            self._fd, _ = _replace(self.path, contents)
        except HostError:
            self._fd, fd = fd, -1
            raise
        finally:
            if fd >= 0:
                os.close(fd)
        self.contents = contents
        self._size = os.fstat(self._fd).st_size

    def forget(self, changes: Container[Change]) -> None:
        """`changes` have been taken back while we go on. Raises HostError as `keep` does."""
        self.keep([entry for entry in self.entries if entry.change not in changes])

    def remove(self) -> None:
        """Everything has been taken back: no journal any more. Raises HostError where it cannot be removed."""
        try:
            self.path.unlink(missing_ok=True)
            state.sync(self.path.parent)
        except OSError as error:
            raise HostError(f"cannot remove {self.path}: {error.strerror}") from error
        finally:
            self.close()

    def give_up(self) -> None:
        """Nothing was changed by us: no journal any more, unless there is something in it that we have inherited."""
        if self.entries:
            self.close()
        else:
            self.remove()

    def set_aside(self) -> Path:
        """Keep the file for people to look at, where no instance finds it, whatever becomes of the journal; the
        path of that copy."""
        aside = self.path.with_suffix(".damaged")
        with suppress(OSError):
            aside.unlink(missing_ok=True)
            os.link(self.path, aside)
        return aside

    def close(self) -> None:
        """Let go of it: what it says is for the next to take back. A forked child that lives on must do so."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def paths(directory: Path, namespace: NetworkNamespace | None = None) -> list[Path]:
    """The journals in `directory`, of one namespace or of all."""
    start = "" if namespace is None else f"{namespace.inode}-"
    try:
        names = sorted(name for name in os.listdir(directory) if name.endswith(_SUFFIX))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise HostError(f"cannot look into {directory}: {error.strerror}") from error
    return [directory / name for name in names if name.startswith(start)]


def look_up(directory: Path, namespace: NetworkNamespace, tun: str) -> Path:
    """Where the journal of `tun` is, if there is one."""
    return directory / _name(namespace, tun)


def confirmation_path(path: Path) -> Path:
    """The FIFO beside a journal, which is there while its owner waits for `tunsmith confirm`."""
    return path.with_suffix(".confirm")


def read(path: Path) -> Contents | None:
    """What the journal says, whoever is in charge of it; None where there is none. Raises HostError."""
    fd = _open(path)
    if fd < 0:
        return None
    try:
        return parse(_read(fd), path)
    finally:
        os.close(fd)


def is_owned(path: Path) -> bool:
    """Whether somebody is in charge of the journal at this moment."""
    fd = _open(path)
    if fd < 0:
        return False
    try:
        return not _try_lock(fd, fcntl.LOCK_SH)
    finally:
        os.close(fd)


def describe(directory: Path) -> list[str]:
    """A line for each journal in `directory`: who, since when, how much, and what becomes of it."""
    lines = []
    here = NetworkNamespace.current()
    for path in paths(directory):
        contents = read(path)
        if contents is not None:
            lines.append(_describe(path, contents, here))
    return lines


def _describe(path: Path, contents: Contents, here: NetworkNamespace) -> str:
    header = contents.header
    if header is None:
        return f"{path.name}: its first line cannot be read; {len(contents.entries)} changes"
    if is_owned(path):
        waits = " and waits for `tunsmith confirm`" if confirmation_path(path).exists() else ""
        what = f"process {header.owner.pid} runs{waits}"
    elif header.is_past():
        what = "of a kernel or namespace that has gone"
    elif contents.entries and all(entry.block for entry in contents.entries):
        what = f"process {header.owner.pid} has died, traffic is blocked: `tunsmith restore` lifts it"
    else:
        what = f"process {header.owner.pid} has died: `tunsmith restore` takes back what it left"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(header.since))
    where = "" if header.namespace == here else f" (in network namespace {header.namespace.inode})"
    return f"{header.tun}{where}: {what}; since {since}, {len(contents.entries)} changes"


def parse(text: bytes, path: Path) -> Contents:
    """What a file says. Raises HostError where a later version has written it."""
    *lines, _cut_off = text.split(b"\n")
    header = None
    entries = []
    damaged = []
    for number, line in enumerate(lines, 1):
        try:
            values = json.loads(line)
            if number == 1:
                header = _read_header(values, path)
            else:
                block = values.pop("block", False)
                entries.append(Entry(record.read(values), bool(block)))
        except (ValueError, KeyError, TypeError, AttributeError):
            damaged.append(number)
    return Contents(header, tuple(entries), tuple(damaged))


def _read_header(values: dict[str, Any], path: Path) -> Header:
    if int(values["journal"]) != VERSION:
        raise HostError(
            f"{path} was written by another version of tunsmith (journal {values['journal']}, not {VERSION}): "
            f"run `tunsmith restore` of that one, or remove the file"
        )
    return Header(
        tun=str(values["tun"]),
        whole=bool(values["whole"]),
        owner=Process(int(values["pid"]), int(values["started"])),
        since=int(values["since"]),
        boot=str(values["boot"]),
        namespace=NetworkNamespace(int(values["netns"]), int(values["cookie"])),
    )


def _header_line(header: Header) -> str:
    values = {
        "journal": VERSION,
        "tun": header.tun,
        "whole": header.whole,
        "pid": header.owner.pid,
        "started": header.owner.started,
        "since": header.since,
        "boot": header.boot,
        "netns": header.namespace.inode,
        "cookie": header.namespace.cookie,
    }
    return json.dumps(values) + "\n"


def _line(entry: Entry) -> str:
    values = record.write(entry.change)
    if entry.block:
        values["block"] = True
    return json.dumps(values) + "\n"


def _refuse_beside(header: Header, busy: Busy) -> None:
    """Raises UsageError unless two instances go together: two TUNs, each for some prefixes."""
    other = busy.contents.header
    if other is None:
        raise busy
    if other.tun == header.tun:
        raise UsageError(
            f"process {other.owner.pid} runs on {other.tun} already: stop it, or take another name by --tun"
        )
    if other.whole or header.whole:
        raise UsageError(
            f"process {other.owner.pid} runs on {other.tun} already, and there can be two instances only where each "
            f"takes some prefixes (--include): stop it, or narrow both"
        )


def _name(namespace: NetworkNamespace, tun: str) -> str:
    return f"{namespace.inode}-{tun}{_SUFFIX}"


def _open(path: Path) -> int:
    """A descriptor, or -1 where there is no file."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)  # the disk may be read-only by now
    except FileNotFoundError:
        return -1
    except OSError as error:
        raise HostError(f"cannot open {path}: {error.strerror}") from error


def _try_lock(fd: int, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_still(path: Path, fd: int) -> bool:
    """Whether the file was not removed or replaced before we had the lock."""
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except FileNotFoundError:
        return False


def _replace(path: Path, contents: Contents) -> tuple[int, Contents]:
    """Put a file that says `contents` in the place of `path`, locked and on disk; its descriptor. Raises HostError."""
    assert contents.header is not None
    text = _header_line(contents.header) + "".join(_line(entry) for entry in contents.entries)
    new = path.with_suffix(".new")
    fd = -1
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(new, flags, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        _write_all(fd, text.encode())
        os.fsync(fd)
        new.rename(path)
        state.sync(path.parent)
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        with suppress(OSError):
            new.unlink()
        raise state.not_written(path, error) from error
    return fd, contents


def _write_all(fd: int, text: bytes) -> None:
    view = memoryview(text)
    while view:
        view = view[os.write(fd, view) :]


def _read(fd: int) -> bytes:
    with open(fd, "rb", closefd=False) as file:
        file.seek(0)
        return file.read()
