"""API keys: created for a tenant, shown once, and stored as a hash of their secret part.

A key is `bm_<id>_<secret>`. The id is public, and finds the row. The secret has 256 random bits, so one SHA-256 of it
is enough: a slow hash protects secrets that can be guessed. Rows are never deleted, because a server without keys
serves everybody who reaches it: revoking the last key must not open it.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, bindparam, text

from models.db import Database
from models.dialects.columns import Document, UtcDateTime
from models.documents import format_timestamp
from models.errors import NotFound, Unauthorized, UsageError
from producer.tenants.principal import ALL_TENANTS, Principal, Scope, check_tenant
from producer.times import Deadline

KEY_PATTERN = re.compile(r"bm_(?P<id>[0-9a-f]{16})_(?P<secret>[A-Za-z0-9_-]{43})")
ID_PATTERN = re.compile(r"[0-9a-f]{16}")
ID_BYTES, SECRET_BYTES = 8, 32
MAX_NAME_CHARACTERS = 200
TOUCH_SECONDS = 60.0  # how often the time of a key's last use is written at most

ANY_KEY = "SELECT EXISTS (SELECT 1 FROM api_keys)"
INSERT_KEY = """
INSERT INTO api_keys (id, tenant, name, scopes, secret_hash, expires_at)
VALUES (:id, :tenant, :name, :scopes, :secret_hash, {expires_at})
"""
SELECT_KEYS = """
SELECT id, tenant, name, scopes, created_at, expires_at, revoked_at, last_used_at,
       expires_at IS NOT NULL AND expires_at <= {now} AS has_expired
FROM api_keys WHERE {condition} ORDER BY created_at, id
"""
SELECT_SECRET = """
SELECT tenant, scopes, secret_hash, revoked_at IS NOT NULL AS is_revoked,
       expires_at IS NOT NULL AND expires_at <= {now} AS has_expired,
       last_used_at IS NULL OR last_used_at < {then} AS is_use_unknown
FROM api_keys WHERE id = :id
"""
REVOKE_KEY = "UPDATE api_keys SET revoked_at = {now} WHERE id = :id AND revoked_at IS NULL"
TOUCH_KEY = """
UPDATE api_keys SET last_used_at = {now} WHERE id = :id AND (last_used_at IS NULL OR last_used_at < {then})
"""

ADVICE = "make a key: batchmill keys create"
NO_SUCH_KEY = f"this API key is not known here; check it for missing characters, or {ADVICE}"
# Compared where no row has the id, so that an unknown id takes the time of a known one.
UNKNOWN_HASH = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class KeyView:
    """An API key without its secret."""

    id: str
    tenant: str | None  # None = all tenants
    name: str | None
    scopes: tuple[Scope, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None  # to the minute
    has_expired: bool

    @property
    def state(self) -> str:
        """`active`, `revoked` or `expired`."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.has_expired else "active"

    def as_dict(self) -> dict[str, Any]:
        """Return the public object."""
        times = ("created_at", "expires_at", "revoked_at", "last_used_at")
        return {
            "id": self.id,
            "object": "api_key",
            "tenant": self.tenant,
            "name": self.name,
            "scopes": [scope.value for scope in self.scopes],
            "state": self.state,
            **{name: (moment := getattr(self, name)) and format_timestamp(moment) for name in times},
        }


@dataclass(frozen=True, slots=True, repr=False)
class NewKey:
    """A key that was just created; nothing else ever has its whole text."""

    view: KeyView
    text: str


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """A key to create.

    tenant: None = all tenants
    expires: when it ends; None = never
    """

    tenant: str | None
    scopes: tuple[Scope, ...]
    name: str | None = None
    expires: Deadline | None = None

    def __post_init__(self) -> None:
        if self.tenant is not None:
            check_tenant(self.tenant)
        if not self.scopes:
            raise UsageError(f"name what the key may do: {', '.join(Scope)}")
        if self.name is not None and not _is_name(self.name):
            raise UsageError(f"a key's name is a line of 1 to {MAX_NAME_CHARACTERS} characters")


def parse_scopes(names: Iterable[str]) -> tuple[Scope, ...]:
    """Parse the names of scopes; raises UsageError."""
    found = {name.strip().lower() for name in names}
    if unknown := sorted(found - set(Scope)):
        raise UsageError(f"there is no scope {unknown[0][:80]!r}; use {', '.join(Scope)}")
    return tuple(scope for scope in Scope if scope in found)


def parse_expiry(value: str) -> Deadline:
    """Parse when a key ends: a duration such as 90d, or a date or time in the future; raises UsageError."""
    try:
        return Deadline.parse_future(value)
    except UsageError:
        raise UsageError(
            f"{value[:80]!r} is not when a key can end; use a duration such as 90d, or a date in the future"
        ) from None


def create_key(database: Database, request: KeyRequest) -> NewKey:
    """Create a key. Only its hash is stored, so the text that is returned can't be shown again."""
    key_id, secret = secrets.token_hex(ID_BYTES), secrets.token_urlsafe(SECRET_BYTES)
    params: dict[str, Any] = {
        "id": key_id,
        "tenant": request.tenant or ALL_TENANTS,
        "name": request.name,
        "scopes": [scope.value for scope in request.scopes],
        "secret_hash": _hash(secret),
    }
    if request.expires is None:
        statement = text(INSERT_KEY.format(expires_at="NULL"))
    else:
        statement, params = request.expires.bind(INSERT_KEY, database.sql.now_plus_seconds, **params)
    with database.write() as connection:
        connection.execute(statement.bindparams(bindparam("scopes", type_=Document)), params)
    return NewKey(_get_key(database, key_id), f"bm_{key_id}_{secret}")


def list_keys(database: Database, tenant: str | None = None) -> list[KeyView]:
    """Return all keys, the oldest first, also those that were revoked or have expired.

    tenant: only keys of this tenant; None = all
    """
    condition, params = ("tenant = :tenant", {"tenant": tenant}) if tenant is not None else ("1 = 1", {})
    return _select_keys(database, condition, params)


def revoke_key(database: Database, key_id: str) -> KeyView:
    """End a key, if it has not been ended yet; raises NotFound. Servers forget it within a few seconds."""
    with database.write() as connection:
        connection.execute(text(REVOKE_KEY.format(now=database.sql.now)), {"id": key_id})
    return _get_key(database, key_id)


def any_exist(database: Database) -> bool:
    """Whether there are keys, so that requests need one; revoked and expired keys count."""
    with database.statement() as connection:
        return bool(connection.scalar(text(ANY_KEY)))


def verify_key(database: Database, key_text: str) -> tuple[Principal, bool]:
    """Return the principal of a key, and whether its row does not say that it was used within the last minute.

    Raises Unauthorized if it is unknown, expired or revoked.

    Only the whole key learns whether it expired or was revoked.
    """
    match = KEY_PATTERN.fullmatch(key_text)
    if match is None:
        raise Unauthorized(NO_SUCH_KEY)
    query = text(_with_times(SELECT_SECRET, database)).columns(scopes=Document)
    with database.statement() as connection:
        row = connection.execute(query, {"id": match["id"]}).one_or_none()
    expected = UNKNOWN_HASH if row is None else row.secret_hash
    is_right = hmac.compare_digest(_hash(match["secret"]), expected)
    if row is None or not is_right:
        raise Unauthorized(NO_SUCH_KEY)
    if row.is_revoked or row.has_expired:
        raise Unauthorized(f"this API key {'was revoked' if row.is_revoked else 'has expired'}; {ADVICE}")
    return Principal(_tenant(row), frozenset(_scopes(row.scopes)), match["id"]), bool(row.is_use_unknown)


def touch_key(database: Database, key_id: str) -> None:
    """Note that a key was used, at most once a minute."""
    with database.statement(read_only=False) as connection:
        connection.execute(text(_with_times(TOUCH_KEY, database)), {"id": key_id})


def _with_times(statement: str, database: Database) -> str:
    return statement.format(now=database.sql.now, then=database.sql.seconds_from_now(-TOUCH_SECONDS))


def _get_key(database: Database, key_id: str) -> KeyView:
    found = _select_keys(database, "id = :id", {"id": key_id}) if ID_PATTERN.fullmatch(key_id) else []
    if not found:
        # A whole key may stand here in place of its id, so the message does not repeat it.
        raise NotFound("there is no key with this id; list the keys: batchmill keys ls")
    return found[0]


def _select_keys(database: Database, condition: str, params: dict[str, Any]) -> list[KeyView]:
    times = dict.fromkeys(("created_at", "expires_at", "revoked_at", "last_used_at"), UtcDateTime())
    query = text(SELECT_KEYS.format(now=database.sql.now, condition=condition))
    with database.read() as connection:
        rows = connection.execute(query.columns(scopes=Document, **times), params).all()
    return [
        KeyView(
            id=row.id,
            tenant=_tenant(row),
            name=row.name,
            scopes=_scopes(row.scopes),
            created_at=row.created_at,
            expires_at=row.expires_at,
            revoked_at=row.revoked_at,
            last_used_at=row.last_used_at,
            has_expired=bool(row.has_expired),
        )
        for row in rows
    ]


def _scopes(names: Collection[Any]) -> tuple[Scope, ...]:
    """The scopes in a row, without those of a later version."""
    return tuple(scope for scope in Scope if scope in names)


def _tenant(row: Row[Any]) -> str | None:
    return None if row.tenant == ALL_TENANTS else row.tenant


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _is_name(name: str) -> bool:
    return 0 < len(name) <= MAX_NAME_CHARACTERS and name.isprintable()
