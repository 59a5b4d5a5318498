"""A process that lives on when `up` dies, whatever kills it, and takes back what the journal says.

    up                                        guard
    Guard.start: fork ----------------------> a session of its own, deaf to signals, light, hard to kill
         <--------------------------- READY
    ...                                       sleeps
    confirm_within(60) ---- CONFIRM 60 -----> makes a FIFO, `tunsmith confirm` writes to it
         <------------ CONFIRMED or UNCONFIRMED
    dies: the pipe ends, and so does pidfd -> host/restore.py, one line on standard error, exit
    or `release` -------- the pipe ends ----> there is no journal any more: exit

It needs no word that all is well: a clean stop has removed the journal. Where the guard dies, `up` sees the end of
the pipe and starts another one; where both die at once, the journal is for the next start or `tunsmith restore`.

A network that was not confirmed in time is put back by `up` itself, which is told so; where it does not get that done,
because it hangs, the guard ends it and does it.

It is forked before there are threads or an event loop, with all modules that it will need, so that a package being
upgraded in the meantime does no harm.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import NoReturn

from tunsmith.errors import HostError
from tunsmith.host import restore
from tunsmith.host.journal import Journal, confirmation_path
from tunsmith.host.process import Process
from tunsmith.host.restore import Undoing
from tunsmith.host.state import not_written
from tunsmith.host.syscalls import set_process_name, set_process_title

NAME = "route-guard"
TITLE = "route-guard: puts this machine's network back when process %d has ended"
"""Neither says tunsmith: `pkill -9 -f tunsmith`, in somebody's despair, is to leave this process alive."""
PATIENCE_WITH_DEATH = 0.5
"""Seconds for an instance whose end of the pipe has closed to be dead: the TUN and its routes go before."""
PATIENCE_WITH_CHILDREN = 1.0
"""Seconds for children of a dead instance to end, before the guard goes on without the lock they hold."""
PATIENCE_WITH_PARENT = 5.0
"""Seconds for the instance to put back what was not confirmed."""
PATIENCE_WITH_GUARD = 5.0
"""Seconds for the guard to end after a clean stop; one that hangs is killed."""
SHORT_LIFE = 1.0
"""Seconds; so many guards in a row that lived no longer are replaced:"""
MOST_SHORT_LIVES = 3
CONFIRM = b"confirm"
"""What the guard is told, with the seconds."""
_LONGEST = 64
_IGNORED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGPIPE,
    signal.SIGALRM,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


class Word(Enum):
    """What a guard says."""

    NOTHING = b"nothing"
    READY = b"ready"
    CONFIRMED = b"confirmed"
    """`tunsmith confirm` was run in time."""
    UNCONFIRMED = b"unconfirmed"
    """It was not: take everything back and end, within PATIENCE_WITH_PARENT."""
    DEAD = b""
    """It has ended; `Guard.replace` starts another one."""


class Guard:
    """The guard of this process and its journal, from `start` to `release`. Watch `fileno` for reading."""

    __slots__ = ("_began", "_channel", "_deadline", "_fifo", "_make_machine", "_path", "_pid", "_short_lives")

    def __init__(
        self, path: Path, make_machine: Callable[[], Undoing], pid: int, channel: socket.socket
    ) -> None:
        self._path = path
        self._make_machine = make_machine
        self._pid = pid
        self._channel = channel
        self._began = time.monotonic()
        self._short_lives = 0
        self._fifo = -1
        self._deadline = 0.0

    @classmethod
    def start(cls, path: Path, make_machine: Callable[[], Undoing]) -> Guard:
        """Fork the guard of the journal at `path`, which this process is in charge of, and wait until it is ready.
        `make_machine` is called in the guard. Raises HostError where there can be none."""
        pid, channel = _fork(path, make_machine)
        return cls(path, make_machine, pid, channel)

    def fileno(self) -> int:
        """Becomes readable when the guard has something to say, or is dead."""
        return self._channel.fileno()

    def hear(self) -> Word:
        """What the guard says. Does not wait."""
        try:
            word = self._channel.recv(_LONGEST, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return Word.NOTHING
        except OSError:
            word = b""
        if word:
            self._stop_waiting()
        return Word(word)

    def replace(self) -> None:
        """Start another guard in the place of one that is dead; `fileno` is another one then. Raises HostError where
        there can be none, or where they do not live long: without a guard one should stop."""
        self._bury()
        self._short_lives = self._short_lives + 1 if time.monotonic() - self._began < SHORT_LIFE else 0
        if self._short_lives > MOST_SHORT_LIVES:
            raise HostError("the guard process does not live: something kills it")
        self._pid, self._channel = _fork(self._path, self._make_machine)
        self._began = time.monotonic()
        if self._deadline:
            self._tell_deadline()

    def confirm_within(self, seconds: float) -> None:
        """From now on the network is put back unless `tunsmith confirm` is run in time. Raises HostError where there
        is no way for it to tell us."""
        path = confirmation_path(self._path)
        try:
            path.unlink(missing_ok=True)
            os.mkfifo(path, 0o600)
            self._fifo = _open_both_ways(path)
        except OSError as error:
            raise not_written(path, error) from error
        self._deadline = time.monotonic() + seconds
        self._tell_deadline()

    def release(self) -> None:
        """There is nothing more to guard: everything has been taken back and the journal removed. (What is still in
        it, the guard takes back.) Returns when the guard has ended."""
        self._stop_waiting()
        self._bury()

    def _tell_deadline(self) -> None:
        with suppress(OSError):  # it is dead: its successor is told
            self._channel.send(b"%s %.3f" % (CONFIRM, max(0.0, self._deadline - time.monotonic())))

    def _stop_waiting(self) -> None:
        self._deadline = 0.0
        if self._fifo >= 0:
            os.close(self._fifo)
            self._fifo = -1
            confirmation_path(self._path).unlink(missing_ok=True)

    def _bury(self) -> None:
        self._channel.close()
        with suppress(ChildProcessError, ProcessLookupError):
            pidfd = os.pidfd_open(self._pid)
            if not select.select([pidfd], [], [], PATIENCE_WITH_GUARD)[0]:
                os.kill(self._pid, signal.SIGKILL)
            os.close(pidfd)
            os.waitpid(self._pid, 0)


def confirm(journal_path: Path) -> bool:
    """Tell the guard of that journal that its network is good; whether somebody waited for it."""
    try:
        fd = os.open(
            confirmation_path(journal_path), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
        )
    except OSError:  # ENOENT, or ENXIO: nobody listens
        return False
    try:
        os.write(fd, CONFIRM)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _open_both_ways(fifo: Path) -> int:
    """For reading and writing, so that there is no end of file when a writer goes; and by the instance as well as by
    its guard, so that a word is not lost that comes while a guard is replaced."""
    return os.open(fifo, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)


def _fork(path: Path, make_machine: Callable[[], Undoing]) -> tuple[int, socket.socket]:
    parent = Process.current()
    try:
        parent_pidfd = os.pidfd_open(parent.pid)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
    except OSError as error:
        raise HostError(f"cannot start the guard process: {error.strerror}") from error
    if pid == 0:
        _run(path, make_machine, parent, parent_pidfd, theirs)
    os.close(parent_pidfd)
    theirs.close()
    if ours.recv(_LONGEST) != Word.READY.value:
        ours.close()
        os.waitpid(pid, 0)
        raise HostError("the guard process died as it started")
    return pid, ours


def _run(
    path: Path,
    make_machine: Callable[[], Undoing],
    parent: Process,
    parent_pidfd: int,
    channel: socket.socket,
) -> NoReturn:
    """The whole life of the guard."""
    code = 1
    gc.disable()  # what the parent has left to the collector would close descriptors that are ours by now
    try:
        _leave_parent((channel.fileno(), parent_pidfd))
        _Watch(path, parent, parent_pidfd, channel, make_machine()).run()
        code = 0
    except BaseException as error:  # whatever it is: it has nobody to go to
        _say(f"the guard process failed: {error!r}; run `tunsmith restore`")
    finally:
        os._exit(code)


def _leave_parent(kept: tuple[int, ...]) -> None:
    """Let go of everything that is the parent's, but of standard error and the descriptors `kept`."""
    signal.set_wakeup_fd(-1)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.setsid()
    os.chdir("/")
    with suppress(OSError):
        set_process_name(NAME)
        set_process_title(TITLE % os.getppid())
    with suppress(OSError):  # it takes CAP_SYS_RESOURCE
        Path("/proc/self/oom_score_adj").write_text("-1000", encoding="ascii")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    for fd in [int(name) for name in os.listdir("/proc/self/fd")]:
        if fd > 2 and fd not in kept:
            with suppress(OSError):  # the one that listed them
                os.close(fd)


class _Watch:
    """What the guard waits for, and what it does then."""

    __slots__ = ("_channel", "_deadline", "_fifo", "_machine", "_parent", "_parent_pidfd", "_path")

    def __init__(
        self, path: Path, parent: Process, parent_pidfd: int, channel: socket.socket, machine: Undoing
    ) -> None:
        self._path = path
        self._parent = parent
        self._parent_pidfd = parent_pidfd
        self._channel = channel
        self._machine = machine
        self._fifo = -1
        self._deadline = 0.0

    def run(self) -> None:
        """Returns when there is nothing more to guard."""
        self._tell(Word.READY)
        in_time = True
        while in_time and self._parent_holds_on():
            in_time = not self._deadline or time.monotonic() < self._deadline
        self._stop_listening()
        if in_time and self._path.exists():
            self._wait_for_parent(PATIENCE_WITH_DEATH)
        elif not in_time:
            self._tell(Word.UNCONFIRMED)
            if not self._wait_for_parent(PATIENCE_WITH_PARENT, or_release=True):
                signal.pidfd_send_signal(self._parent_pidfd, signal.SIGKILL)
                self._wait_for_parent(PATIENCE_WITH_PARENT)
        self._restore(lift=not in_time)

    def _parent_holds_on(self) -> bool:
        """Wait for the next thing to happen or the end of the time; whether the parent lives and wants a guard."""
        poll = select.poll()
        for fd in (self._channel.fileno(), self._parent_pidfd, self._fifo):
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        left = max(0.0, self._deadline - time.monotonic()) if self._deadline else None
        happened = {fd for fd, _ in poll.poll(None if left is None else 1000 * left + 1)}
        if self._fifo in happened:
            self._stop_listening()
            self._tell(Word.CONFIRMED)
        if self._channel.fileno() in happened:
            return self._hear()
        return self._parent_pidfd not in happened

    def _hear(self) -> bool:
        try:
            word, _, seconds = self._channel.recv(_LONGEST).partition(b" ")
        except OSError:  # it went without reading what we said
            return False
        if word == CONFIRM:
            self._listen(float(seconds))
        return word == CONFIRM

    def _listen(self, seconds: float) -> None:
        self._fifo = _open_both_ways(confirmation_path(self._path))
        self._deadline = time.monotonic() + seconds

    def _stop_listening(self) -> None:
        self._deadline = 0.0
        if self._fifo >= 0:
            os.close(self._fifo)
            self._fifo = -1
            confirmation_path(self._path).unlink(missing_ok=True)

    def _tell(self, word: Word) -> None:
        with suppress(OSError):  # it is dead, or does not listen
            self._channel.send(word.value, socket.MSG_DONTWAIT)

    def _wait_for_parent(self, seconds: float, or_release: bool = False) -> bool:
        """Whether it has ended within `seconds`, or let go of us."""
        watched = [self._parent_pidfd, self._channel.fileno()][: 1 + or_release]
        return bool(select.select(watched, [], [], seconds)[0])

    def _restore(self, lift: bool) -> None:
        """Take back what the parent has left; not what the next instance, which may be there by now, has made."""
        opened = Journal.take_over(self._path, PATIENCE_WITH_CHILDREN, anyway=True)
        if opened is None:
            return
        header = opened.contents.header
        if header is None or header.owner != self._parent:
            return
        for line in restore.summary(restore.replay(opened, self._machine, lift)):
            _say(line)


def _say(line: str) -> None:
    with suppress(OSError):  # a terminal that has gone
        os.write(2, f"tunsmith: {line}\n".encode())
