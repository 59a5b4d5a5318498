"""Coverage-guided fuzzing with atheris: `python -m tests.fuzz TARGET [SECONDS]`.

Starts from the saved corpus, and saves what it has found to be worth keeping. A crash is written to .artifacts/ and
printed; put it into the corpus when it is mended. At the end it says how many packets `Stack.receive` was given.
"""

from __future__ import annotations

import mmap
import subprocess
import sys
import tempfile
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
ARTIFACTS = Path(__file__).parents[2] / ".artifacts"
LONGEST = 1024
"""Bytes of one input."""


def load(name: str) -> list[bytes]:
    """The saved inputs of a target."""
    path = CORPUS / f"{name}.hex"
    return [bytes.fromhex(line) for line in path.read_text().splitlines()] if path.exists() else []


def save(name: str, inputs: list[bytes]) -> None:
    """Keep `inputs` as the corpus of a target."""
    lines = sorted({each.hex() for each in inputs}, key=lambda line: (len(line), line))
    (CORPUS / f"{name}.hex").write_text("".join(f"{line}\n" for line in lines))


class Tally:
    """A number in a file: libFuzzer ends its process without a word."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 8)

    @property
    def number(self) -> int:
        return int.from_bytes(self._map, "little")

    def add(self, number: int) -> None:
        self._map[:] = (self.number + number).to_bytes(8, "little")


def fuzz(launcher: str, name: str, arguments: list[str]) -> None:
    """In a process of its own: libFuzzer never returns, and starts `launcher` again where it merges."""
    import atheris

    with atheris.instrument_imports(include=["tunsmith"]):
        from tests.fuzz.targets import run

    packets = Tally(Path(launcher).with_name("packets"))
    atheris.Setup([launcher, *arguments], lambda data: packets.add(run(name, data)))
    atheris.Fuzz()


def main(name: str, seconds: int) -> int:
    """Fuzz a target for a while, then keep the smallest set of inputs that covers as much."""
    ARTIFACTS.mkdir(exist_ok=True)
    usual = [f"-max_len={LONGEST}", "-verbosity=0", f"-artifact_prefix={ARTIFACTS}/fuzz-{name}-"]
    with tempfile.TemporaryDirectory() as place:
        found, kept, launcher, packets = (
            Path(place) / part for part in ("found", "kept", "launcher", "packets")
        )
        found.mkdir()
        kept.mkdir()
        packets.write_bytes(bytes(8))
        launcher.write_text(
            f'#!/bin/sh\nexec {sys.executable} -B -m tests.fuzz --inside {launcher} {name} "$@"\n'
        )
        launcher.chmod(0o755)
        for number, data in enumerate(load(name)):
            (found / str(number)).write_bytes(data)
        limits = [f"-max_total_time={seconds}", "-print_final_stats=1", "-timeout=10"]
        done = subprocess.run([launcher, *usual, *limits, found], check=False)
        print(f"{Tally(packets).number:,} packets to Stack.receive", flush=True)
        subprocess.run([launcher, *usual, "-merge=1", kept, found], check=True)
        save(name, [path.read_bytes() for path in kept.iterdir()])
    return done.returncode


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        fuzz(sys.argv[2], sys.argv[3], sys.argv[4:])
    else:
        sys.exit(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 60))
