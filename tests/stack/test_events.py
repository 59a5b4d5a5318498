from __future__ import annotations

from tests.stack.tcp.peer import peer


def test_nobody_owns_a_connection_that_is_over_and_takes_all_that_comes() -> None:
    other = peer()
    connection = other.establish()
    connection.abort(other.now)
    connection.handler.on_fin(connection)
    connection.handler.on_closed(connection, 0)
    assert connection.handler.on_data(connection, memoryview(b"late")) == 4
    assert other.events() == []
