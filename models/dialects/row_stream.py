"""A query's rows straight from the driver, a few at a time.

SQLAlchemy's streams take three times as long on PostgreSQL: a round trip for every few rows, an object for each row.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Dialect, TextClause

from models.dialects.driver_cursor import open_cursor


def stream_rows(
    connection: Connection, query: TextClause, params: Mapping[str, Any], fetch_rows: int
) -> Generator[Sequence[Sequence[Any]]]:
    """Yield lists of at most `fetch_rows` rows, as the driver returns them; no more than one list is in memory.

    connection: in a transaction, which must have begun: the driver's cursor begins none on SQLite. It does nothing else
        until the generator ends or is closed. Closing it early cancels the query, and with it PostgreSQL's transaction.
    params: numbers and texts, which the driver takes as they are
    """
    statement, values = _for_driver(connection.dialect, query, params)
    with open_cursor(connection, statement) as cursor:
        if connection.dialect.name == "postgresql":
            yield from _stream_postgresql(cursor, statement, values, fetch_rows)
            return
        cursor.execute(statement, values)
        while rows := cursor.fetchmany(fetch_rows):
            yield rows


def _for_driver(dialect: Dialect, query: TextClause, params: Mapping[str, Any]) -> tuple[str, Any]:
    """Return the statement and the parameters in the driver's style."""
    compiled: Any = query.compile(dialect=dialect)
    values = compiled.construct_params(params)
    positions = compiled.positiontup
    return compiled.string, values if positions is None else [values[name] for name in positions]


def _stream_postgresql(cursor: Any, statement: str, values: Any, fetch_rows: int) -> Iterator[Sequence[Sequence[Any]]]:
    from psycopg import capabilities  # SQLite does not need it

    size = fetch_rows if capabilities.has_stream_chunked() else 1  # libpq before 17 returns single rows
    with closing(cursor.stream(statement, values, binary=True, size=size)) as rows:
        while chunk := list(islice(rows, fetch_rows)):
            yield chunk
