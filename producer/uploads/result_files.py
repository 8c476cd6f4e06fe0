"""The output and error file of a batch: rows that are made with the batch, and seen once it has ended with such rows.

Their bytes are written on demand, see `producer/results/responses/`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, or_, select, text, update

from models.db import Database
from models.dialects.fragments import SqlFragments
from models.settings import Settings
from models.tables.service import StoredFile
from producer.batches.views import BatchView
from producer.uploads import files
from producer.uploads.files import PURPOSE_ERRORS, PURPOSE_OUTPUT, NewFile

FILENAMES = {PURPOSE_OUTPUT: "{batch_id}_output.jsonl", PURPOSE_ERRORS: "{batch_id}_error.jsonl"}
MAX_BATCHES = 1_000  # looked up by one statement


@dataclass(frozen=True, slots=True)
class ResultFiles:
    """The ids of a batch's files; None = there is none, or not yet, or it was deleted."""

    output: str | None = None
    errors: str | None = None


NO_FILES = ResultFiles()


def insert_result_files(
    connection: Connection, sql: SqlFragments, settings: Settings, batch_id: str, tenant: str
) -> None:
    """Insert the rows of both files in the transaction that inserts the batch."""
    for purpose, name in FILENAMES.items():
        filename = name.format(batch_id=batch_id)
        files.insert_file(connection, sql, settings, NewFile(filename, purpose, tenant, batch_id=batch_id))


def find_result_files(database: Database, batches: Iterable[BatchView]) -> Mapping[str, ResultFiles]:
    """Return the files of these batches that can be read now, by batch; at most MAX_BATCHES batches."""
    counts = {batch.id: batch.counts for batch in batches if batch.status.has_ended and batch.endpoint is not None}
    if not counts:
        return {}
    query = select(StoredFile.batch_id, StoredFile.purpose, StoredFile.id).where(
        StoredFile.batch_id.in_(list(counts)[:MAX_BATCHES]),
        StoredFile.deleted_at.is_(None),
        or_(StoredFile.expires_at.is_(None), StoredFile.expires_at > text(database.sql.now)),
    )
    with database.read() as connection:
        ids = {(row.batch_id, row.purpose): row.id for row in connection.execute(query)}
    return {
        batch_id: ResultFiles(
            ids.get((batch_id, PURPOSE_OUTPUT)) if count.succeeded else None,
            ids.get((batch_id, PURPOSE_ERRORS)) if count.ended > count.succeeded else None,
        )
        for batch_id, count in counts.items()
    }


def record_size(database: Database, file_id: str, etag: str, size_bytes: int) -> None:
    """Remember how many bytes a file has, as long as its batch stays as it is."""
    statement = update(StoredFile).where(StoredFile.id == file_id).values(etag=etag, bytes=size_bytes)
    database.transact(lambda connection: connection.execute(statement))
