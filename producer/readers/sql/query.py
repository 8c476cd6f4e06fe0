"""Queries as sources: an operator's SELECT, read only, of one moment, and streamed through a cursor on the server.

A schedule's moments come as `timestamptz` to PostgreSQL, in a session whose time zone is UTC, so a column without a
zone is taken for UTC; and to SQLite as `2026-11-24 01:00:00` in UTC, with a fraction only where there is one, which
compares with CURRENT_TIMESTAMP and with what `datetime()` gives.
"""

import sqlite3
import time
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, CursorResult, Engine, NullPool, create_engine, event, text
from sqlalchemy.exc import DBAPIError, OperationalError

from models import driver_errors
from models.driver_errors import Kind, code_of, kind_of
from models.errors import BatchmillError, SettingsError, Unreachable, UnreadableSource
from models.privacy import urls
from producer.readers import rows_of
from producer.readers.limits import DEFAULT_LIMITS, LONGEST_ROW, TOO_LARGE, TOO_LONG, Limits, Meter, size
from producer.readers.rows import Columns, Problem, Row, Source
from producer.readers.sql import value_loading
from producer.readers.sql.sql_sources import Query

# In memory at once: so many rows, and fewer where some of those before were large. How large the next are is not known.
FETCH_ROWS, FIRST_ROWS = 256, 16
FETCH_BYTES = 8 * 2**20
LONGEST_VALUE = 4 * LONGEST_ROW  # bytes, which SQLite refuses to read more of
CANCELLED = "57014"  # PostgreSQL: a statement that took too long
TOO_BIG = "string or blob too big"  # SQLite: a value or row over its limit
STEPS = 10_000  # of SQLite's machine between two looks at the clock


class _Clock:
    """How long SQLite may look for the next rows; PostgreSQL sees to that itself, for each fetch."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.renew()

    def renew(self) -> None:
        """The next fetch begins."""
        self._until = time.monotonic() + self._seconds

    def ran_out(self) -> bool:
        """Whether it is time to interrupt."""
        return time.monotonic() > self._until


@contextmanager
def opened(
    query: Query, bound: Mapping[str, Any], columns: Columns, moments: Mapping[str, datetime] | None = None,
    limits: Limits | None = None,
) -> Iterator[Source]:  # fmt: skip
    """The rows of an operator's query, all as they were when the first was read; its connection closes with the block.

    `moments` are bound where the query names them, and by nobody else. Raises UnreadableSource where the query or its
    columns are wrong, SourceTooLarge where its rows go beyond the limits, and Unreachable when its database does not
    answer within the source's `timeout_seconds`.
    """
    values, limits = query.bound(bound, moments), limits or DEFAULT_LIMITS
    with closing(_rows(query, values, columns, Meter(limits))) as rows:
        yield Source(f"the source {query.name!r}", "row", rows, limits=limits)


def _rows(query: Query, values: dict[str, Any], columns: Columns, meter: Meter) -> Generator[Row | Problem, None, None]:
    engine, clock = _engine(query)
    with (
        _told(query),
        _connected(engine) as connection,
        closing(_executed(connection, query, values)) as result,  # its cursor is the server's
    ):
        header = list(result.keys())
        if twice := next((name for name, count in Counter(header).items() if count > 1), None):
            raise UnreadableSource(f"the source {query.name!r} has two columns {twice[:40]!r}; name one with AS")
        columns.check(f"the source {query.name!r}", header)
        yield from rows_of(_records(result, header, clock, meter, query.name), columns)


def _executed(connection: Connection, query: Query, values: dict[str, Any]) -> CursorResult[Any]:
    if connection.dialect.name == "sqlite":
        values = {name: _spelled(value) if isinstance(value, datetime) else value for name, value in values.items()}
    streamed = connection.execution_options(stream_results=True, max_row_buffer=FETCH_ROWS)
    return streamed.execute(text(query.query), values)


def _spelled(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ")


@contextmanager
def _connected(engine: Engine) -> Iterator[Connection]:
    """A transaction in which all that is read is of one moment, and nothing can be written."""
    is_sqlite = engine.dialect.name == "sqlite"
    one_moment: Any = {} if is_sqlite else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with engine.connect().execution_options(**one_moment) as connection:
        # Said here, since the variable PGTZ would overrule what the connection's options say.
        connection.exec_driver_sql("BEGIN" if is_sqlite else "SET LOCAL TIME ZONE 'UTC'")
        yield connection


def _records(
    result: CursorResult[Any], header: list[str], clock: _Clock, meter: Meter, name: str
) -> Iterator[tuple[int, dict[str, Any]] | Problem]:
    number, count, largest = 0, min(FIRST_ROWS, FETCH_ROWS), 1
    while True:
        clock.renew()
        some = result.fetchmany(count)
        if not some:
            return
        for row in some:
            number += 1
            row_bytes = sum(map(size, row))
            largest = max(largest, row_bytes)
            meter.add(row_bytes, f"the source {name!r}, row {number}")
            if row_bytes > LONGEST_ROW:
                yield Problem(number, TOO_LONG, TOO_LARGE)
            else:
                yield number, dict(zip(header, row, strict=True))
        count = max(1, min(2 * count, FETCH_ROWS, FETCH_BYTES // largest))


def _engine(query: Query) -> tuple[Engine, _Clock]:
    clock = _Clock(query.timeout_seconds)
    try:
        url = urls.parsed_database(query.url)
        if url.get_backend_name() == "sqlite":
            path = url.database or ""
            return create_engine("sqlite://", creator=lambda: _sqlite(path, clock), poolclass=NullPool), clock
        options = f"-c default_transaction_read_only=on -c statement_timeout={round(query.timeout_seconds * 1000)}"
        arguments = {"options": options, "application_name": "batchmill source", "connect_timeout": 10}
        engine = create_engine(url, poolclass=NullPool, hide_parameters=True, connect_args=arguments)
        event.listen(engine, "connect", lambda connection, _record: value_loading.load_values(connection))
        return engine, clock
    except ValueError as error:
        raise SettingsError(f"[sources.{query.name}] url: {error}") from None


def _sqlite(path: str, clock: _Clock) -> sqlite3.Connection:
    address = f"file:{quote(str(Path(path).expanduser().absolute()))}?mode=ro"
    connection = sqlite3.connect(address, uri=True, check_same_thread=False)
    connection.isolation_level = None  # we write BEGIN ourselves
    connection.text_factory = value_loading.text_of
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
    connection.execute("PRAGMA query_only = ON")
    connection.set_progress_handler(clock.ran_out, STEPS)
    return connection


@contextmanager
def _told(query: Query) -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        # Our own statement_timeout is no fault of the query.
        if kind_of(error) is Kind.REFUSED and code_of(error) != CANCELLED:
            raise _wrong(query, error) from None
        raise Unreachable(f"the source {query.name!r} does not answer: {driver_errors.words(error)}") from None
    except DBAPIError as error:
        raise _wrong(query, error) from None
    except (BatchmillError, MemoryError):
        raise
    except Exception as error:  # of a driver, over a value that it can't read
        raise UnreadableSource(
            f"the source {query.name!r} can't be read any further ({type(error).__name__}); select columns as text"
        ) from error


def _wrong(query: Query, error: DBAPIError) -> UnreadableSource:
    if TOO_BIG in str(error.orig):
        most = LONGEST_VALUE // 2**20
        return UnreadableSource(f"the source {query.name!r} has a row of more than {most} MiB; leave it out, or cut it")
    return UnreadableSource(f"the query of the source {query.name!r} fails: {driver_errors.words(error)}")
