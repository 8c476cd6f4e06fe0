"""Each driver's error asks for one thing: the same again, later again, or a person."""

import sqlite3

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError, ProgrammingError

from models import driver_errors
from models.driver_errors import Kind
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
        ("08006", Kind.PASSING), ("08P01", Kind.PASSING), ("53200", Kind.PASSING), ("53300", Kind.PASSING),
        ("53100", Kind.FULL), ("57P01", Kind.PASSING), ("57P03", Kind.PASSING), ("57P05", Kind.PASSING),
        ("58030", Kind.PASSING), ("55P03", Kind.LOCKED), ("25P03", Kind.PASSING), ("40003", Kind.PASSING),
        ("40001", Kind.CONFLICT), ("40P01", Kind.CONFLICT),
        ("42501", Kind.REFUSED), ("42P01", Kind.REFUSED), ("42703", Kind.REFUSED), ("54000", Kind.REFUSED),
        ("22P02", Kind.REFUSED), ("57014", Kind.REFUSED), ("25006", Kind.REFUSED), ("XX001", Kind.REFUSED),
        ("3F000", Kind.REFUSED), ("28000", Kind.REFUSED),
    ],
)  # fmt: skip
def test_sqlstates(state: str, kind: Kind) -> None:
    assert driver_errors.kind_of(of_postgresql(state)) is kind


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_BUSY, Kind.PASSING), (sqlite3.SQLITE_LOCKED_SHAREDCACHE, Kind.PASSING),
        (sqlite3.SQLITE_IOERR_WRITE, Kind.PASSING), (sqlite3.SQLITE_CANTOPEN, Kind.PASSING),
        (sqlite3.SQLITE_PROTOCOL, Kind.PASSING), (sqlite3.SQLITE_FULL, Kind.FULL),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, Kind.CONFLICT),
        (sqlite3.SQLITE_ERROR, Kind.REFUSED), (sqlite3.SQLITE_READONLY, Kind.REFUSED),
        (sqlite3.SQLITE_READONLY_DBMOVED, Kind.REFUSED), (sqlite3.SQLITE_AUTH, Kind.REFUSED),
        (sqlite3.SQLITE_CORRUPT, Kind.REFUSED), (sqlite3.SQLITE_NOTADB, Kind.REFUSED),
    ],
)  # fmt: skip
def test_sqlite_codes(code: int, kind: Kind) -> None:
    assert driver_errors.kind_of(of_sqlite(code)) is kind


def test_without_a_code_a_lost_connection_passes_and_a_statement_that_can_t_be_sent_does_not() -> None:
    silent = psycopg.OperationalError("the connection failed")

    assert driver_errors.kind_of(OperationalError(None, None, silent)) is Kind.PASSING
    assert driver_errors.kind_of(InterfaceError("SELECT", None, silent, connection_invalidated=True)) is Kind.PASSING
    assert driver_errors.kind_of(OperationalError("SELECT", None, silent)) is Kind.REFUSED
    assert driver_errors.kind_of(ProgrammingError("SELECT", None, psycopg.ProgrammingError("x"))) is Kind.FOREIGN


def test_a_constraint_is_the_caller_s_to_judge() -> None:
    error = IntegrityError("INSERT", None, psycopg.errors.UniqueViolation("x"))

    assert driver_errors.translated_error("the database", error) is None


@pytest.mark.parametrize(
    ("state", "raised"),
    [
        ("40P01", TransactionConflict),
        ("55P03", LockTimeout),
        ("57P01", Unreachable),
        ("42501", DatabaseRefused),
    ],
)
def test_each_becomes_an_error_of_ours(state: str, raised: type[Exception]) -> None:
    error = driver_errors.translated_error("the database", of_postgresql(state))

    assert type(error) is raised
    assert error.retryable is (raised is not DatabaseRefused)


def test_a_pooler_that_refuses_what_we_ask_for() -> None:
    words = psycopg.OperationalError("connection failed: FATAL:  unsupported startup parameter: options")

    error = driver_errors.translated_error("the database", OperationalError(None, None, words))

    assert isinstance(error, DatabaseRefused)
    assert "set BATCHMILL_DATABASE_POOLER=1" in str(error)


@pytest.mark.parametrize("state", ["22P02", "22003", "P0001", "XX000"])
def test_what_may_quote_a_row_is_not_quoted(state: str) -> None:
    error = driver_errors.translated_error("the database", of_postgresql(state))

    assert CANARY not in str(error)
    assert state in str(error)


def test_only_the_first_line_is_quoted() -> None:
    error = driver_errors.translated_error("the database", of_postgresql("42501", f"no right\nDETAIL: {CANARY}"))

    assert str(error) == "the database refused a statement: no right; give its role the right to"
