"""Packet scripts: a conversation with a TCP written down, and held against our stack or Linux's. docs/testing.md."""
