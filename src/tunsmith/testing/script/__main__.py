"""Run packet scripts on our stack, in both families: `python -m tunsmith.testing.script FILE...`.

A folder stands for the scripts below it. Exits with 1 when one fails.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tunsmith.testing.script.parser import ScriptError, parse_file
from tunsmith.testing.script.run import run_on_stack
from tunsmith.testing.script.runner import ScriptFailure
from tunsmith.wire.ip import IPV4, IPV6


def scripts_in(names: list[str]) -> list[Path]:
    """The files that `names`, files and folders, stand for."""
    found: list[Path] = []
    for name in names:
        path = Path(name)
        found += sorted(path.rglob("*.script")) if path.is_dir() else [path]
    return found


def main(names: list[str]) -> int:
    """Run the scripts in `names`; the exit code."""
    runs = failures = 0
    try:
        for path in scripts_in(names):
            script = parse_file(path)
            for family in (IPV4, IPV6):
                runs += 1
                try:
                    run_on_stack(script, family)
                except ScriptFailure as failure:
                    failures += 1
                    print(failure, end="\n\n")
    except (ScriptError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{runs} runs, {failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
