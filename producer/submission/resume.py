"""Resuming reads a source from its start again, and checks that the rows already ingested are the same."""

import hashlib
from collections.abc import Iterator

from models.errors import IdempotencyConflict
from producer.submission.chunks import Chunk, JobChunker
from producer.submission.open_submission import OpenSubmission


class ResumeCheck:
    """Compares a source with the rows that its batch has already, by a running hash.

    `matches` becomes True once all ingested rows were read again and are equal. The chunker must end a chunk at the
    submission's `rows_read`.
    """

    def __init__(self, submission: OpenSubmission, chunker: JobChunker) -> None:
        self._submission = submission
        self._chunker = chunker
        self._hash = hashlib.sha256()
        self.matches = submission.rows_read == 0

    @property
    def rows_digest(self) -> str | None:
        """The hash of all rows up to the end of the last chunk; None without a key, because nothing can resume then."""
        return None if self._submission.idempotency_key is None else self._hash.hexdigest()

    def chunks(self) -> Iterator[Chunk]:
        """All chunks, ingested or not; raises IdempotencyConflict where they differ from the batch."""
        end = 0
        for chunk in self._chunker.chunks():
            if self._submission.idempotency_key is not None:
                for part in chunk.canonical_bytes():
                    self._hash.update(part)
            end = chunk.end_position
            if end == self._submission.rows_read:
                if self.rows_digest != self._submission.rows_digest:
                    raise self._conflict_error("differs from it")
                self.matches = True
            yield chunk
        if not self.matches:
            raise self._conflict_error(f"has only {end:,} rows")

    def verify(self) -> None:
        """Read on only to compare the source with a batch that takes no more rows; raises IdempotencyConflict."""
        for chunk in self.chunks():
            if self.matches and not self._submission.has_all_rows:  # the batch ended early: later rows are unknown
                return
            if chunk.end_position > self._submission.rows_read:
                raise self._conflict_error("has more rows")

    def _conflict_error(self, difference: str) -> IdempotencyConflict:
        submission = self._submission
        return IdempotencyConflict(
            f"the idempotency key {submission.idempotency_key!r} belongs to {submission.batch_id}, which has "
            f"{submission.rows_read:,} rows already, and this source {difference}; use another key, or the same source"
        )
