"""Tables of nftables, by the program nft(8): its language is the documented way, and the bytes beneath are not."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable

from tunsmith.errors import HostError

_MISSING = "the program `nft` is missing: install the package nftables"
_PATIENCE = 20.0


def is_there() -> bool:
    """Whether this machine has the program."""
    return shutil.which("nft") is not None


def ruleset() -> str:
    """All rules of this network namespace, "" where there is no nft or it may not look."""
    if not is_there():
        return ""
    done = _run(["nft", "--stateless", "--numeric", "list", "ruleset"])
    return done.stdout if done.returncode == 0 else ""


def tables_in(ruleset: str) -> frozenset[str]:
    """The names of the tables in what `ruleset` says, of all families."""
    return frozenset(re.findall(r"^table \w+ (\S+) \{", ruleset, re.MULTILINE))


def add_table(name: str, text: str, held: Iterable[int] = ()) -> None:
    """Add the table `name`, which `text` is the whole of. Raises HostError, also where there is one of that
    name: it would be added to. The program, which may outlive us, holds the descriptors `held` until it is done."""
    if table(name) is not None:
        raise HostError(
            f"there is a table inet {name} in nftables already: `nft delete table inet {name}` removes it"
        )
    _do(["nft", "-f", "-"], f"add the table inet {name}", text, held)


def delete_table(name: str, held: Iterable[int] = ()) -> None:
    """Delete the table `name` with all that is in it. Raises HostError. `held` as for `add_table`."""
    _do(["nft", "delete", "table", "inet", name], f"delete the table inet {name}", held=held)


def table(name: str) -> str | None:
    """The table `name` as nft lists it, None where there is none."""
    if not is_there():
        return None
    done = _run(["nft", "--stateless", "list", "table", "inet", name])
    return done.stdout if done.returncode == 0 else None


def listed(name: str, text: str) -> str | None:
    """How nft would list the table that `text` makes: asked of a network namespace that is made for it and gone
    afterwards. None where that cannot be told."""
    if not is_there() or shutil.which("unshare") is None:
        return None
    script = f"nft -f - && nft --stateless list table inet {name}"
    done = _run(["unshare", "--net", "sh", "-c", script], text)
    return done.stdout if done.returncode == 0 else None


def _do(command: list[str], what: str, text: str = "", held: Iterable[int] = ()) -> None:
    if not is_there():
        raise HostError(f"cannot {what}: {_MISSING}")
    done = _run(command, text, held)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise HostError(f"cannot {what}: nft says {lines[0]}")


def _run(command: list[str], text: str = "", held: Iterable[int] = ()) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            input=text,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE,
            check=False,
            pass_fds=tuple(held),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(f"cannot run `{command[0]}`: {error}") from error
