"""Run packet scripts: `python -m tunsmith.testing.script [--kernel] FILE...`.

On our stack, in both families. With `--kernel`, those that are marked `kernel` on this machine's Linux instead,
as root in a network namespace of its own: `unshare --net python -m tunsmith.testing.script --kernel FILE...`.
A folder stands for the scripts below it. Prints a line for each run; exits with 1 when one fails.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tunsmith.errors import DeviceError, HostError
from tunsmith.testing.script.parser import ScriptError, parse_file
from tunsmith.testing.script.run import run_on_stack
from tunsmith.testing.script.runner import ScriptFailure
from tunsmith.testing.script.statements import Script
from tunsmith.wire.ip import IPV4, IPV6, IpFamily


def scripts_in(names: list[str]) -> list[Path]:
    """The files that `names`, files and folders, stand for."""
    found: list[Path] = []
    for name in names:
        path = Path(name)
        found += sorted(path.rglob("*.script")) if path.is_dir() else [path]
    return found


def run_all(scripts: list[Script], run: Callable[[Script, IpFamily], None]) -> int:
    """Run every script in both families; how many runs failed."""
    failures = 0
    for script in scripts:
        for family in (IPV4, IPV6):
            try:
                run(script, family)
                print(f"ok     {script.file} IPv{family.version}")
            except (ScriptFailure, ScriptError) as failure:
                failures += 1
                print(f"failed {failure}\n")
    return failures


def leads_elsewhere(routes: str) -> bool:
    """Whether /proc/net/route shows a default route, as in the network of a machine, whose switches are not ours."""
    return any(line.split()[1] == "00000000" for line in routes.splitlines()[1:])


def main(arguments: list[str]) -> int:
    """Run what `arguments` name; the exit code."""
    if arguments[:1] in (["-h"], ["--help"]):
        print(__doc__)
        return 0
    kernel = arguments[:1] == ["--kernel"]
    try:
        scripts = [parse_file(path) for path in scripts_in(arguments[kernel:])]
    except ScriptError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    if not scripts:
        print(__doc__, file=sys.stderr)
        return 2
    with ExitStack() as stack:
        run: Callable[[Script, IpFamily], None] = run_on_stack
        if kernel:
            from tunsmith.testing.script.kernel_bench import KernelBench

            try:
                if leads_elsewhere(Path("/proc/net/route").read_text()):
                    raise HostError("this one has a default route already")
                run = stack.enter_context(KernelBench()).run
            except (OSError, DeviceError, HostError) as error:
                print(
                    f"--kernel wants root and a network of its own, `unshare --net …`: {error}",
                    file=sys.stderr,
                )
                return 2
            scripts = [script for script in scripts if script.kernel]
        failures = run_all(scripts, run)
    print(f"{2 * len(scripts)} runs, {failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
