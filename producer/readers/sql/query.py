"""A query source streams the rows of an operator's SELECT, in a read-only transaction with one snapshot.

PostgreSQL gets a schedule's times as `timestamptz`, in a session whose time zone is UTC, so a column without a zone is
compared as UTC. SQLite gets them as `2026-11-24 01:00:00` in UTC, with a fraction only if there is one. This form
compares with CURRENT_TIMESTAMP and with the values of `datetime()`.
"""

import sqlite3
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, CursorResult, Engine, NullPool, create_engine, event, text
from sqlalchemy.exc import DBAPIError, OperationalError

from models.dialects import driver_errors
from models.dialects.driver_errors import ErrorKind, classify_error, driver_error_code
from models.errors import BatchmillError, SettingsError, Unreachable, UnreadableSource
from models.privacy import urls
from producer.readers import rows_from_records
from producer.readers.column_mapping import ColumnMapping, check_unique
from producer.readers.limits import (
    DEFAULT_LIMITS,
    MAX_ROW_BYTES,
    ROW_TOO_LARGE,
    ROW_TOO_LONG_MESSAGE,
    Limits,
    Meter,
    size_bytes,
)
from producer.readers.rows import Problem, Row, Source
from producer.readers.sql import value_loading
from producer.readers.sql.sql_sources import SqlSource

# Rows fetched at once, and fewer after large ones. The size of the next rows is unknown, so the first fetch is small.
FETCH_ROWS, FIRST_FETCH_ROWS = 256, 16
FETCH_BYTES = 8 * 2**20
MAX_VALUE_BYTES = 4 * MAX_ROW_BYTES  # SQLite's limit for a value or row
STATEMENT_TIMEOUT_CODE = "57014"  # PostgreSQL's
SQLITE_TOO_BIG = "string or blob too big"  # SQLite's message for a value or row over its limit
OnRecord = Callable[[Mapping[str, Any]], None]
STEPS_PER_CLOCK_CHECK = 10_000  # steps of SQLite's virtual machine


class _FetchTimer:
    """The time in which SQLite must find the next rows; PostgreSQL has a statement timeout for each fetch."""

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self.restart()

    def restart(self) -> None:
        """Begin the next fetch."""
        self._deadline = time.monotonic() + self._timeout_seconds

    def has_expired(self) -> bool:
        """Whether the fetch must be interrupted."""
        return time.monotonic() > self._deadline


@contextmanager
def open_query(
    sql_source: SqlSource,
    arguments: Mapping[str, Any],
    columns: ColumnMapping,
    schedule_times: Mapping[str, datetime] | None = None,
    limits: Limits | None = None,
    on_record: OnRecord = lambda _: None,
) -> Iterator[Source]:
    """The rows of an operator's query, from one snapshot; the connection is closed when the block ends.

    arguments: the query's parameters.
    schedule_times: the parameters that only a schedule sets; None = not for a schedule.
    limits: None = the default limits.
    on_record: called with each row's values by column.

    Raises UnreadableSource if the query or its columns are wrong, and SourceTooLarge if its rows exceed the limits.
    Raises Unreachable if its database does not answer within the source's `timeout_seconds`.
    """
    values, limits = sql_source.bind(arguments, schedule_times), limits or DEFAULT_LIMITS
    with closing(_read_rows(sql_source, values, columns, Meter(limits), on_record)) as rows:
        yield Source(sql_source.label, "row", rows, limits=limits)


def _read_rows(
    sql_source: SqlSource, values: dict[str, Any], columns: ColumnMapping, meter: Meter, on_record: OnRecord
) -> Generator[Row | Problem, None, None]:
    engine, timer = _source_engine(sql_source)
    with (
        _translate_errors(sql_source),
        _read_only_transaction(engine) as connection,
        closing(_execute(connection, sql_source, values)) as result,  # it has a cursor on the server
    ):
        header = list(result.keys())
        check_unique(sql_source.label, header, "rename one with AS")
        columns.check_header(sql_source.label, header)
        records = _fetch_records(result, header, timer, meter, sql_source.label)
        yield from rows_from_records(_observe(records, on_record), columns)


def _observe(
    records: Iterator[tuple[int, dict[str, Any]] | Problem], on_record: OnRecord
) -> Iterator[tuple[int, dict[str, Any]] | Problem]:
    for record in records:
        if not isinstance(record, Problem):
            on_record(record[1])
        yield record


def _execute(connection: Connection, sql_source: SqlSource, values: dict[str, Any]) -> CursorResult[Any]:
    if connection.dialect.name == "sqlite":
        values = {name: _utc_text(value) if isinstance(value, datetime) else value for name, value in values.items()}
    streamed = connection.execution_options(stream_results=True, max_row_buffer=FETCH_ROWS)
    return streamed.execute(text(sql_source.query), values)


def _utc_text(value: datetime) -> str:
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ")


@contextmanager
def _read_only_transaction(engine: Engine) -> Iterator[Connection]:
    """A transaction that reads one snapshot, and can write nothing."""
    is_sqlite = engine.dialect.name == "sqlite"
    options: Any = {} if is_sqlite else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with engine.connect().execution_options(**options) as connection:
        # Here, because the variable PGTZ would take precedence over the connection's options.
        connection.exec_driver_sql("BEGIN" if is_sqlite else "SET LOCAL TIME ZONE 'UTC'")
        yield connection


def _fetch_records(
    result: CursorResult[Any], header: list[str], timer: _FetchTimer, meter: Meter, label: str
) -> Iterator[tuple[int, dict[str, Any]] | Problem]:
    number, fetch_rows, max_bytes = 0, min(FIRST_FETCH_ROWS, FETCH_ROWS), 1
    while True:
        timer.restart()
        rows = result.fetchmany(fetch_rows)
        if not rows:
            return
        for row in rows:
            number += 1
            row_bytes = sum(map(size_bytes, row))
            max_bytes = max(max_bytes, row_bytes)
            meter.add(row_bytes, f"{label}, row {number}")
            if row_bytes > MAX_ROW_BYTES:
                yield Problem(number, ROW_TOO_LONG_MESSAGE, ROW_TOO_LARGE)
            else:
                yield number, dict(zip(header, row, strict=True))
        fetch_rows = max(1, min(2 * fetch_rows, FETCH_ROWS, FETCH_BYTES // max_bytes))


def _source_engine(sql_source: SqlSource) -> tuple[Engine, _FetchTimer]:
    timer = _FetchTimer(sql_source.timeout_seconds)
    try:
        url = urls.parse_database_url(sql_source.url)
        if url.get_backend_name() == "sqlite":
            path = url.database or ""
            return create_engine("sqlite://", creator=lambda: _connect_sqlite(path, timer), poolclass=NullPool), timer
        options = f"-c default_transaction_read_only=on -c statement_timeout={round(sql_source.timeout_seconds * 1000)}"
        arguments = {"options": options, "application_name": "batchmill source", "connect_timeout": 10}
        engine = create_engine(url, poolclass=NullPool, hide_parameters=True, connect_args=arguments)
        event.listen(engine, "connect", lambda connection, _record: value_loading.register_safe_loaders(connection))
        return engine, timer
    except ValueError as error:
        raise SettingsError(f"[sources.{sql_source.name}] url: {error}") from None


def _connect_sqlite(path: str, timer: _FetchTimer) -> sqlite3.Connection:
    uri = f"file:{quote(str(Path(path).expanduser().absolute()))}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
    connection.isolation_level = None  # `_read_only_transaction` sends BEGIN
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
        # A statement_timeout that we set does not make the query wrong.
        if classify_error(error) is ErrorKind.REFUSED and driver_error_code(error) != STATEMENT_TIMEOUT_CODE:
            raise _query_error(sql_source, error) from None
        raise Unreachable(f"{sql_source.label} does not answer: {driver_errors.safe_message(error)}") from None
    except DBAPIError as error:
        raise _query_error(sql_source, error) from None
    except (BatchmillError, MemoryError):
        raise
    except Exception as error:  # raised by a driver, for a value that it can't read
        raise UnreadableSource(
            f"{sql_source.label} can't be read any further ({type(error).__name__}); select columns as text"
        ) from error


def _query_error(sql_source: SqlSource, error: DBAPIError) -> UnreadableSource:
    if SQLITE_TOO_BIG in str(error.orig):
        limit = MAX_VALUE_BYTES // 2**20
        return UnreadableSource(f"{sql_source.label} has a row of more than {limit} MiB; leave it out, or cut it")
    return UnreadableSource(f"the query of {sql_source.label} fails: {driver_errors.safe_message(error)}")
