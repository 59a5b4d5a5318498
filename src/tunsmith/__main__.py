"""Where the command begins, as `tunsmith` and as `python -m tunsmith`.

The first fifty milliseconds are imports, and Ctrl-C may come as early as that.
"""

from __future__ import annotations

import os

INTERRUPTED = 130


def main() -> None:
    """Run the command line of this process and exit."""
    try:
        from tunsmith.cli.main import main as command

        command()
    except KeyboardInterrupt:
        os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
