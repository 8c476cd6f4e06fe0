"""Sessions: people who signed in on the pages with an API key.

A session is a random token of 256 bits, of which only the SHA-256 is stored. It ends after SESSION_SECONDS, when its
user signs out, and with its key: a revoked or expired key ends all of its sessions. A key keeps the newest MAX_OF_KEY.
"""

import secrets
from dataclasses import dataclass
from hashlib import sha256

from sqlalchemy import text

from models.db import Database
from models.dialects.columns import Document
from models.errors import Forbidden, Unauthorized
from models.lifecycle import expired_sessions
from producer.tenants import keys
from producer.tenants.principal import ALL_TENANTS, Principal, Scope

SESSION_SECONDS = 12 * 3600.0
TOKEN_BYTES = 32
MAX_TOKEN_CHARACTERS = 100  # a longer cookie is not ours
MAX_OF_KEY = 100  # sessions that one key keeps; a further one ends the oldest
MAX_DELETED = 1_000  # in one transaction

INSERT_SESSION = "INSERT INTO sessions (token_hash, key_id, expires_at) VALUES (:token_hash, :key_id, {expires_at})"
SELECT_SESSION = """
SELECT k.id, k.tenant, k.scopes, k.last_used_at IS NULL OR k.last_used_at < {then} AS is_use_unknown
FROM sessions s JOIN api_keys k ON k.id = s.key_id
WHERE s.token_hash = :token_hash AND s.expires_at > {now} AND k.revoked_at IS NULL
  AND (k.expires_at IS NULL OR k.expires_at > {now})
"""
DELETE_OLDEST = """
DELETE FROM sessions WHERE token_hash IN (
    SELECT token_hash FROM sessions WHERE key_id = :key_id ORDER BY expires_at DESC LIMIT :most OFFSET :kept
)
"""
DELETE_SESSION = "DELETE FROM sessions WHERE token_hash = :token_hash"

SESSION_ENDED = "your session has ended; sign in again"
NO_READ_SCOPE = "this key lacks the scope read, so it can't sign in; make one: batchmill keys create --scope read"


@dataclass(frozen=True, slots=True, repr=False)
class NewSession:
    """A session that just began.

    token: what its cookie has; nothing else ever has it
    """

    token: str
    principal: Principal


def sign_in(database: Database, key_text: str) -> NewSession:
    """Begin a session with a key.

    Raises Unauthorized if the key is unknown, expired or revoked, and Forbidden if it may not read.
    """
    principal, _ = keys.verify_key(database, key_text)
    if Scope.READ not in principal.scopes or principal.key_id is None:
        raise Forbidden(NO_READ_SCOPE)
    token = secrets.token_urlsafe(TOKEN_BYTES)
    params = {"token_hash": hash_token(token), "key_id": principal.key_id}
    expires_at = database.sql.seconds_from_now(SESSION_SECONDS)
    with database.write() as connection:
        expired_sessions.delete_expired(connection, database.sql.now)
        connection.execute(text(INSERT_SESSION.format(expires_at=expires_at)), params)
        oldest = {"key_id": principal.key_id, "kept": MAX_OF_KEY, "most": MAX_DELETED}
        connection.execute(text(DELETE_OLDEST), oldest)
    keys.touch_key(database, principal.key_id)
    return NewSession(token, principal)


def verify_session(database: Database, token: str) -> tuple[Principal, bool]:
    """Return the principal of a session, and whether its key's row does not say that it was used a minute ago.

    Raises Unauthorized if the session is unknown or has ended.
    """
    then = database.sql.seconds_from_now(-keys.TOUCH_SECONDS)
    query = text(SELECT_SESSION.format(now=database.sql.now, then=then)).columns(scopes=Document)
    with database.statement() as connection:
        row = connection.execute(query, {"token_hash": hash_token(token)}).one_or_none()
    if row is None:
        raise Unauthorized(SESSION_ENDED)
    scopes = frozenset(scope for scope in Scope if scope in row.scopes)
    return Principal(None if row.tenant == ALL_TENANTS else row.tenant, scopes, row.id), bool(row.is_use_unknown)


def sign_out(database: Database, token: str) -> None:
    """End a session, if it has not ended yet."""
    with database.write() as connection:
        connection.execute(text(DELETE_SESSION), {"token_hash": hash_token(token)})


def hash_token(token: str) -> str:
    """What the table has in place of a token."""
    return sha256(token.encode()).hexdigest()
