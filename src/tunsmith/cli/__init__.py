"""One module a command; no logic of its own."""
