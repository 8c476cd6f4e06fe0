"""Rereading: a source is read from its start again, and what is in already must be the same rows."""

import hashlib
from collections.abc import Iterator

from models.errors import KeyConflict
from producer.submission.chunks import Chunk, Intake
from producer.submission.open_submission import Entry


class Rereading:
    """The chunks of an intake beside those that are in already, held together by a running hash of the rows.

    `agrees` is True once all that is in was found again: what goes wrong from then on is the source's own affair.
    The intake must end a chunk at the entry's `read_jobs`.
    """

    def __init__(self, entry: Entry, intake: Intake) -> None:
        self._entry = entry
        self._intake = intake
        self._hash = hashlib.sha256()
        self.agrees = entry.read_jobs == 0

    @property
    def digest(self) -> str | None:
        """Of the rows up to the end of the last chunk; None without a key, where nobody asks for it."""
        return None if self._entry.key is None else self._hash.hexdigest()

    def chunks(self) -> Iterator[Chunk]:
        """All chunks, those that are in already too; raises KeyConflict where they differ from what is in."""
        end = 0
        for chunk in self._intake.chunks():
            if self._entry.key is not None:
                for part in chunk.spelled():
                    self._hash.update(part)
            end = chunk.end
            if end == self._entry.read_jobs:
                self._check()
            yield chunk
        if not self.agrees:
            raise self._conflict(f"has only {end:,} rows")

    def finish(self) -> None:
        """Read on only to see that these are the rows of a batch that reads no more; raises KeyConflict."""
        for chunk in self.chunks():
            if self.agrees and not self._entry.whole:  # what would have followed nobody knows
                return
            if chunk.end > self._entry.read_jobs:
                raise self._conflict("has more rows")

    def _check(self) -> None:
        if self.digest != self._entry.digest:
            raise self._conflict("differs from it")
        self.agrees = True

    def _conflict(self, what: str) -> KeyConflict:
        entry = self._entry
        return KeyConflict(
            f"the idempotency key {entry.key!r} belongs to {entry.batch_id}, of which {entry.read_jobs:,} rows are in, "
            f"and this source {what}; take another key, or give the same source as then"
        )
