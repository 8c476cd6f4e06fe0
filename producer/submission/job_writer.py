"""The job writer inserts chunks of jobs in a thread, so that the next chunk is read meanwhile."""

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, bindparam, text
from sqlalchemy.exc import IntegrityError

from models.db import Database
from models.dialects.bulk_insert import insert_rows
from models.processes.failpoints import failpoint
from models.states import JobOutcome
from producer.readers.rows import Problem
from producer.submission import streaming
from producer.submission.chunks import Chunk, JobChunker
from producer.submission.open_submission import OpenSubmission, gone_error, lost_ownership_error

JOB_COLUMNS = ("batch_id", "position", "custom_id", "input", "passthrough")
ORIGIN_COLUMNS = ("source_batch_id", "source_position")
NO_ORIGIN = (None, None)
FAILURE_COLUMNS = ("batch_id", "position", "seq", "status", "error_code", "error_message", "truncated", "attempts")
IDS_PER_LOOKUP = 500

# Locks the batch's row. A process that ends the batch then counts all its jobs, and one that takes the batch over knows
# how many rows it has.
RECORD_ROWS_READ = """
UPDATE batches SET holder_heartbeat_at = {now}, rows_read = :rows_read, rows_digest = :digest
WHERE id = :batch_id AND status = 'validating' AND holder_id = :holder_id
"""

SELECT_POSITIONS_BY_ID = """
SELECT custom_id, position FROM jobs WHERE batch_id = :batch_id AND custom_id IN :custom_ids AND NOT invalid
"""


class JobWriter:
    """Inserts the chunks of one batch, one at a time; leaving the block waits for the last insert.

    slice_size: of a streamed batch, whose chunks can be claimed once they are inserted; None = not streamed.
    max_failures: the failure limit of a streamed batch while its number of jobs is unknown; None = none.
    check_room: raises TooManyJobs if this many jobs more of a streamed batch are too many.
    """

    def __init__(
        self,
        database: Database,
        submission: OpenSubmission,
        chunker: JobChunker,
        *,
        slice_size: int | None = None,
        max_failures: int | None = None,
        check_room: Callable[[Connection, int], None] = lambda _connection, _jobs: None,
    ) -> None:
        self._database = database
        self._submission = submission
        self._batch_id = submission.batch_id
        self._chunker = chunker
        self._slice_size = slice_size
        self._max_failures = max_failures
        self._check_room = check_room
        self._locations = LocationIndex()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="inserts")
        self._pending: tuple[Chunk, str | None, Future[int]] | None = None
        self.slices = 0  # inserted by this submitter, for a streamed batch
        self.failed = submission.failed  # invalid rows in the database

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._executor.shutdown()

    def skip(self, chunk: Chunk) -> None:
        """Remember the locations of a chunk that the database has already."""
        self._locations.add(chunk.start_position, chunk.locations)

    def write(self, chunk: Chunk, rows_digest: str | None = None) -> None:
        """Begin to insert a chunk after the pending one; raises InvalidRows if that one repeats an earlier custom_id.

        rows_digest: the hash of all rows up to the chunk's end, for a process that resumes there.
        """
        self.flush()
        self._pending = (chunk, rows_digest, self._executor.submit(self._insert, chunk, rows_digest))

    def flush(self) -> None:
        """Wait until the pending chunk is inserted; raises what `write` raises."""
        if self._pending is None:
            return
        chunk, rows_digest, insert = self._pending
        self._pending = None
        try:
            self.slices += insert.result()
        except IntegrityError as error:
            self.slices += self._insert_without_duplicates(chunk, rows_digest, error)
        self.failed += len(chunk.failures)
        self._locations.add(chunk.start_position, chunk.locations)

    def _insert_without_duplicates(self, chunk: Chunk, rows_digest: str | None, error: IntegrityError) -> int:
        problems = self._find_duplicates(chunk, None if self._chunker.keep_invalid else self._chunker.max_problems)
        if not problems:  # then the jobs' reference to their batch is broken
            raise gone_error(self._batch_id) from error
        if not self._chunker.keep_invalid:
            raise self._chunker.rejection_error(problems) from None
        for problem in problems:
            chunk.mark_failed(problem)
        return self._insert(chunk, rows_digest)

    def _insert(self, chunk: Chunk, rows_digest: str | None) -> int:
        """Insert a chunk; returns the number of its slices, if the batch is streamed."""

        def work(connection: Connection) -> int:
            seq = self._record_chunk(connection, chunk, rows_digest)
            columns: tuple[str, ...] = JOB_COLUMNS
            rows = self._job_rows(chunk)
            if chunk.has_origins:
                columns += ORIGIN_COLUMNS
                rows = ((*row, *(origin or NO_ORIGIN)) for row, origin in zip(rows, chunk.origins, strict=True))
            if chunk.failures:
                columns += ("invalid",)
                rows = ((*row, row[1] in chunk.failures) for row in rows)
            insert_rows(connection, "jobs", columns, rows)
            if chunk.failures:
                insert_rows(connection, "results", FAILURE_COLUMNS, self._failure_rows(chunk, seq))
            if self._slice_size is None:
                return 0
            return streaming.insert_slices(connection, self._submission, chunk, self._slice_size)

        # One transaction for each chunk: SQLite has one writer at a time, and others get their turn in between.
        slice_count = self._database.transact(work)
        failpoint("after_ingest_chunk")
        return slice_count

    def _record_chunk(self, connection: Connection, chunk: Chunk, rows_digest: str | None) -> int:
        """Lock the batch's row; returns the `seq` of the chunk's first failure."""
        sql = self._database.sql
        if self._slice_size is not None:
            self._check_room(connection, len(chunk.locations) - len(chunk.failures))
            return streaming.add_chunk(connection, sql, self._submission, chunk, rows_digest, self._max_failures)
        params = {**self._submission.params, "rows_read": chunk.end_position, "digest": rows_digest}
        if connection.execute(text(RECORD_ROWS_READ.format(now=sql.now)), params).rowcount == 0:
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
        """The rows whose custom_id an earlier chunk has: only the database's index has all ids."""
        query = text(SELECT_POSITIONS_BY_ID).bindparams(bindparam("custom_ids", expanding=True))
        problems: list[Problem] = []
        ids = list(chunk.location_by_id)
        with self._database.read() as connection:
            for start in range(0, len(ids), IDS_PER_LOOKUP):
                params = {"batch_id": self._batch_id, "custom_ids": ids[start : start + IDS_PER_LOOKUP]}
                for custom_id, position in connection.execute(query, params):
                    location, first_location = chunk.location_by_id[custom_id], self._locations[position]
                    problems.append(self._chunker.duplicate_problem(location, custom_id, first_location))
                if max_problems is not None and len(problems) >= max_problems:
                    break
        return sorted(problems)


class LocationIndex:
    """The location of each position, in 16 bytes for each time that the two stop counting in step.

    A file without blank lines costs one entry, and the worst one 16 MB for a million rows.
    """

    def __init__(self) -> None:
        self._positions = array("q")
        self._locations = array("q")
        self._offset: int | None = None

    def add(self, start_position: int, locations: Sequence[int]) -> None:
        """Append the locations of the positions from `start_position` on; calls come in order."""
        for position, location in enumerate(locations, start=start_position):
            if location - position != self._offset:
                self._offset = location - position
                self._positions.append(position)
                self._locations.append(location)

    def __getitem__(self, position: int) -> int:
        step = bisect_right(self._positions, position) - 1
        return self._locations[step] + position - self._positions[step]
