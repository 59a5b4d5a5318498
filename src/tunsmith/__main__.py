"""Where the command begins, as `tunsmith` and as `python -m tunsmith`.

The first fifty milliseconds are imports, and Ctrl-C may come as early as that. It is no KeyboardInterrupt here:
raised in a callback of the import system that would be printed, and forgotten.
"""

from __future__ import annotations

import os
import signal


def main() -> None:
    """Run the command line of this process and exit."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where it is ignored, as by nohup
        signal.signal(signal.SIGINT, _leave)
    from tunsmith.cli.main import main as command

    command()


def _leave(number: int, _: object) -> None:
    """Until the command has a better answer."""
    os._exit(128 + number)


if __name__ == "__main__":
    main()
