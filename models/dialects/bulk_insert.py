"""Inserting many rows the fastest way that each database has."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection

from models.dialects.driver_cursor import open_cursor


def insert_rows(
    connection: Connection,
    table: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    types: Sequence[str] | None = None,
) -> None:
    """Insert many rows the fastest way each database has: COPY on PostgreSQL, one prepared statement on SQLite.

    types: the columns' types on PostgreSQL, to copy in its binary format; None = in its text format, which has no
        vectors

    Values are plain Python objects; documents must be JSON text (see `to_json`), and vectors bytes.
    """
    names = ", ".join(columns)
    is_postgresql = connection.dialect.name == "postgresql"
    values = "FROM STDIN" if is_postgresql else f"VALUES ({', '.join('?' * len(columns))})"
    statement = f"{'COPY' if is_postgresql else 'INSERT INTO'} {table} ({names}) {values}"
    with open_cursor(connection, statement) as cursor:
        if is_postgresql:
            _copy_rows(cursor, statement, rows, types)
        else:
            cursor.executemany(statement, rows)


def _copy_rows(cursor: Any, statement: str, rows: Iterable[Sequence[Any]], types: Sequence[str] | None) -> None:
    if types is not None:
        from models.postgresql import binary_copy  # imports psycopg, which SQLite does not need

        binary_copy.register_dumpers(cursor)
        statement += " (FORMAT BINARY)"
    with cursor.copy(statement) as copy:
        if types is not None:
            copy.set_types(types)
        for row in rows:
            copy.write_row(row)
