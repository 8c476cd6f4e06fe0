"""Driver errors: which of them may pass with time, and which the database will repeat until somebody acts. Pure.

PostgreSQL's SQLSTATE or SQLite's error code decides. An unknown code is a refusal: to repeat the same statement for
ever helps nobody. Only the driver's primary message is quoted, and only where it can't hold a row's values.
"""

import sqlite3
from enum import Enum
from typing import Any

from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError

from models.errors import BatchmillError, DatabaseRefused, LockTimeout, TransactionConflict, Unreachable, first_line


class Kind(Enum):
    """What an error asks of us."""

    CONFLICT = "conflict"  # another transaction won: the same work at once again
    LOCKED = "locked"  # a lock was not free in time: the same work again
    FULL = "full"  # waits for a person, and passes then
    PASSING = "passing"  # the connection, the server or its machine: later again
    REFUSED = "refused"  # the same statement fails again
    FOREIGN = "foreign"  # a constraint, or a defect of ours: for the caller to judge


# Connections, serialization and deadlocks, resources, an operator's shutdown, the system below.
PASSING_CLASSES = ("08", "40", "53", "57P", "58")
# A session that the server ended since we were silent or slow in a transaction.
PASSING_STATES = frozenset({"25P03", "25P04"})
LOCK_TIMEOUT = "55P03"
CONFLICTS = frozenset({"40001", "40P01"})
FULL_STATE = "53100"

PASSING_CODES = frozenset({
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_SCHEMA,
})  # fmt: skip

# Classes whose messages name tables, columns, constraints, roles and settings, and never a value of a row.
QUOTED_CLASSES = ("0A", "23", "25", "28", "3D", "3F", "42", "54", "55", "57", *PASSING_CLASSES)

POOLERS_WORDS = "unsupported startup parameter"
IN_BETWEEN = "if a pooler such as PgBouncer is in between, set BATCHMILL_DATABASE_POOLER=1"
ADVICE = {
    "42501": "give its role the right to",
    "25006": "name its primary server, which takes writes",
    "3F000": "name a schema that there is in its role's search_path, and that it may make tables in",
    "42P01": "see whether its tables are this version's: batchmill doctor",
    "42703": "see whether its tables are this version's: batchmill doctor",
    "26000": IN_BETWEEN,
    "42P05": IN_BETWEEN,
    "57014": "if nobody cancelled it, raise the role's statement_timeout",
    sqlite3.SQLITE_ERROR: "see whether its tables are this version's: batchmill doctor",
    sqlite3.SQLITE_READONLY: "make the file and its folder writable",
    sqlite3.SQLITE_CORRUPT: "restore it from a backup",
    sqlite3.SQLITE_NOTADB: "name another file, or restore it from a backup",
}
OTHER_ADVICE = "its log may say more"


def kind_of(error: DBAPIError) -> Kind:
    """What an error asks of us, whichever driver raised it."""
    if isinstance(error, IntegrityError):
        return Kind.FOREIGN
    code = code_of(error)
    if _is_of_a_pooler(error):
        return Kind.REFUSED
    if code is None:
        return _kind_without_code(error)
    return _kind_of_state(code) if isinstance(code, str) else _kind_of_sqlite(error.orig)


def code_of(error: DBAPIError) -> str | int | None:
    """The SQLSTATE, or SQLite's primary error code; None where the driver itself failed before the database spoke."""
    state: str | None = getattr(error.orig, "sqlstate", None)
    code: int | None = getattr(error.orig, "sqlite_errorcode", None)
    return state if code is None else code & 0xFF


def translated_error(database: str, error: DBAPIError) -> BatchmillError | None:
    """The error to raise instead, about the database of this name; None where the caller is to judge."""
    kind = kind_of(error)
    if kind is Kind.CONFLICT:
        return TransactionConflict(
            f"{database} broke a transaction off, since others changed the same rows at the same time; run it again"
        )
    if kind is Kind.LOCKED:
        return LockTimeout(f"{database} has rows that another transaction keeps locked; run it again when that is done")
    if kind is Kind.FULL:
        return Unreachable(f"{database} is full; make room on its disk")
    if kind is Kind.PASSING:
        return Unreachable(f"{database} does not answer: {words(error)}")
    if kind is Kind.REFUSED:
        advice = IN_BETWEEN if _is_of_a_pooler(error) else ADVICE.get(code_of(error) or "", OTHER_ADVICE)
        return DatabaseRefused(f"{database} refused a statement: {words(error)}; {advice}")
    return None


def words(error: DBAPIError) -> str:
    """The driver's first line; of errors whose message may quote a value, their name and code alone."""
    original = error.orig if isinstance(error.orig, Exception) else error
    code = code_of(error)
    if isinstance(code, str) and not code.startswith(QUOTED_CLASSES):
        return f"{type(original).__name__}, SQLSTATE {code}"
    if code is None and not isinstance(error, OperationalError):  # the driver's own, over a value that it can't take
        return type(original).__name__
    return first_line(original)


def _is_of_a_pooler(error: DBAPIError) -> bool:
    """Whether something between us and PostgreSQL does not take what we say when we connect; its words are English."""
    return POOLERS_WORDS in str(error.orig)


def _kind_without_code(error: DBAPIError) -> Kind:
    # The connection failed or was lost. A statement that a sound connection can't even send will never be sent.
    if error.connection_invalidated:
        return Kind.PASSING
    if isinstance(error, OperationalError | InterfaceError):
        return Kind.PASSING if error.statement is None else Kind.REFUSED
    if error.statement is None:  # the driver does not take what the URL says
        return Kind.REFUSED
    return Kind.FOREIGN


def _kind_of_state(state: str) -> Kind:
    if state in CONFLICTS:
        return Kind.CONFLICT
    if state == LOCK_TIMEOUT:
        return Kind.LOCKED
    if state == FULL_STATE:
        return Kind.FULL
    passing = state in PASSING_STATES or state.startswith(PASSING_CLASSES)
    return Kind.PASSING if passing else Kind.REFUSED


def _kind_of_sqlite(error: Any) -> Kind:
    code: int = error.sqlite_errorcode
    if code == sqlite3.SQLITE_BUSY_SNAPSHOT:
        return Kind.CONFLICT
    if code & 0xFF == sqlite3.SQLITE_FULL:
        return Kind.FULL
    return Kind.PASSING if code & 0xFF in PASSING_CODES else Kind.REFUSED
