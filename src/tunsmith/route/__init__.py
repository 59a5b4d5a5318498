"""Pure: what a machine's network is, what it should be, and the changes between, each with its undo."""
