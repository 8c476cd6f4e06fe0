"""Each driver's error asks for one thing: the same again, later again, or a person."""

import sqlite3

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError, ProgrammingError

from models.dialects import driver_errors
from models.dialects.driver_errors import ErrorKind
from models.errors import DatabaseRefused, LockTimeout, TransactionConflict, Unreachable

CANARY = "canary of a row"


def of_postgresql(state: str, said: str = CANARY) -> DBAPIError:
    """As SQLAlchemy hands on what PostgreSQL says with this SQLSTATE."""
    kind = psycopg.errors.lookup(state)
    return DBAPIError("SELECT 1", None, kind(said))


def of_sqlite(code: int) -> DBAPIError:
    """The same of SQLite."""
    error = sqlite3.OperationalError("said")
    error.sqlite_errorcode = code
    return OperationalError("SELECT 1", None, error)


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("08006", ErrorKind.TRANSIENT),
        ("08P01", ErrorKind.TRANSIENT),
        ("53200", ErrorKind.TRANSIENT),
        ("53300", ErrorKind.TRANSIENT),
        ("53100", ErrorKind.DISK_FULL),
        ("57P01", ErrorKind.TRANSIENT),
        ("57P03", ErrorKind.TRANSIENT),
        ("57P05", ErrorKind.TRANSIENT),
        ("58030", ErrorKind.TRANSIENT),
        ("55P03", ErrorKind.LOCKED),
        ("25P03", ErrorKind.TRANSIENT),
        ("40003", ErrorKind.TRANSIENT),
        ("40001", ErrorKind.CONFLICT),
        ("40P01", ErrorKind.CONFLICT),
        ("42501", ErrorKind.REFUSED),
        ("42P01", ErrorKind.REFUSED),
        ("42703", ErrorKind.REFUSED),
        ("54000", ErrorKind.REFUSED),
        ("22P02", ErrorKind.REFUSED),
        ("57014", ErrorKind.REFUSED),
        ("25006", ErrorKind.REFUSED),
        ("XX001", ErrorKind.REFUSED),
        ("3F000", ErrorKind.REFUSED),
        ("28000", ErrorKind.REFUSED),
    ],
)
def test_sqlstates(state: str, kind: ErrorKind) -> None:
    assert driver_errors.classify_error(of_postgresql(state)) is kind


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_BUSY, ErrorKind.TRANSIENT),
        (sqlite3.SQLITE_LOCKED_SHAREDCACHE, ErrorKind.TRANSIENT),
        (sqlite3.SQLITE_IOERR_WRITE, ErrorKind.TRANSIENT),
        (sqlite3.SQLITE_CANTOPEN, ErrorKind.TRANSIENT),
        (sqlite3.SQLITE_PROTOCOL, ErrorKind.TRANSIENT),
        (sqlite3.SQLITE_FULL, ErrorKind.DISK_FULL),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, ErrorKind.CONFLICT),
        (sqlite3.SQLITE_ERROR, ErrorKind.REFUSED),
        (sqlite3.SQLITE_READONLY, ErrorKind.REFUSED),
        (sqlite3.SQLITE_READONLY_DBMOVED, ErrorKind.REFUSED),
        (sqlite3.SQLITE_AUTH, ErrorKind.REFUSED),
        (sqlite3.SQLITE_CORRUPT, ErrorKind.REFUSED),
        (sqlite3.SQLITE_NOTADB, ErrorKind.REFUSED),
    ],
)
def test_sqlite_codes(code: int, kind: ErrorKind) -> None:
    assert driver_errors.classify_error(of_sqlite(code)) is kind


def test_without_a_code_a_lost_connection_passes_and_a_statement_that_can_t_be_sent_does_not() -> None:
    silent = psycopg.OperationalError("the connection failed")

    assert driver_errors.classify_error(OperationalError(None, None, silent)) is ErrorKind.TRANSIENT
    assert (
        driver_errors.classify_error(InterfaceError("SELECT", None, silent, connection_invalidated=True))
        is ErrorKind.TRANSIENT
    )
    assert driver_errors.classify_error(OperationalError("SELECT", None, silent)) is ErrorKind.REFUSED
    assert (
        driver_errors.classify_error(ProgrammingError("SELECT", None, psycopg.ProgrammingError("x")))
        is ErrorKind.NOT_TRANSLATED
    )


def test_a_constraint_is_the_caller_s_to_judge() -> None:
    error = IntegrityError("INSERT", None, psycopg.errors.UniqueViolation("x"))

    assert driver_errors.translate_error("the database", error) is None


@pytest.mark.parametrize(
    ("state", "raised"),
    [("40P01", TransactionConflict), ("55P03", LockTimeout), ("57P01", Unreachable), ("42501", DatabaseRefused)],
)
def test_each_becomes_an_error_of_ours(state: str, raised: type[Exception]) -> None:
    error = driver_errors.translate_error("the database", of_postgresql(state))

    assert type(error) is raised
    assert error.retryable is (raised is not DatabaseRefused)


def test_a_pooler_that_refuses_what_we_ask_for() -> None:
    words = psycopg.OperationalError("connection failed: FATAL:  unsupported startup parameter: options")

    error = driver_errors.translate_error("the database", OperationalError(None, None, words))

    assert isinstance(error, DatabaseRefused)
    assert "set BATCHMILL_DATABASE_BEHIND_POOLER=1" in str(error)


@pytest.mark.parametrize("state", ["22P02", "22003", "P0001", "XX000"])
def test_what_may_quote_a_row_is_not_quoted(state: str) -> None:
    error = driver_errors.translate_error("the database", of_postgresql(state))

    assert CANARY not in str(error)
    assert state in str(error)


def test_only_the_first_line_is_quoted() -> None:
    error = driver_errors.translate_error("the database", of_postgresql("42501", f"no right\nDETAIL: {CANARY}"))

    assert str(error) == "the database refused a statement: no right; give its role the right to"


@pytest.mark.parametrize(
    ("cause", "is_data"),
    [
        (of_postgresql("54000"), True),
        (of_postgresql("22003"), True),
        (of_postgresql("22P03"), False),
        (of_postgresql("42501"), False),
        (of_sqlite(sqlite3.SQLITE_TOOBIG), True),
        (of_sqlite(sqlite3.SQLITE_CORRUPT), False),
        (None, False),
    ],
)
def test_refused_values_are_told_from_refused_statements(cause: DBAPIError | None, is_data: bool) -> None:
    error = DatabaseRefused("refused")
    error.__cause__ = cause

    assert driver_errors.is_data_error(error) is is_data
