"""`python -m tunsmith` is `tunsmith`."""

from __future__ import annotations

from tunsmith.cli.main import main

if __name__ == "__main__":
    main()
