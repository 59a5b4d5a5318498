"""The users and the needs of the sandbox tests."""

from __future__ import annotations

from tests.host.conftest import pytest_runtest_setup, user

__all__ = ["pytest_runtest_setup", "user"]
