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
from models.states import Outcome
from producer.readers.rows import Problem
from producer.submission import streaming
from producer.submission.chunks import MOST_PROBLEMS, Chunk, Intake
from producer.submission.open_submission import Entry, lost, removed

JOB_COLUMNS = ("batch_id", "position", "custom_id", "input", "meta")
FAILURE_COLUMNS = ("batch_id", "position", "seq", "status", "error_code", "error_message", "truncated", "attempts")
LOOK_UP_IDS = 500

# Locks the batch's row: who ends a batch that is still read in counts the jobs that are there, and who takes over a
# batch knows how far it is read in.
HEARD = """
UPDATE batches SET heard_at = {now}, read_jobs = :read_jobs, read_digest = :digest
WHERE id = :batch_id AND status = 'validating' AND submitter = :submitter
"""

TAKEN = "SELECT custom_id, position FROM jobs WHERE batch_id = :batch_id AND custom_id IN :custom_ids"


class Inserts:
    """Takes the chunks of one batch; the database works on one while the caller reads the next.

    Leaving the block waits for the chunk in the database's hands: afterwards nothing more is written.
    """

    def __init__(
        self, database: Database, entry: Entry, intake: Intake, *, slice_jobs: int | None = None,
        allowed: int | None = None,
    ) -> None:  # fmt: skip
        self._database = database
        self._entry = entry
        self._batch_id = entry.batch_id
        self._intake = intake
        self._slice_jobs = slice_jobs  # set: each chunk can be worked on as soon as it is in
        self._allowed = allowed
        self._places = Places()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="inserts")
        self._pending: tuple[Chunk, str | None, Future[None]] | None = None
        self.chunks = 0  # that are in, by this submitter
        self.failed = entry.failed  # jobs that have failed already, all in the database

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._thread.shutdown()

    def skip(self, chunk: Chunk) -> None:
        """Take note of a chunk that is in already."""
        self._places.note(chunk.first, chunk.places)

    def put(self, chunk: Chunk, digest: str | None = None) -> None:
        """Insert a chunk once the one before is in; raises RefusedBatch when that one repeats an earlier custom_id.

        `digest` is of all rows up to the chunk's end, for whoever goes on there.
        """
        self.finish()
        self._pending = (chunk, digest, self._thread.submit(self._insert, chunk, digest))

    def finish(self) -> None:
        """Wait for the last chunk; raises what `put` raises."""
        if self._pending is None:
            return
        chunk, digest, done = self._pending
        self._pending = None
        try:
            done.result()
        except IntegrityError as error:
            self._retry(chunk, digest, error)
        self.chunks += 1
        self.failed += len(chunk.failures)
        self._places.note(chunk.first, chunk.places)

    def _retry(self, chunk: Chunk, digest: str | None, error: IntegrityError) -> None:
        problems = self._repeated(chunk, None if self._intake.keeps_invalid else MOST_PROBLEMS)
        if not problems:  # then it is the jobs' reference to their batch
            raise removed(self._batch_id) from error
        if not self._intake.keeps_invalid:
            raise self._intake.refusal(problems) from None
        for problem in problems:
            chunk.fail(problem)
        self._insert(chunk, digest)

    def _insert(self, chunk: Chunk, digest: str | None) -> None:
        def work(connection: Connection) -> None:
            seq = self._count_in(connection, chunk, digest)
            insert_rows(connection, "jobs", JOB_COLUMNS, self._rows(chunk))
            if chunk.failures:
                insert_rows(connection, "results", FAILURE_COLUMNS, self._failures(chunk, seq))
            if self._slice_jobs is not None:
                streaming.lay_slices(connection, self._entry, chunk, self._slice_jobs)

        # A transaction for each chunk: on SQLite, whose one writer this is, others get their turn in between.
        self._database.transact(work)

    def _count_in(self, connection: Connection, chunk: Chunk, digest: str | None) -> int:
        """Lock the batch's row; returns the `seq` of the chunk's first failure."""
        sql = self._database.sql
        if self._slice_jobs is not None:
            return streaming.read_on(connection, sql, self._entry, chunk, digest, self._allowed)
        named = {
            "batch_id": self._batch_id, "submitter": self._entry.submitter, "read_jobs": chunk.end, "digest": digest,
        }  # fmt: skip
        if connection.execute(text(HEARD.format(now=sql.now)), named).rowcount == 0:
            raise lost(connection, self._entry)
        return self.failed + 1

    def _failures(self, chunk: Chunk, first_seq: int) -> Iterator[tuple[Any, ...]]:
        for seq, (position, problem) in enumerate(sorted(chunk.failures.items()), start=first_seq):
            message = self._intake.located(problem)
            yield (self._batch_id, position, seq, Outcome.FAILED.value, problem.code, message, False, 0)

    def _rows(self, chunk: Chunk) -> Iterator[tuple[Any, ...]]:
        columns = zip(chunk.custom_ids, chunk.documents, chunk.metas, strict=True)
        return ((self._batch_id, position, *row) for position, row in enumerate(columns, start=chunk.first))

    def _repeated(self, chunk: Chunk, most: int | None) -> list[Problem]:
        """The rows of a chunk whose custom_id an earlier chunk has: only the index knows all the ids."""
        query = text(TAKEN).bindparams(bindparam("custom_ids", expanding=True))
        problems: list[Problem] = []
        ids = list(chunk.seen)
        with self._database.read() as connection:
            for start in range(0, len(ids), LOOK_UP_IDS):
                some = {"batch_id": self._batch_id, "custom_ids": ids[start : start + LOOK_UP_IDS]}
                for custom_id, position in connection.execute(query, some):
                    place = self._places[position]
                    problems.append(self._intake.duplicate(chunk.seen[custom_id], custom_id, place))
                if most is not None and len(problems) >= most:
                    break
        return sorted(problems)


class Places:
    """A line's number for each position, in 16 bytes for every time that the two stop counting in step.

    So a file without blank lines costs one entry, and the worst one 16 MB for a million rows.
    """

    def __init__(self) -> None:
        self._positions = array("q")
        self._places = array("q")
        self._ahead: int | None = None

    def note(self, first: int, places: Sequence[int]) -> None:
        """Remember the places of the positions from `first` on; they come in order."""
        for position, place in enumerate(places, start=first):
            if place - position != self._ahead:
                self._ahead = place - position
                self._positions.append(position)
                self._places.append(place)

    def __getitem__(self, position: int) -> int:
        step = bisect_right(self._positions, position) - 1
        return self._places[step] + position - self._positions[step]
