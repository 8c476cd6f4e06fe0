"""Preparation: the jobs of a claim become rows of tokens, a bounded window at a time. Of the claim thread alone."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from models.errors import JobError
from worker import process_memory
from worker.adapters.rows import Encoded
from worker.engine import planning
from worker.engine.bisection import bare, isolate
from worker.engine.watchdog import Watchdog
from worker.leasing.chunking import chunks
from worker.leasing.leases import Job, Size, Stretch

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
        for some in calls(planning.found(list(jobs), self._draws)):
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
        if sum(job.size for job, _ in some) > CALL_BYTES:
            process_memory.give_back()  # a tokenizer takes and frees far more than it leaves behind
        return rows

    def _encode(self, distinct: Sequence[tuple[Job, Sequence[Job]]]) -> Sequence[list[Encoded] | JobError]:
        return self._adapter.encode([job for job, _ in distinct])


# What goes to a tokenizer in one call: it takes up to 1,300 bytes for a character, and nobody hears of it meanwhile.
CALL_BYTES, CALL_JOBS = 65_536, 256


def planned(sizes: Iterable[Size], most_bytes: int) -> Iterator[list[Stretch]]:
    """What to read at a time, in order: inputs of so many bytes, or one input."""
    for some in chunks(sizes, lambda size: size.size, most_bytes):
        stretches: list[Stretch] = []
        for size in some:
            if stretches and stretches[-1].lease is size.lease:
                stretches[-1] = Stretch(size.lease, stretches[-1].first, size.position + 1)
            else:
                stretches.append(Stretch(size.lease, size.position, size.position + 1))
        yield stretches


def calls(distinct: Sequence[tuple[Job, tuple[Job, ...]]]) -> Iterator[list[tuple[Job, tuple[Job, ...]]]]:
    """Jobs with their twins, as many as are tokenized at a time."""
    return chunks(distinct, lambda one: one[0].size, CALL_BYTES, CALL_JOBS)
