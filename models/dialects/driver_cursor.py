"""The driver's own cursor, for statements in which SQLAlchemy would take most of the time."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError


@contextmanager
def open_cursor(connection: Connection, statement: str) -> Iterator[Any]:
    """Open a cursor for one statement; the driver's errors become SQLAlchemy's, because callers handle only those."""
    driver = connection.dialect.loaded_dbapi
    try:
        # After Ctrl-C an open SQLite statement would keep the file locked, even for us.
        with closing(connection.connection.cursor()) as cursor:
            yield cursor
    except driver.Error as error:
        lost = connection.dialect.is_disconnect(error, connection.connection, None)
        if lost:
            connection.invalidate(error)
        raise DBAPIError.instance(
            statement,
            None,
            error,
            driver.Error,
            hide_parameters=True,
            connection_invalidated=lost,
            dialect=connection.dialect,
        ) from error
