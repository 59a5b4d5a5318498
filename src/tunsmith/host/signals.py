"""Signals on their way to the program: what a wrapper must do so that nobody notices it.

The program shares our process group, so what is typed at the terminal (Ctrl-C, Ctrl-Z) reaches it without
us; what another process sends to *us* is meant for it and is passed on. The kernel tells the two apart
(si_code), and signalfd(2) tells us, which signal handlers in Python cannot. A hang-up is always passed on:
the kernel sends it to the leader of the session only, and that may be us.

A program that stops takes us with it, by the same signal, so that the shell sees its job stopped as it would
without us; SIGCONT wakes both.
"""

from __future__ import annotations

import os
import signal
import struct
from asyncio import AbstractEventLoop
from collections.abc import Callable

from tunsmith.host.sandbox import Sandbox
from tunsmith.host.syscalls import signalfd

RELAYED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGTSTP,
    signal.SIGCONT,
    signal.SIGWINCH,
)
_OF_THE_TERMINAL = (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGWINCH)
_HARMLESS = (signal.SIGCONT, signal.SIGWINCH, signal.SIGCHLD)
_FROM_KERNEL = 0x80  # SI_KERNEL
_SIGINFO = struct.Struct("=Iii116x")  # ssi_signo, ssi_errno, ssi_code


class SignalRelay:
    """Passes signals on to the program of `sandbox` while it runs; from `start` to `close`.

    Before it runs and after it has ended a signal is for tunsmith: `interrupt` is called with its number."""

    __slots__ = ("_fd", "_interrupt", "_loop", "_mask", "_sandbox")

    def __init__(self, sandbox: Sandbox, loop: AbstractEventLoop, interrupt: Callable[[int], None]) -> None:
        self._sandbox = sandbox
        self._loop = loop
        self._interrupt = interrupt
        # Ignored signals stay so (nohup): once blocked they would be queued, not dropped.
        wanted = [number for number in RELAYED if signal.getsignal(number) is not signal.SIG_IGN]
        watched = [*wanted, signal.SIGCHLD]
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
        self._fd = signalfd(watched)
        loop.add_reader(self._fd, self.hear)

    def close(self) -> None:
        """Stop; signals do what they did before."""
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def hear(self) -> None:
        """Act on the signals that have come; the event loop calls this by itself."""
        try:
            records = os.read(self._fd, 16 * _SIGINFO.size)
        except BlockingIOError:
            return
        for number, _, code in _SIGINFO.iter_unpack(records):
            self._on_signal(number, code)

    def _on_signal(self, number: int, code: int) -> None:
        if number == signal.SIGCHLD:
            stopped_by = self._sandbox.stopped_by()
            if stopped_by is not None:
                _stop_by(stopped_by)
        elif self._sandbox.is_running:
            if code != _FROM_KERNEL or number not in _OF_THE_TERMINAL:
                self._sandbox.send_signal(number)
        elif number not in _HARMLESS:
            self._interrupt(number)


def _stop_by(number: int) -> None:
    """Stop this process by signal `number`, which may be blocked, until it is continued."""
    mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
