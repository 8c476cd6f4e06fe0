"""Preparation: the jobs of a claim become rows of tokens, a bounded window at a time. Of the claim thread alone."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from models.errors import JobError
from worker import process_memory
from worker.engine import duplicates, portions
from worker.engine.bisection import bare, isolate
from worker.engine.planning import Encoded
from worker.engine.watchdog import Watchdog
from worker.leasing.claims import Job

if TYPE_CHECKING:
    from worker.adapters.interface import Adapter


@dataclass(frozen=True, slots=True)
class Prepared:
    """Rows for the device, and those that can't be answered, each with the reason."""

    rows: list[Encoded]
    refused: list[tuple[Encoded, Exception]]


class Preparation:
    """Tokenizes as much as makes a window of about `most_bytes`; each call of the tokenizer is watched by itself."""

    def __init__(
        self, adapter: "Adapter", draws: Callable[[Mapping[str, Any]], bool], watchdog: Watchdog, most_bytes: int
    ) -> None:
        self._adapter = adapter
        self._draws = draws
        self._watchdog = watchdog
        self._most_bytes = most_bytes

    def windows(self, jobs: Iterable[Job]) -> Iterator[Prepared]:
        """What the jobs come to; equal inputs become one row. Several windows where their rows are large."""
        rows: list[Encoded] = []
        refused: list[tuple[Encoded, Exception]] = []
        held = 0
        for some in portions.calls(duplicates.found(list(jobs), self._draws)):
            added = self._prepared(some, refused)
            rows += added
            held += sum(row.size for row in added)
            if held >= self._most_bytes:
                yield Prepared(rows, refused)
                rows, refused, held = [], [], 0
        if rows or refused:
            yield Prepared(rows, refused)

    def _prepared(
        self, some: Sequence[tuple[Job, tuple[Job, ...]]], refused: list[tuple[Encoded, Exception]]
    ) -> list[Encoded]:
        rows: list[Encoded] = []
        with self._watchdog.watching():
            found = isolate(self._encode, some)
        for (job, alike), encoded in found:
            if isinstance(encoded, Exception):
                refused.append((Encoded(job, None, 0, truncated=False, twins=alike), bare(encoded)))
            else:
                rows += [replace(row, twins=alike) for row in encoded] if alike else encoded
        if sum(job.size for job, _ in some) > portions.CALL_BYTES:
            process_memory.give_back()  # a tokenizer takes and frees far more than it leaves behind
        return rows

    def _encode(self, distinct: Sequence[tuple[Job, Sequence[Job]]]) -> Sequence[list[Encoded] | JobError]:
        return self._adapter.encode([job for job, _ in distinct])
