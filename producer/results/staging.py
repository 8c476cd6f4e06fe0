"""Gathering: rows for a table that others read, in a temporary one first, which locks nobody out.

It goes with its connection. Then everything is merged in one transaction: whoever reads the table sees all of it, or
what was there before. On PostgreSQL all of that is one transaction, since a pooler may give the next one another
session, which has no such table.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    DateTime,
    Double,
    MetaData,
    Text,
    TextClause,
    inspect,
    text,
)
from sqlalchemy import Table as SqlTable

from models.columns import Document
from models.db import Database, insert_rows
from models.errors import UsageError
from models.postgresql.session import LONGEST_NAME
from producer.readers.limits import portions
from producer.results.tabular import Kind

GATHERED = "batchmill_gathered"
CHUNK_ROWS, CHUNK_BYTES = 10_000, 8 * 2**20  # in memory at once
TYPES: dict[Kind, Any] = {
    Kind.TEXT: Text(), Kind.INTEGER: BigInteger(), Kind.NUMBER: Double(), Kind.BOOLEAN: Boolean(),
    Kind.MOMENT: DateTime(timezone=True), Kind.DOCUMENT: Document,
}  # fmt: skip

# WHERE true: without it SQLite takes ON for the beginning of a join.
MERGE = """
INSERT INTO {table} ({names}) SELECT {names} FROM {gathered} WHERE true
ON CONFLICT ({key}) DO UPDATE SET {updates} WHERE {when}
"""


@dataclass(frozen=True, slots=True)
class Shape:
    """A table's columns, and which of them are its key; a row's values come in their order."""

    columns: tuple[tuple[str, Kind], ...]
    key: tuple[str, ...]

    def table(self, name: str, *, keyed: bool = True, **how: Any) -> SqlTable:
        """The table as SQLAlchemy describes it, with its key or without."""
        columns: list[Column[Any]] = [
            Column(column, TYPES[kind], primary_key=keyed and column in self.key) for column, kind in self.columns
        ]
        return SqlTable(name, MetaData(), *columns, **how)


@dataclass(frozen=True, slots=True)
class Difference:
    """How a table differs from a shape, with types as the database spells them."""

    lacking: dict[str, str]
    other: dict[str, tuple[str, str]]  # the type there, and the shape's
    further: tuple[str, ...]
    key: tuple[str, ...]  # the table's


class Gathered:
    """What was gathered, on the connection that has it, which is in no transaction."""

    def __init__(self, connection: Connection, shape: Shape, count: int) -> None:
        self._connection = connection
        self._shape = shape
        self.count = count

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction that may write, for the merge and whatever has to be true together with it.

        Rolled back it can be had again; committed it is the last.
        """
        self._connection.execution_options(read_only=False)
        gathering = self._connection.get_transaction()
        with self._connection.begin_nested() if gathering else self._connection.begin():
            yield self._connection
        if gathering:
            gathering.commit()

    def difference(self, name: str) -> Difference:
        """Make the table where there is none, and hold what is there against the shape."""
        table = self._shape.table(name)
        table.create(self._connection, checkfirst=True)
        dialect, found = self._connection.dialect, inspect(self._connection)
        there = {column["name"]: column["type"].compile(dialect) for column in found.get_columns(name)}
        here = {column.name: column.type.compile(dialect) for column in table.columns}
        return Difference(
            lacking={column: kind for column, kind in here.items() if column not in there},
            other={column: (there[column], kind) for column, kind in here.items() if there.get(column, kind) != kind},
            further=tuple(column for column in there if column not in here),
            key=tuple(found.get_pk_constraint(name)["constrained_columns"]),
        )

    def merge(self, name: str, when: str = "true") -> None:
        """Insert what is new, and update what is there where the condition holds; `excluded` is the new row in it."""
        names = [quoted(column) for column, _ in self._shape.columns]
        key = [quoted(column) for column in self._shape.key]
        merge = MERGE.format(
            table=quoted(name), gathered=GATHERED, names=", ".join(names), key=", ".join(key), when=when,
            updates=", ".join(f"{column} = excluded.{column}" for column in names if column not in key),
        )  # fmt: skip
        self._connection.execute(plain(merge))

    def add_column(self, name: str, column: str, kind: str) -> None:
        """Give the table a column more, empty in the rows that are there."""
        self._connection.execute(plain(f"ALTER TABLE {quoted(name)} ADD COLUMN {quoted(column)} {kind}"))


@contextmanager
def gathered(database: Database, shape: Shape, rows: Iterable[Sequence[Any]]) -> Iterator[Gathered]:
    """Take in all rows, each the values of the shape's columns; what was gathered is gone after the block."""
    _check_names(database, shape)
    how = {"prefixes": ["TEMPORARY"], "postgresql_on_commit": "DROP"}
    table = shape.table(GATHERED, keyed=False, **how)  # its key's index would be for nothing
    with database.session() as connection:
        connection.execution_options(read_only=True)  # on SQLite: no lock of the file, the temporary table is outside
        try:
            table.create(connection)
            yield Gathered(connection, shape, _gather(connection, table, rows))
        finally:
            connection.rollback()
            if connection.dialect.name == "sqlite":
                table.drop(connection, checkfirst=True)
                connection.commit()
            connection.execution_options(read_only=False)


def quoted(name: str) -> str:
    """A name as both databases take it, whatever is in it; SQLAlchemy's own would double a % that COPY leaves so."""
    return '"' + name.replace('"', '""') + '"'


def plain(statement: str) -> TextClause:
    """A statement without parameters: a colon in a name is none."""
    return text(statement.replace(":", "\\:"))


def _check_names(database: Database, shape: Shape) -> None:
    """Raise UsageError where the database would refuse a column's name, or cut it: then it would be another's."""
    longest = LONGEST_NAME if database.engine.dialect.name == "postgresql" else math.inf
    for name, _ in shape.columns:
        if not name:
            raise UsageError("a column of these results has no name, which a table's column needs; write a .jsonl file")
        if (size := len(name.encode())) > longest:
            raise UsageError(
                f"the column {name[:30]!r}… has {size} bytes in its name, and PostgreSQL takes {longest}; write a "
                "file, or submit with a shorter one"
            )


def _gather(connection: Connection, table: SqlTable, rows: Iterable[Sequence[Any]]) -> int:
    names = [quoted(column.name) for column in table.columns]
    is_sqlite = connection.dialect.name == "sqlite"
    count = 0
    for chunk in portions((_stored(row) if is_sqlite else list(row) for row in rows), CHUNK_ROWS, CHUNK_BYTES):
        insert_rows(connection, GATHERED, names, chunk)
        if is_sqlite:
            connection.commit()
            connection.begin()
        count += len(chunk)
    if is_sqlite:
        connection.commit()  # for one that may write
    return count


def _stored(row: Sequence[Any]) -> list[Any]:
    return [_spelled(value) if isinstance(value, datetime) else value for value in row]


def _spelled(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")  # ten times as fast as strftime
