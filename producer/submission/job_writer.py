"""Inserts: chunks of jobs go into the database one behind their reading, so that both go on at once."""

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, bindparam, text
from sqlalchemy.exc import IntegrityError

from models.db import Database, insert_rows
from models.states import JobOutcome
from producer.readers.rows import Problem
from producer.submission import streaming
from producer.submission.chunks import MAX_PROBLEMS, Chunk, JobChunker
from producer.submission.open_submission import OpenSubmission, gone_error, lost_ownership_error

JOB_COLUMNS = ("batch_id", "position", "custom_id", "input", "meta")
FAILURE_COLUMNS = ("batch_id", "position", "seq", "status", "error_code", "error_message", "truncated", "attempts")
IDS_PER_LOOKUP = 500

# Locks the batch's row: who ends a batch that is still read in counts the jobs that are there, and who takes over a
# batch knows how far it is read in.
RECORD_ROWS_READ = """
UPDATE batches SET heard_at = {now}, read_jobs = :read_jobs, read_digest = :digest
WHERE id = :batch_id AND status = 'validating' AND submitter = :submitter
"""

SELECT_POSITIONS_BY_ID = "SELECT custom_id, position FROM jobs WHERE batch_id = :batch_id AND custom_id IN :custom_ids"


class JobWriter:
    """Takes the chunks of one batch; the database works on one while the caller reads the next.

    Leaving the block waits for the chunk in the database's hands: afterwards nothing more is written.
    """

    def __init__(
        self,
        database: Database,
        submission: OpenSubmission,
        chunker: JobChunker,
        *,
        slice_size: int | None = None,
        max_failures: int | None = None,
    ) -> None:
        self._database = database
        self._submission = submission
        self._batch_id = submission.batch_id
        self._chunker = chunker
        self._slice_size = slice_size  # set: each chunk can be worked on as soon as it is in
        self._max_failures = max_failures
        self._locations = LocationIndex()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="inserts")
        self._pending: tuple[Chunk, str | None, Future[None]] | None = None
        self.chunks_written = 0  # that are in, by this submitter
        self.failed = submission.failed  # jobs that have failed already, all in the database

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._executor.shutdown()

    def skip(self, chunk: Chunk) -> None:
        """Take note of a chunk that is in already."""
        self._locations.add(chunk.start_position, chunk.locations)

    def write(self, chunk: Chunk, rows_digest: str | None = None) -> None:
        """Insert a chunk once the one before is in; raises RefusedBatch when that one repeats an earlier custom_id.

        `digest` is of all rows up to the chunk's end, for whoever goes on there.
        """
        self.flush()
        self._pending = (chunk, rows_digest, self._executor.submit(self._insert, chunk, rows_digest))

    def flush(self) -> None:
        """Wait for the last chunk; raises what `put` raises."""
        if self._pending is None:
            return
        chunk, digest, done = self._pending
        self._pending = None
        try:
            done.result()
        except IntegrityError as error:
            self._handle_duplicates(chunk, digest, error)
        self.chunks_written += 1
        self.failed += len(chunk.failures)
        self._locations.add(chunk.start_position, chunk.locations)

    def _handle_duplicates(self, chunk: Chunk, rows_digest: str | None, error: IntegrityError) -> None:
        problems = self._find_duplicates(chunk, None if self._chunker.keep_invalid else MAX_PROBLEMS)
        if not problems:  # then it is the jobs' reference to their batch
            raise gone_error(self._batch_id) from error
        if not self._chunker.keep_invalid:
            raise self._chunker.rejection_error(problems) from None
        for problem in problems:
            chunk.mark_failed(problem)
        self._insert(chunk, rows_digest)

    def _insert(self, chunk: Chunk, rows_digest: str | None) -> None:
        def work(connection: Connection) -> None:
            seq = self._record_chunk(connection, chunk, rows_digest)
            insert_rows(connection, "jobs", JOB_COLUMNS, self._job_rows(chunk))
            if chunk.failures:
                insert_rows(connection, "results", FAILURE_COLUMNS, self._failure_rows(chunk, seq))
            if self._slice_size is not None:
                streaming.insert_slices(connection, self._submission, chunk, self._slice_size)

        # A transaction for each chunk: on SQLite, whose one writer this is, others get their turn in between.
        self._database.transact(work)

    def _record_chunk(self, connection: Connection, chunk: Chunk, rows_digest: str | None) -> int:
        """Lock the batch's row; returns the `seq` of the chunk's first failure."""
        sql = self._database.sql
        if self._slice_size is not None:
            return streaming.add_chunk(connection, sql, self._submission, chunk, rows_digest, self._max_failures)
        named = {
            "batch_id": self._batch_id,
            "submitter": self._submission.holder_id,
            "read_jobs": chunk.end_position,
            "digest": rows_digest,
        }
        if connection.execute(text(RECORD_ROWS_READ.format(now=sql.now)), named).rowcount == 0:
            raise lost_ownership_error(connection, self._submission)
        return self.failed + 1

    def _failure_rows(self, chunk: Chunk, first_seq: int) -> Iterator[tuple[Any, ...]]:
        for seq, (position, problem) in enumerate(sorted(chunk.failures.items()), start=first_seq):
            message = self._chunker.describe_problem(problem)
            yield (self._batch_id, position, seq, JobOutcome.FAILED.value, problem.code, message, False, 0)

    def _job_rows(self, chunk: Chunk) -> Iterator[tuple[Any, ...]]:
        columns = zip(chunk.custom_ids, chunk.documents, chunk.passthroughs, strict=True)
        return ((self._batch_id, position, *row) for position, row in enumerate(columns, start=chunk.start_position))

    def _find_duplicates(self, chunk: Chunk, max_problems: int | None) -> list[Problem]:
        """The rows of a chunk whose custom_id an earlier chunk has: only the index knows all the ids."""
        query = text(SELECT_POSITIONS_BY_ID).bindparams(bindparam("custom_ids", expanding=True))
        problems: list[Problem] = []
        ids = list(chunk.location_by_id)
        with self._database.read() as connection:
            for start in range(0, len(ids), IDS_PER_LOOKUP):
                some = {"batch_id": self._batch_id, "custom_ids": ids[start : start + IDS_PER_LOOKUP]}
                for custom_id, position in connection.execute(query, some):
                    place = self._locations[position]
                    problems.append(self._chunker.duplicate_problem(chunk.location_by_id[custom_id], custom_id, place))
                if max_problems is not None and len(problems) >= max_problems:
                    break
        return sorted(problems)


class LocationIndex:
    """A line's number for each position, in 16 bytes for every time that the two stop counting in step.

    So a file without blank lines costs one entry, and the worst one 16 MB for a million rows.
    """

    def __init__(self) -> None:
        self._positions = array("q")
        self._locations = array("q")
        self._offset: int | None = None

    def add(self, start_position: int, locations: Sequence[int]) -> None:
        """Remember the places of the positions from `first` on; they come in order."""
        for position, place in enumerate(locations, start=start_position):
            if place - position != self._offset:
                self._offset = place - position
                self._positions.append(position)
                self._locations.append(place)

    def __getitem__(self, position: int) -> int:
        step = bisect_right(self._positions, position) - 1
        return self._locations[step] + position - self._positions[step]
