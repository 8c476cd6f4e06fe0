"""Repaired jobs are staged by position in a temporary file, before any job is replaced."""

import sqlite3
from collections.abc import Iterator
from types import TracebackType
from typing import NamedTuple, Self

from models.errors import JobError
from producer.readers.limits import portions

CHUNK_JOBS, CHUNK_BYTES = 20_000, 8 * 2**20  # replaced in one transaction


class RepairedJob(NamedTuple):
    """A job to put in the place of a failed one; the documents are JSON.

    source_batch_id, source_position: the origin of the failed job, which the new one keeps
    """

    position: int
    custom_id: str | None
    input: str
    passthrough: str | None
    source_batch_id: str | None
    source_position: int | None


class StagedJobs:
    """Repaired jobs by position, in a temporary file that is deleted with the block."""

    def __init__(self) -> None:
        self._file = sqlite3.connect("")  # SQLite keeps it in memory while it is small
        self._file.execute("PRAGMA journal_mode = OFF")
        self._file.execute(
            "CREATE TABLE jobs (position INTEGER PRIMARY KEY, custom_id TEXT UNIQUE, input TEXT, passthrough TEXT, "
            "source_batch_id TEXT, source_position INTEGER)"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._file.close()

    def add(self, job: RepairedJob) -> None:
        """Stage a job; raises JobError if another row names the same one, or has its id."""
        if self._file.execute("INSERT OR IGNORE INTO jobs VALUES (?, ?, ?, ?, ?, ?)", job).rowcount == 1:
            return
        if self._file.execute("SELECT 1 FROM jobs WHERE position = ?", (job.position,)).fetchone():
            raise JobError("invalid_row", f"repairs the job at position {job.position} a second time")
        raise JobError(
            "duplicate_id", f"has custom_id {str(job.custom_id)[:80]!r}, which another row of it has already"
        )

    def count(self) -> int:
        """The number of staged jobs."""
        return int(self._file.execute("SELECT count(*) FROM jobs").fetchone()[0])

    def chunks(self) -> Iterator[list[RepairedJob]]:
        """The jobs in the order of their positions."""
        cursor = self._file.execute(f"SELECT {', '.join(RepairedJob._fields)} FROM jobs ORDER BY position")  # noqa: S608
        for rows in portions(map(list, cursor), CHUNK_JOBS, CHUNK_BYTES):
            yield [RepairedJob(*row) for row in rows]
