"""The database: one engine, two dialects, and transactions that raise our own errors."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import ConnectionPoolEntry

from models.dialects import sqlite
from models.dialects.driver_errors import UNWRITABLE_SQLITE_CODES, driver_error_code, translate_error
from models.dialects.fragments import SQL_FRAGMENTS
from models.documents import from_json
from models.errors import BatchmillError, DatabaseRefused, LockTimeout, SettingsError, TransactionConflict, Unreachable
from models.postgresql import session
from models.postgresql.turnstile import FairSemaphore
from models.privacy import private_files, urls

# A process that freezes inside a transaction would keep its batch's row locked and block all other writers. PostgreSQL
# ends its session after this idle time; the process notices when it resumes, and repeats or drops the work.
IDLE_IN_TRANSACTION_SECONDS = 30.0

# Most attempts of a transaction that conflicts with others, with pauses of up to 0.1, 0.2, 0.4 … seconds.
MAX_TRANSACTION_ATTEMPTS = 6
RETRY_BASE_SECONDS = 0.1

POOL_TIMEOUT_SECONDS = 60.0  # how long a thread waits for a free connection

Done = TypeVar("Done")


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """Options of the connection pool for PostgreSQL.

    max_connections: most connections at once, None = one per thread that needs one
    behind_pooler: see `models.postgresql.session.create_postgresql_engine`

    A thread waits up to POOL_TIMEOUT_SECONDS for a free connection. A thread that holds the last one and needs another
    therefore blocks itself until the timeout.
    """

    max_connections: int | None = None
    behind_pooler: bool = False


UNBOUNDED_POOL = PoolOptions()


class Database:
    """A database to read from and write to, which connects on first use."""

    def __init__(
        self,
        url: str,
        *,
        connect_timeout_seconds: float = 5.0,
        idle_seconds: float = IDLE_IN_TRANSACTION_SECONDS,
        is_ours: bool = True,
        pool: PoolOptions = UNBOUNDED_POOL,
    ) -> None:
        """Prepare the engine without connecting.

        url: URL of the database
        connect_timeout_seconds: how long connecting may take
        idle_seconds: how long a transaction may be idle on PostgreSQL
        is_ours: False = a foreign database that must exist; SQLite's settings in its file stay unchanged
        pool: limits on connections to PostgreSQL
        """
        self.url = url
        self._is_ours = is_ours
        self._pool = pool
        self.engine = _create_engine(url, connect_timeout_seconds, idle_seconds, is_ours, pool)
        self.sql = SQL_FRAGMENTS[self.engine.dialect.name]
        self._lock_timeout_seconds: float | None = None
        is_bounded = pool.max_connections is not None and self.engine.dialect.name == "postgresql"
        self._connection_permits = FairSemaphore(pool.max_connections or 1) if is_bounded else None

    def with_lock_timeout(self, timeout_seconds: float) -> "Database":
        """Return this database with a lock timeout: its transactions raise LockTimeout after waiting this long.

        Callers that share a connection must not hold it while another transaction runs. The timeout has no effect on
        SQLite, which waits for its single writer.
        """
        hasty = copy(self)
        hasty._lock_timeout_seconds = timeout_seconds
        return hasty

    def with_separate_connection(self, idle_seconds: float) -> "Database":
        """Return the same database with a separate connection, for a transaction beside others; the caller closes it.

        idle_seconds: how long a transaction may be idle on PostgreSQL
        """
        pool = replace(self._pool, max_connections=1)
        return Database(self.url, idle_seconds=idle_seconds, is_ours=self._is_ours, pool=pool)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction that may write; SQLite takes the write lock at once, so it can't fail later."""
        with self._guard_connection(), self.engine.begin() as connection:
            if self._lock_timeout_seconds is not None and self.engine.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = {round(self._lock_timeout_seconds * 1000)}")
            yield connection

    def transact(self, work: Callable[[Connection], Done]) -> Done:
        """Run `work` in a transaction, and retry it when it conflicts with another transaction.

        work: a short function that may run several times, so it must change nothing but the database

        Raises TransactionConflict if each attempt ends in a deadlock or a serialization failure, LockTimeout if a lock
        is never free, and Unreachable.
        """
        again = TransactionConflict if self._lock_timeout_seconds is not None else (TransactionConflict, LockTimeout)
        for tries in range(1, MAX_TRANSACTION_ATTEMPTS):
            try:
                with self.write() as connection:
                    return work(connection)
            except again:
                time.sleep(random.uniform(0.0, RETRY_BASE_SECONDS * 2 ** (tries - 1)))  # noqa: S311
        with self.write() as connection:
            return work(connection)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a transaction that only reads; on SQLite it does not wait for the writer."""
        with self._guard_connection(), self.engine.connect().execution_options(read_only=True) as connection:
            yield connection

    @contextmanager
    def statement(self, *, read_only: bool = True) -> Iterator[Connection]:
        """Open a connection for one statement, which commits by itself: PostgreSQL gets no BEGIN and no ROLLBACK.

        It is meant for periodic statements of idle processes. The lock timeout does not apply, so the statement must
        skip locked rows or wait only for short transactions.
        """
        if self.engine.dialect.name != "postgresql":
            with self.read() if read_only else self.write() as connection:
                yield connection
            return
        with (
            self._guard_connection(),
            self.engine.connect().execution_options(isolation_level=session.AUTOCOMMIT) as connection,
        ):
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Open a read-only transaction in which all queries see the same data; it blocks no writer."""
        # SQLite's read transactions are always snapshots.
        one_moment: Any = {"isolation_level": "REPEATABLE READ"} if self.engine.dialect.name == "postgresql" else {}
        with (
            self._guard_connection(),
            self.engine.connect().execution_options(read_only=True, **one_moment) as connection,
        ):
            yield connection

    @contextmanager
    def session(self) -> Iterator[Connection]:
        """Open a connection for several transactions that share temporary tables; the caller begins each of them.

        A transaction may write, unless the execution option `read_only` was set before it.
        """
        with self._guard_connection(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def _guard_connection(self) -> Iterator[None]:
        """Wait for a connection, first come first served, and raise our own errors in place of the driver's."""
        if self._connection_permits is not None and not self._connection_permits.acquire(POOL_TIMEOUT_SECONDS):
            raise Unreachable(f"the database at {urls.redact_url(self.url)}: each connection of this process is in use")
        try:
            with translate_driver_errors(self.url, is_ours=self._is_ours):
                yield
        except DatabaseRefused as error:
            from models.postgresql import privileges  # needed only when a right is missing

            raise privileges.explain_refusal(self.engine, error) from error.__cause__
        finally:
            if self._connection_permits is not None:
                self._connection_permits.release()

    def close(self) -> None:
        """Close every connection; one that is in use is closed when its user is done."""
        event.listen(self.engine.pool, "checkin", _close_returned)  # also of the pool that replaces this one
        self.engine.dispose()


def _close_returned(_driver: Any, record: ConnectionPoolEntry) -> None:
    record.close()


@contextmanager
def translate_driver_errors(url: str, *, is_ours: bool = False) -> Iterator[None]:
    """Translate driver errors into our own, except constraint violations, which the caller handles.

    is_ours: whether the database is Batchmill's, so that its file must be writable
    """
    try:
        yield
    except DBAPIError as error:
        refusal = _explain_unwritable_file(url, error) if is_ours else None
        ours = refusal or translate_error(f"the database at {urls.redact_url(url)}", error)
        if ours is None:
            raise
        raise ours from error


def _explain_unwritable_file(url: str, error: DBAPIError) -> BatchmillError | None:
    """Return the error that names the folder, if SQLite failed because its file can't be written to."""
    path = urls.parse_database_url(url).database
    if driver_error_code(error) not in UNWRITABLE_SQLITE_CODES or not path:
        return None
    return private_files.find_refusal(Path(path).absolute())


def _create_engine(
    url: str, connect_timeout_seconds: float, idle_seconds: float, is_ours: bool, pool: PoolOptions
) -> Engine:
    try:
        parsed = urls.parse_database_url(url)
        if parsed.get_backend_name() == "sqlite":
            create = sqlite.create_own_engine if is_ours else sqlite.create_foreign_engine
            return create(parsed, connect_timeout_seconds)
        return session.create_postgresql_engine(
            parsed,
            connect_timeout_seconds=connect_timeout_seconds,
            idle_seconds=idle_seconds,
            max_connections=pool.max_connections,
            behind_pooler=pool.behind_pooler,
            json_deserializer=from_json,
            hide_parameters=True,  # error messages must not quote inputs
        )
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        # SQLAlchemy's own messages quote the URL, which may contain a password.
        reason = str(error) if type(error) is ValueError else "SQLAlchemy does not take it"
        raise SettingsError(f"database_url: {reason}") from None
