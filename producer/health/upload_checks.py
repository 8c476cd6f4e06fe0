"""Checks of the store of uploaded files: whether it can be written to, and has the bytes that its rows name."""

from collections.abc import Iterator

from sqlalchemy import text

from models.db import Database
from models.errors import FileStoreUnavailable
from models.settings import Settings
from producer.health import findings
from producer.health.findings import OK, PROBLEM, WARNING, Finding
from producer.uploads.storage.store import FileStore, open_store

PART = "uploads"
MAX_FILES = 1_000  # compared with the store, the newest first

SELECT_FILES = """
SELECT id, location, bytes FROM files
WHERE location IS NOT NULL AND deleted_at IS NULL AND (expires_at IS NULL OR expires_at > {now})
ORDER BY created_at DESC LIMIT :most
"""


def check_uploads(database: Database, settings: Settings) -> Iterator[Finding]:
    """Check the file store, if there is one: nobody needs it who never ran a server."""
    with database.read() as connection:
        rows = connection.execute(text(SELECT_FILES.format(now=database.sql.now)), {"most": MAX_FILES}).all()
    if not rows and settings.file_store is None:
        return
    store = open_store(settings)
    try:
        store.check_writable()
        yield _describe(store)
        here = [row for row in rows if store.has(row.location)]
        damaged = [row.id for row in here if store.size_bytes(row.location) != row.bytes]
    except FileStoreUnavailable as error:
        yield Finding(PROBLEM, PART, str(error), "uploads are refused until it can be used")
        return
    if damaged:
        message = f"{len(damaged):,} files have lost bytes, such as {damaged[0]}"
        yield Finding(PROBLEM, PART, message, "batches that have still to read them fail; upload them again")
    if len(here) < len(rows):
        message = f"{len(rows) - len(here):,} files are in the file store of another machine"
        yield Finding(OK, PART, message)


def _describe(store: FileStore) -> Finding:
    free_bytes = store.free_bytes()
    if free_bytes is None:
        return Finding(OK, PART, f"files are kept in {store.description}")
    message = f"files are kept in {store.description}, with {findings.format_bytes(free_bytes)} free"
    if free_bytes < findings.LOW_DISK_BYTES:
        level = PROBLEM if free_bytes < findings.CRITICAL_DISK_BYTES else WARNING
        return Finding(level, PART, message, "free some space: uploads to a full disk are refused")
    return Finding(OK, PART, message)
