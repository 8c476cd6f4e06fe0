"""The files of a tenant: their rows in SQL, and who sees them for how long.

A deleted file vanishes at once, also if a batch has still to read it: its bytes stay until that batch was read.
"""

import secrets
import string
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, case, exists, insert, literal, or_, select, text

from models.db import Database
from models.dialects.fragments import SqlFragments
from models.errors import NotFound, UsageError
from models.processes.failpoints import failpoint
from models.settings import Settings
from models.states import BatchStatus
from models.tables.batches import Batch
from models.tables.service import StoredFile
from producer.readers.storable import is_storable
from producer.tenants.principal import DEFAULT_TENANT
from producer.uploads.storage.store import StoredBytes

ID_PREFIX, ID_CHARACTERS = "file-", 24
ID_ALPHABET = string.ascii_letters + string.digits
PURPOSE_BATCH, PURPOSE_OUTPUT, PURPOSE_ERRORS = "batch", "batch_output", "batch_errors"
MAX_PAGE_FILES = 10_000  # as OpenAI has it
DAY_SECONDS = 86_400
WITHOUT_LINES = (".gz", ".zst", ".parquet", ".pq")  # at the end of names: the bytes of such files have no lines

# As OpenAI has them: `expires_after` counts from `created_at`, for an hour to 30 days.
ANCHOR, MIN_EXPIRY_SECONDS, MAX_EXPIRY_SECONDS = "created_at", 3_600, 30 * DAY_SECONDS

ENDED_STATUSES = tuple(status.value for status in BatchStatus if status.has_ended)

SET_EXPIRY = "UPDATE files SET expires_at = {later} WHERE id = :file_id"

# Lock order: a file's row is never locked together with a batch's.
DELETE_FILE = "UPDATE files SET deleted_at = {now} WHERE id = :file_id AND deleted_at IS NULL"


@dataclass(frozen=True, slots=True)
class FileView:
    """A file as its tenant sees it.

    location: where the store has its bytes; None = results, which are read from SQL on demand
    size_bytes: None = results that nobody has read to the end
    batch_id: whose results it has
    """

    id: str
    tenant: str
    filename: str
    purpose: str
    location: str | None
    size_bytes: int | None
    rows: int | None
    sha256: str | None
    batch_id: str | None
    etag: str | None
    created_at: datetime
    expires_at: datetime | None

    @property
    def lines(self) -> int | None:
        """How many lines it has; None where its bytes are compressed or binary."""
        return None if self.filename.lower().endswith(WITHOUT_LINES) else self.rows


@dataclass(frozen=True, slots=True)
class NewFile:
    """What is known of a file before it has a row.

    expires_after_seconds: None = the setting `keep_uploads_days` alone decides
    """

    filename: str
    purpose: str = PURPOSE_BATCH
    tenant: str = DEFAULT_TENANT
    stored: StoredBytes | None = None
    batch_id: str | None = None
    expires_after_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class FileFilter:
    """Which files to list, and in which order.

    tenant: whose; None = everybody's
    after: the id of a file; only those behind it in the list
    oldest_first: the order by time of creation
    """

    tenant: str | None = None
    purpose: str | None = None
    after: str | None = None
    oldest_first: bool = False


@dataclass(frozen=True, slots=True)
class FilePage:
    """One page of a list of files."""

    files: tuple[FileView, ...]
    has_more: bool


def new_file_id() -> str:
    """An id that nobody can guess, in the form that OpenAI's have."""
    return ID_PREFIX + "".join(secrets.choice(ID_ALPHABET) for _ in range(ID_CHARACTERS))


def parse_expiry(anchor: str | None, seconds: str | int | None) -> int | None:
    """Return the seconds of `expires_after`, None if it is not given; raises UsageError."""
    if anchor is None and seconds is None:
        return None
    if anchor != ANCHOR:
        raise UsageError(f"expires_after[anchor] must be {ANCHOR}", param="expires_after.anchor")
    if not isinstance(seconds, int) and not (seconds is not None and seconds.isascii() and seconds.isdecimal()):
        raise UsageError("expires_after[seconds] must be a whole number of seconds", param="expires_after.seconds")
    number = int(str(seconds)[:12])
    if not MIN_EXPIRY_SECONDS <= number <= MAX_EXPIRY_SECONDS:
        raise UsageError(
            f"expires_after[seconds] is out of range; use {MIN_EXPIRY_SECONDS:,} (an hour) to "
            f"{MAX_EXPIRY_SECONDS:,} (30 days)"
        )
    return number


def save_file(database: Database, settings: Settings, new: NewFile) -> FileView:
    """Give stored bytes a row, so that they are a file."""
    failpoint("after_upload")

    def work(connection: Connection) -> str:
        return insert_file(connection, database.sql, settings, new)

    return get_file(database, database.transact(work))


def insert_file(connection: Connection, sql: SqlFragments, settings: Settings, new: NewFile) -> str:
    """Insert a file's row in the caller's transaction; returns its id."""
    file_id = new_file_id()
    values: dict[str, Any] = {
        "id": file_id,
        "tenant": new.tenant,
        "filename": new.filename,
        "purpose": new.purpose,
        "batch_id": new.batch_id,
    }
    if new.stored is not None:
        values |= {
            "location": new.stored.location,
            "bytes": new.stored.size_bytes,
            "rows": new.stored.lines,
            "sha256": new.stored.sha256,
        }
    connection.execute(insert(StoredFile.__table__).values(values))  # type: ignore[arg-type]
    longest = settings.keep_uploads_days * DAY_SECONDS if new.stored is not None else None
    seconds = min((value for value in (new.expires_after_seconds, longest) if value is not None), default=None)
    if seconds is not None:
        expiry = text(SET_EXPIRY.format(later=sql.now_plus_seconds))
        connection.execute(expiry, {"file_id": file_id, "seconds": seconds})
    return file_id


def get_file(database: Database, file_id: str, tenant: str | None = None, param: str | None = None) -> FileView:
    """Return one file; raises NotFound, also for a deleted, expired or empty one.

    tenant: whose it must be; None = anybody's
    param: the field of the request that names it
    """
    query = _visible_files(database).where(StoredFile.id == file_id)
    if tenant is not None:
        query = query.where(StoredFile.tenant == tenant)
    with database.read() as connection:
        row = connection.execute(query).one_or_none() if is_storable(file_id) else None
    if row is None:
        raise NotFound(f"there is no file {file_id[:80]!r}; it may be deleted, or have expired", param=param)
    return _view(row)


def check_input(file: FileView, param: str) -> None:
    """Raise UsageError, which names the field of the request, for a file that no batch can read."""
    if file.purpose != PURPOSE_BATCH or file.location is None:
        message = f"{file.id} has the purpose {file.purpose}; upload the input as {PURPOSE_BATCH}"
        raise UsageError(message, param=param)


def list_files(database: Database, limit: int, file_filter: FileFilter | None = None) -> FilePage:
    """Return files, the newest first unless the filter says otherwise; raises NotFound for an unknown `after`."""
    conditions = file_filter or FileFilter()
    query = _visible_files(database)
    if conditions.tenant is not None:
        query = query.where(StoredFile.tenant == conditions.tenant)
    if conditions.purpose is not None:
        query = query.where(_shown_purpose() == conditions.purpose)
    key = (StoredFile.created_at, StoredFile.id)
    if conditions.after is not None:
        query = query.where(_is_behind(database, conditions))
    query = query.order_by(*(column.asc() if conditions.oldest_first else column.desc() for column in key))
    with database.read() as connection:
        rows = connection.execute(query.limit(limit + 1)).all()
    return FilePage(tuple(_view(row) for row in rows[:limit]), len(rows) > limit)


def delete_file(database: Database, file_id: str, tenant: str | None = None) -> None:
    """Let a file vanish; maintenance deletes its bytes. Raises NotFound."""
    get_file(database, file_id, tenant)
    statement = text(DELETE_FILE.format(now=database.sql.now))
    database.transact(lambda connection: connection.execute(statement, {"file_id": file_id}))


def _is_behind(database: Database, file_filter: FileFilter) -> ColumnElement[bool]:
    """Whether a file comes after the one of the filter; that one may be deleted or expired meanwhile."""
    cursor = select(StoredFile.created_at, StoredFile.tenant).where(StoredFile.id == file_filter.after)
    with database.read() as connection:
        row = connection.execute(cursor).one_or_none() if is_storable(str(file_filter.after)) else None
    if row is None or (file_filter.tenant is not None and row.tenant != file_filter.tenant):
        message = f"there is no file {str(file_filter.after)[:80]!r} to list from; begin without `after`"
        raise NotFound(message, param="after")
    # Compared in SQL, because SQLite has times as texts of several forms.
    created_at = select(StoredFile.created_at).where(StoredFile.id == file_filter.after).scalar_subquery()
    if file_filter.oldest_first:
        is_later, has_later_id = StoredFile.created_at > created_at, StoredFile.id > file_filter.after
    else:
        is_later, has_later_id = StoredFile.created_at < created_at, StoredFile.id < file_filter.after
    return or_(is_later, and_(StoredFile.created_at == created_at, has_later_id))


def _visible_files(database: Database) -> Select[Any]:
    """The files that exist for their tenant; results do once their batch has ended with such rows."""
    now = text(database.sql.now)
    has_rows = case(
        (StoredFile.purpose == PURPOSE_ERRORS, Batch.failed + Batch.cancelled + Batch.expired > 0),
        else_=Batch.succeeded > 0,
    )
    has_results = exists().where(Batch.id == StoredFile.batch_id, Batch.status.in_(ENDED_STATUSES), has_rows)
    return select(StoredFile.__table__).where(
        StoredFile.deleted_at.is_(None),
        or_(StoredFile.expires_at.is_(None), StoredFile.expires_at > now),
        or_(StoredFile.batch_id.is_(None), has_results),
    )


def _shown_purpose() -> ColumnElement[Any]:
    """The purpose as OpenAI's clients know it: the errors of a batch are output too."""
    return case((StoredFile.purpose == PURPOSE_ERRORS, literal(PURPOSE_OUTPUT)), else_=StoredFile.purpose)


def _view(row: Row[Any]) -> FileView:
    fields = ("id", "tenant", "filename", "purpose", "location", "rows", "sha256", "batch_id", "etag")
    times = ("created_at", "expires_at")
    return FileView(size_bytes=row.bytes, **{name: getattr(row, name) for name in (*fields, *times)})
