"""Sessions of the pages that are over: rows nobody can use, which sign-ins and maintenance delete."""

from sqlalchemy import Connection, text

from models.db import Database

MAX_DELETED = 1_000  # in one transaction

HAS_EXPIRED = "expires_at <= {now}"
DELETE_EXPIRED = f"""
DELETE FROM sessions WHERE token_hash IN (
    SELECT token_hash FROM sessions WHERE {HAS_EXPIRED} ORDER BY expires_at LIMIT :most
)
"""  # noqa: S608


def delete_expired(connection: Connection, now: str) -> int:
    """Delete the oldest of them, MAX_DELETED at most; returns how many.

    now: the SQL expression of the database's clock
    """
    return int(connection.execute(text(DELETE_EXPIRED.format(now=now)), {"most": MAX_DELETED}).rowcount)


def sweep(database: Database) -> str:
    """Delete some of them; returns what was done as a sentence, or an empty text."""
    with database.write() as connection:
        deleted = delete_expired(connection, database.sql.now)
    return f"deleted {deleted} sessions that had expired" if deleted else ""
