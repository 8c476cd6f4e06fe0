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
from models.driver_errors import ErrorKind, classify_error, driver_error_code
from models.errors import BatchmillError, SettingsError, Unreachable, UnreadableSource
from models.privacy import urls
from producer.readers import rows_from_records
from producer.readers.limits import (
    DEFAULT_LIMITS,
    MAX_ROW_BYTES,
    ROW_TOO_LARGE,
    ROW_TOO_LONG_MESSAGE,
    Limits,
    Meter,
    size_bytes,
)
from producer.readers.rows import ColumnMapping, Problem, Row, Source
from producer.readers.sql import value_loading
from producer.readers.sql.sql_sources import SqlSource

# In memory at once: so many rows, and fewer where some of those before were large. How large the next are is not known.
FETCH_ROWS, FIRST_FETCH_ROWS = 256, 16
FETCH_BYTES = 8 * 2**20
MAX_VALUE_BYTES = 4 * MAX_ROW_BYTES  # bytes, which SQLite refuses to read more of
STATEMENT_TIMEOUT_CODE = "57014"  # PostgreSQL: a statement that took too long
SQLITE_TOO_BIG = "string or blob too big"  # SQLite: a value or row over its limit
STEPS_PER_CLOCK_CHECK = 10_000  # of SQLite's machine between two looks at the clock


class _FetchTimer:
    """How long SQLite may look for the next rows; PostgreSQL sees to that itself, for each fetch."""

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self.restart()

    def restart(self) -> None:
        """The next fetch begins."""
        self._deadline = time.monotonic() + self._timeout_seconds

    def has_expired(self) -> bool:
        """Whether it is time to interrupt."""
        return time.monotonic() > self._deadline


@contextmanager
def open_query(
    sql_source: SqlSource,
    arguments: Mapping[str, Any],
    columns: ColumnMapping,
    schedule_times: Mapping[str, datetime] | None = None,
    limits: Limits | None = None,
) -> Iterator[Source]:
    """The rows of an operator's query, all as they were when the first was read; its connection closes with the block.

    `moments` are bound where the query names them, and by nobody else. Raises UnreadableSource where the query or its
    columns are wrong, SourceTooLarge where its rows go beyond the limits, and Unreachable when its database does not
    answer within the source's `timeout_seconds`.
    """
    values, limits = sql_source.bind(arguments, schedule_times), limits or DEFAULT_LIMITS
    with closing(_read_rows(sql_source, values, columns, Meter(limits))) as rows:
        yield Source(f"the source {sql_source.name!r}", "row", rows, limits=limits)


def _read_rows(
    sql_source: SqlSource, values: dict[str, Any], columns: ColumnMapping, meter: Meter
) -> Generator[Row | Problem, None, None]:
    engine, clock = _source_engine(sql_source)
    with (
        _translate_errors(sql_source),
        _read_only_transaction(engine) as connection,
        closing(_execute(connection, sql_source, values)) as result,  # its cursor is the server's
    ):
        header = list(result.keys())
        if twice := next((name for name, count in Counter(header).items() if count > 1), None):
            raise UnreadableSource(f"the source {sql_source.name!r} has two columns {twice[:40]!r}; name one with AS")
        columns.check_header(f"the source {sql_source.name!r}", header)
        yield from rows_from_records(_fetch_records(result, header, clock, meter, sql_source.name), columns)


def _execute(connection: Connection, sql_source: SqlSource, values: dict[str, Any]) -> CursorResult[Any]:
    if connection.dialect.name == "sqlite":
        values = {name: _utc_text(value) if isinstance(value, datetime) else value for name, value in values.items()}
    streamed = connection.execution_options(stream_results=True, max_row_buffer=FETCH_ROWS)
    return streamed.execute(text(sql_source.query), values)


def _utc_text(value: datetime) -> str:
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ")


@contextmanager
def _read_only_transaction(engine: Engine) -> Iterator[Connection]:
    """A transaction in which all that is read is of one moment, and nothing can be written."""
    is_sqlite = engine.dialect.name == "sqlite"
    one_moment: Any = {} if is_sqlite else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with engine.connect().execution_options(**one_moment) as connection:
        # Said here, since the variable PGTZ would overrule what the connection's options say.
        connection.exec_driver_sql("BEGIN" if is_sqlite else "SET LOCAL TIME ZONE 'UTC'")
        yield connection


def _fetch_records(
    result: CursorResult[Any], header: list[str], timer: _FetchTimer, meter: Meter, source_name: str
) -> Iterator[tuple[int, dict[str, Any]] | Problem]:
    number, count, largest = 0, min(FIRST_FETCH_ROWS, FETCH_ROWS), 1
    while True:
        timer.restart()
        some = result.fetchmany(count)
        if not some:
            return
        for row in some:
            number += 1
            row_bytes = sum(map(size_bytes, row))
            largest = max(largest, row_bytes)
            meter.add(row_bytes, f"the source {source_name!r}, row {number}")
            if row_bytes > MAX_ROW_BYTES:
                yield Problem(number, ROW_TOO_LONG_MESSAGE, ROW_TOO_LARGE)
            else:
                yield number, dict(zip(header, row, strict=True))
        count = max(1, min(2 * count, FETCH_ROWS, FETCH_BYTES // largest))


def _source_engine(sql_source: SqlSource) -> tuple[Engine, _FetchTimer]:
    clock = _FetchTimer(sql_source.timeout_seconds)
    try:
        url = urls.parse_database_url(sql_source.url)
        if url.get_backend_name() == "sqlite":
            path = url.database or ""
            return create_engine("sqlite://", creator=lambda: _connect_sqlite(path, clock), poolclass=NullPool), clock
        options = f"-c default_transaction_read_only=on -c statement_timeout={round(sql_source.timeout_seconds * 1000)}"
        arguments = {"options": options, "application_name": "batchmill source", "connect_timeout": 10}
        engine = create_engine(url, poolclass=NullPool, hide_parameters=True, connect_args=arguments)
        event.listen(engine, "connect", lambda connection, _record: value_loading.register_safe_loaders(connection))
        return engine, clock
    except ValueError as error:
        raise SettingsError(f"[sources.{sql_source.name}] url: {error}") from None


def _connect_sqlite(path: str, timer: _FetchTimer) -> sqlite3.Connection:
    address = f"file:{quote(str(Path(path).expanduser().absolute()))}?mode=ro"
    connection = sqlite3.connect(address, uri=True, check_same_thread=False)
    connection.isolation_level = None  # we write BEGIN ourselves
    connection.text_factory = value_loading.decode_text
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
    connection.execute("PRAGMA query_only = ON")
    connection.set_progress_handler(timer.has_expired, STEPS_PER_CLOCK_CHECK)
    return connection


@contextmanager
def _translate_errors(sql_source: SqlSource) -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        # Our own statement_timeout is no fault of the query.
        if classify_error(error) is ErrorKind.REFUSED and driver_error_code(error) != STATEMENT_TIMEOUT_CODE:
            raise _query_error(sql_source, error) from None
        raise Unreachable(
            f"the source {sql_source.name!r} does not answer: {driver_errors.safe_message(error)}"
        ) from None
    except DBAPIError as error:
        raise _query_error(sql_source, error) from None
    except (BatchmillError, MemoryError):
        raise
    except Exception as error:  # of a driver, over a value that it can't read
        raise UnreadableSource(
            f"the source {sql_source.name!r} can't be read any further ({type(error).__name__}); select columns as text"
        ) from error


def _query_error(sql_source: SqlSource, error: DBAPIError) -> UnreadableSource:
    if SQLITE_TOO_BIG in str(error.orig):
        most = MAX_VALUE_BYTES // 2**20
        return UnreadableSource(
            f"the source {sql_source.name!r} has a row of more than {most} MiB; leave it out, or cut it"
        )
    return UnreadableSource(f"the query of the source {sql_source.name!r} fails: {driver_errors.safe_message(error)}")
