"""Sweeping deletes the bytes of files that are deleted or expired, and what killed servers left behind.

Every server does it from time to time, and any number may at once: the bytes go first and the row afterwards, so that a
sweep that is killed is repeated.
"""

import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import structlog
from sqlalchemy import bindparam, text

from models.db import Database
from models.lifecycle import due_intakes
from producer.uploads.storage.local_store import PARTIAL_SUFFIX
from producer.uploads.storage.store import FileStore

log = structlog.get_logger(__name__)

GRACE_SECONDS = 60.0  # a request that found the file just before it was deleted may still open a batch over it
ORPHAN_SECONDS = 86_400.0  # no upload takes so long
MAX_FILES = 1_000  # of one sweep
NAMES_PER_LOOKUP = 500

MARK_EXPIRED = "UPDATE files SET deleted_at = {now} WHERE expires_at <= {now} AND deleted_at IS NULL"

# Only of this store, because files of another one would fill each sweep. A batch that has still to be read keeps its
# file. Results have no bytes: their rows go with their batch.
SELECT_DELETED = f"""
SELECT id, location FROM files f WHERE deleted_at <= {{later}} AND location LIKE :locations
  AND NOT EXISTS (SELECT 1 FROM batches b WHERE b.input_file_id = f.id AND {due_intakes.IS_OPEN})
ORDER BY deleted_at LIMIT :most
"""  # noqa: S608
DELETE_ROW = "DELETE FROM files WHERE id = :file_id AND deleted_at IS NOT NULL"
DELETE_ROWS_OF_DELETED_BATCHES = """
DELETE FROM files WHERE batch_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM batches b WHERE b.id = files.batch_id)
"""
SELECT_KNOWN = "SELECT location FROM files WHERE location IN :locations"

# A batch that has ended, in any way, needs its file no more.
FORGET_READ_REQUESTS = f"""
UPDATE batches SET read_request = NULL WHERE read_request IS NOT NULL AND NOT ({due_intakes.IS_OPEN})
"""  # noqa: S608

# A random mark of this database, in a row that nobody sees, because it is deleted and has no bytes.
MARK_ID, MARK_BYTES = "mark-of-database", 16
INSERT_MARK = """
INSERT INTO files (id, tenant, filename, purpose, sha256, deleted_at) VALUES (:id, '', '', 'mark', :mark, {now})
ON CONFLICT (id) DO NOTHING
"""
SELECT_MARK = "SELECT sha256 FROM files WHERE id = :id"


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What a sweep deleted.

    orphans: stored files without a row
    """

    files: int
    orphans: int = 0


def sweep_files(database: Database, store: FileStore) -> SweepResult:
    """Delete what is deleted or expired; raises FileStoreUnavailable and Unreachable."""
    with database.write() as connection:
        for statement in (MARK_EXPIRED, DELETE_ROWS_OF_DELETED_BATCHES, FORGET_READ_REQUESTS):
            connection.execute(text(statement.format(now=database.sql.now)))
    query = text(SELECT_DELETED.format(later=database.sql.now_plus_seconds))
    params = {"seconds": -GRACE_SECONDS, "locations": f"{store.store_id}/%", "most": MAX_FILES}
    with database.read() as connection:
        rows = connection.execute(query, params).all()
    count = 0
    for row in rows:
        if store.has(row.location):
            store.delete(row.location)
            with database.write() as connection:
                count += connection.execute(text(DELETE_ROW), {"file_id": row.id}).rowcount
    return SweepResult(count)


def sweep_orphans(database: Database, store: FileStore) -> SweepResult:
    """Delete stored files that are a day old and have no row; raises FileStoreUnavailable and Unreachable.

    None are deleted where another database keeps files too: they may have their rows there.
    """
    if not _is_alone(database, store):
        log.warning("files.orphans_kept", store=store.description)
        return SweepResult(0)
    names = (stored.name for stored in store.names() if stored.age_seconds > ORPHAN_SECONDS)
    orphans = 0
    for some in _portions(names):
        known = _known_names(database, store, some)
        for name in some:
            if name not in known:
                store.delete_name(name)
                orphans += 1
    return SweepResult(0, orphans)


def _is_alone(database: Database, store: FileStore) -> bool:
    """Whether no other database has left its mark in the store, where this one now has."""
    params = {"id": MARK_ID, "mark": secrets.token_hex(MARK_BYTES)}
    with database.write() as connection:
        connection.execute(text(INSERT_MARK.format(now=database.sql.now)), params)
        mark = str(connection.execute(text(SELECT_MARK), params).scalar_one())
    assert store.store_id, "which a folder has before all else"
    store.add_mark(mark)
    return store.marks() <= {mark}


def _known_names(database: Database, store: FileStore, names: Iterable[str]) -> set[str]:
    locations = [f"{store.store_id}/{name}" for name in names if not name.endswith(PARTIAL_SUFFIX)]
    query = text(SELECT_KNOWN).bindparams(bindparam("locations", expanding=True))
    with database.read() as connection:
        return {str(location).partition("/")[2] for location in connection.scalars(query, {"locations": locations})}


def _portions(names: Iterator[str]) -> Iterator[list[str]]:
    while portion := list(islice(names, NAMES_PER_LOOKUP)):
        yield portion
