"""The `tunsmith` command: finds the subcommand, imports that one only, turns errors into one line.

Exit codes: 0 done; 1 failed; 2 the command line is wrong, nothing was changed; 125 this machine cannot do
it. `run` exits with the code of the program it ran, or 125 when it could not start it (as env, nohup and
timeout do).
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from importlib import import_module

import click

from tunsmith import __version__
from tunsmith.errors import TunsmithError, UsageError, WrongConfig

FAILED = 1
WRONG_USAGE = 2
NOT_STARTED = 125
INTERRUPTED = 130
_NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

COMMANDS = {
    "run": "Run one program behind a proxy. No root needed.",
    "up": "Take all traffic of this machine to a proxy, and put everything back afterwards.",
    "demo": "See it at work on a private internet made for the occasion.",
    "restore": "Put the network back that a `tunsmith up` left behind which was killed.",
    "confirm": "Keep what `tunsmith up --confirm SECONDS` has set up.",
    "link": "TUN and TAP interfaces that stay, by hand.",
    "route": "Lead this machine's traffic into such an interface, by hand, and back.",
    "echo": "A TCP echo server on an address of its own, behind a TUN interface.",
    "connect": "Standard input and output over TCP, from an address of its own, like nc.",
}
"""Name of each subcommand and of its module in `tunsmith.cli`, and what `--help` says about it."""


class NeedsLinux(click.ClickException):
    """There are no network namespaces and no TUN to be had."""

    exit_code = NOT_STARTED

    def __init__(self) -> None:
        super().__init__(f"this needs Linux, not {sys.platform}; the library, tunsmith.stack, does not")


class LazyGroup(click.Group):
    """A group whose subcommands are imported when they are used, not when they are listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        if sys.platform != "linux":
            raise NeedsLinux
        command = import_module(f"tunsmith.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=True)
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """Put any program behind a proxy, without root: its own network, a TCP/IP stack in Python.

    \b
    tunsmith run -- curl https://example.com            through this machine's network
    tunsmith run --via socks5://127.0.0.1:1080 -- bash  everything in this shell, UDP and DNS too
    tunsmith run --help                                 more
    """


def main() -> None:
    """Run the command line of this process and exit."""
    _fill_standard_descriptors()
    code = run(sys.argv[1:])
    with suppress(OSError):
        sys.stdout.flush()
    # Not sys.exit: it would wait for threads, and one may hang in a name look-up for half a minute.
    os._exit(code)


def run(arguments: list[str]) -> int:
    """Run `arguments`; returns the exit code. Errors are one line on standard error."""
    try:
        code = cli.main(arguments, prog_name="tunsmith", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return WRONG_USAGE
    except click.UsageError as error:
        hint = f" (see `{error.ctx.command_path} --help`)" if error.ctx else ""
        return complain(f"{error.format_message()}{hint}", WRONG_USAGE)
    except click.ClickException as error:
        return complain(error.format_message(), error.exit_code)
    except WrongConfig as error:
        for fault in error.faults:
            complain(fault, WRONG_USAGE)
        return WRONG_USAGE
    except UsageError as error:
        return complain(str(error), WRONG_USAGE)
    except TunsmithError as error:
        return complain(str(error), FAILED)
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except OSError as error:
        if error.errno not in _NOT_WRITTEN:
            raise
        return complain(f"cannot write to standard output: {error.strerror}", FAILED)


def _fill_standard_descriptors() -> None:
    """Where tunsmith is started with one of them closed, it would get the TUN as its standard error.

    Close-on-exec: a program that we run has them closed again."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - it stays open
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - it stays open


def complain(message: str, code: int) -> int:
    """One line on standard error; returns `code`."""
    line = " ".join(message.split())
    with suppress(OSError):  # nobody reads it, or the disk is full: the exit code remains
        sys.stderr.write(f"tunsmith: {line}\n")
    return code
