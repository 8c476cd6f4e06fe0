"""Rereading: a source is read from its start again, and what is in already must be the same rows."""

import hashlib
from collections.abc import Iterator

from models.errors import IdempotencyConflict
from producer.submission.chunks import Chunk, JobChunker
from producer.submission.open_submission import OpenSubmission


class ResumeCheck:
    """The chunks of an intake beside those that are in already, held together by a running hash of the rows.

    `agrees` is True once all that is in was found again: what goes wrong from then on is the source's own affair.
    The intake must end a chunk at the entry's `read_jobs`.
    """

    def __init__(self, submission: OpenSubmission, chunker: JobChunker) -> None:
        self._submission = submission
        self._chunker = chunker
        self._hash = hashlib.sha256()
        self.matches = submission.rows_read == 0

    @property
    def rows_digest(self) -> str | None:
        """Of the rows up to the end of the last chunk; None without a key, where nobody asks for it."""
        return None if self._submission.idempotency_key is None else self._hash.hexdigest()

    def chunks(self) -> Iterator[Chunk]:
        """All chunks, those that are in already too; raises KeyConflict where they differ from what is in."""
        end = 0
        for chunk in self._chunker.chunks():
            if self._submission.idempotency_key is not None:
                for part in chunk.canonical_bytes():
                    self._hash.update(part)
            end = chunk.end_position
            if end == self._submission.rows_read:
                self._compare_digests()
            yield chunk
        if not self.matches:
            raise self._conflict_error(f"has only {end:,} rows")

    def verify(self) -> None:
        """Read on only to see that these are the rows of a batch that reads no more; raises KeyConflict."""
        for chunk in self.chunks():
            if self.matches and not self._submission.has_all_rows:  # what would have followed nobody knows
                return
            if chunk.end_position > self._submission.rows_read:
                raise self._conflict_error("has more rows")

    def _compare_digests(self) -> None:
        if self.rows_digest != self._submission.rows_digest:
            raise self._conflict_error("differs from it")
        self.matches = True

    def _conflict_error(self, difference: str) -> IdempotencyConflict:
        entry = self._submission
        return IdempotencyConflict(
            f"the idempotency key {entry.idempotency_key!r} belongs to {entry.batch_id}, of which "
            f"{entry.rows_read:,} rows are in, "
            f"and this source {difference}; take another key, or give the same source as then"
        )
