"""TCP, RFC 9293: one idea a file; connection.py coordinates."""
