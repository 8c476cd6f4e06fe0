"""Pure classification of driver errors into transient ones and ones that last until somebody acts.

PostgreSQL's SQLSTATE or SQLite's error code decides. An unknown code counts as a refusal, because repeating the same
statement forever does not help. Only the driver's primary message is quoted, and only if it can't contain row values.
"""

import sqlite3
from enum import Enum
from typing import Any

from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError

from models.errors import BatchmillError, DatabaseRefused, LockTimeout, TransactionConflict, Unreachable
from models.foreign_errors import first_line


class ErrorKind(Enum):
    """The reaction that an error calls for."""

    CONFLICT = "conflict"  # another transaction won: retry the same work at once
    LOCKED = "locked"  # a lock was not free in time: retry the same work
    DISK_FULL = "full"  # retry; passes once somebody makes room
    TRANSIENT = "passing"  # the connection, the server or its machine: retry later
    REFUSED = "refused"  # the same statement would fail again
    NOT_TRANSLATED = "foreign"  # a constraint or a bug of ours: the caller decides


# Connections; serialization failures and deadlocks; resources; operator shutdown; system errors.
TRANSIENT_CLASSES = ("08", "40", "53", "57P", "58")
# Sessions that the server ended because of an idle or long transaction.
TRANSIENT_STATES = frozenset({"25P03", "25P04"})
LOCK_TIMEOUT_STATE = "55P03"
CONFLICT_STATES = frozenset({"40001", "40P01"})
DISK_FULL_STATE = "53100"

# Values that can't be stored, and limits such as jsonb's size and depth.
DATA_CLASSES = ("22", "54")
FORMAT_STATES = frozenset({"22P03"})  # of a binary COPY whose columns have other types than ours

TRANSIENT_SQLITE_CODES = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_SCHEMA,
    }
)

# SQLite's answers where a file or its folder may not be written to; the reason must be looked up.
UNWRITABLE_SQLITE_CODES = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY})

# Classes with messages that name tables, columns, constraints, roles and settings, but never quote a row's values.
QUOTABLE_CLASSES = ("0A", "23", "25", "28", "3D", "3F", "42", "54", "55", "57", *TRANSIENT_CLASSES)

POOLER_MESSAGE = "unsupported startup parameter"
POOLER_ADVICE = "if a pooler such as PgBouncer is in between, set BATCHMILL_DATABASE_BEHIND_POOLER=1"
ADVICE_BY_CODE = {
    "42501": "give its role the right to",
    "25006": "name its primary server, which takes writes",
    "3F000": "name a schema that there is in its role's search_path, and that it may make tables in",
    "42P01": "see whether its tables are this version's: batchmill doctor",
    "42703": "see whether its tables are this version's: batchmill doctor",
    "26000": POOLER_ADVICE,
    "42P05": POOLER_ADVICE,
    "57014": "if nobody cancelled it, raise the role's statement_timeout",
    sqlite3.SQLITE_ERROR: "see whether its tables are this version's: batchmill doctor",
    sqlite3.SQLITE_READONLY: "make the file and its folder writable",
    sqlite3.SQLITE_CORRUPT: "restore it from a backup",
    sqlite3.SQLITE_NOTADB: "name another file, or restore it from a backup",
}
DEFAULT_ADVICE = "its log may say more"


def classify_error(error: DBAPIError) -> ErrorKind:
    """Classify an error of either driver."""
    if isinstance(error, IntegrityError):
        return ErrorKind.NOT_TRANSLATED
    code = driver_error_code(error)
    if _is_pooler_error(error):
        return ErrorKind.REFUSED
    if code is None:
        return _classify_without_code(error)
    return _classify_sqlstate(code) if isinstance(code, str) else _classify_sqlite(error.orig)


def driver_error_code(error: DBAPIError) -> str | int | None:
    """The SQLSTATE or SQLite's primary error code; None if the driver failed before the database replied."""
    state: str | None = getattr(error.orig, "sqlstate", None)
    code: int | None = getattr(error.orig, "sqlite_errorcode", None)
    return state if code is None else code & 0xFF


def translate_error(database: str, error: DBAPIError) -> BatchmillError | None:
    """Build the error to raise instead, which names `database`; None if the caller decides."""
    kind = classify_error(error)
    if kind is ErrorKind.CONFLICT:
        return TransactionConflict(
            f"{database} broke a transaction off, since others changed the same rows at the same time; run it again"
        )
    if kind is ErrorKind.LOCKED:
        return LockTimeout(f"{database} has rows that another transaction keeps locked; run it again when that is done")
    if kind is ErrorKind.DISK_FULL:
        return Unreachable(f"{database} is full; make room on its disk")
    if kind is ErrorKind.TRANSIENT:
        return Unreachable(f"{database} does not answer: {safe_message(error)}")
    if kind is ErrorKind.REFUSED:
        advice = (
            POOLER_ADVICE
            if _is_pooler_error(error)
            else ADVICE_BY_CODE.get(driver_error_code(error) or "", DEFAULT_ADVICE)
        )
        return DatabaseRefused(f"{database} refused a statement: {safe_message(error)}; {advice}")
    return None


def is_data_error(error: DatabaseRefused) -> bool:
    """Whether the database refused the values of a statement, and would take the statement with others."""
    cause = error.__cause__
    code = driver_error_code(cause) if isinstance(cause, DBAPIError) else None
    if isinstance(code, str):
        return code.startswith(DATA_CLASSES) and code not in FORMAT_STATES
    return code == sqlite3.SQLITE_TOOBIG


def safe_message(error: DBAPIError) -> str:
    """The first line of the driver's message, or only the error's name and code if the message may quote values."""
    original = error.orig if isinstance(error.orig, Exception) else error
    code = driver_error_code(error)
    if isinstance(code, str) and not code.startswith(QUOTABLE_CLASSES):
        return f"{type(original).__name__}, SQLSTATE {code}"
    if code is None and not isinstance(error, OperationalError):  # raised for a bad value
        return type(original).__name__
    return first_line(original)


def _is_pooler_error(error: DBAPIError) -> bool:
    """Whether a pooler before PostgreSQL refuses our startup parameters; poolers report that in English only."""
    return POOLER_MESSAGE in str(error.orig)


def _classify_without_code(error: DBAPIError) -> ErrorKind:
    # A lost connection is transient, but a statement that a working connection can't send will never succeed.
    if error.connection_invalidated:
        return ErrorKind.TRANSIENT
    if isinstance(error, OperationalError | InterfaceError):
        return ErrorKind.TRANSIENT if error.statement is None else ErrorKind.REFUSED
    if error.statement is None:  # the driver rejects an option of the URL
        return ErrorKind.REFUSED
    return ErrorKind.NOT_TRANSLATED


def _classify_sqlstate(state: str) -> ErrorKind:
    if state in CONFLICT_STATES:
        return ErrorKind.CONFLICT
    if state == LOCK_TIMEOUT_STATE:
        return ErrorKind.LOCKED
    if state == DISK_FULL_STATE:
        return ErrorKind.DISK_FULL
    passing = state in TRANSIENT_STATES or state.startswith(TRANSIENT_CLASSES)
    return ErrorKind.TRANSIENT if passing else ErrorKind.REFUSED


def _classify_sqlite(error: Any) -> ErrorKind:
    code: int = error.sqlite_errorcode
    if code == sqlite3.SQLITE_BUSY_SNAPSHOT:
        return ErrorKind.CONFLICT
    if code & 0xFF == sqlite3.SQLITE_FULL:
        return ErrorKind.DISK_FULL
    return ErrorKind.TRANSIENT if code & 0xFF in TRANSIENT_SQLITE_CODES else ErrorKind.REFUSED
