"""The bytes of an output or error file, or of a part of it.

The same state of a batch always gives the same bytes, and its etag names that state. A part begins at the nearest
known place before it: each pass over a file remembers where its blocks begin.
"""

import hashlib
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

from models.db import Database
from models.documents import to_json
from models.errors import BatchmillError
from models.states import JobOutcome
from producer.advice import read_results
from producer.batches import views
from producer.batches.views import BatchView
from producer.endpoints import Endpoint, find_endpoint
from producer.results import pages
from producer.results.responses.lines import LineWriter

FORMAT_VERSION = 2  # part of the etag: increase it when lines change
BLOCK_BYTES = 2**18  # sent at once; it ends with a line, so that a client may decode each block alone
MAX_CHECKPOINTS = 100_000  # of all files that are remembered
ETAG_DIGITS = 32

SUCCESSES = (JobOutcome.SUCCEEDED,)
ERRORS = (JobOutcome.FAILED, JobOutcome.CANCELLED, JobOutcome.EXPIRED)


class ResultsChanged(BatchmillError):
    """The batch's results changed while a file of them was read, so what was sent is no file."""

    code = "results_changed"
    retryable = True

    def __init__(self) -> None:
        super().__init__("the results changed while they were read, because the batch runs again; come back later")


@dataclass(slots=True)
class Checkpoints:
    """Positions of jobs, and at which byte the line after each begins."""

    positions: list[int] = field(default_factory=lambda: [-1])
    offsets: list[int] = field(default_factory=lambda: [0])
    size_bytes: int | None = None  # known once the file was read to its end

    def before(self, offset: int) -> tuple[int, int]:
        """The last known position before a byte, and where the line after it begins."""
        index = bisect_right(self.offsets, offset) - 1
        return self.positions[index], self.offsets[index]

    def add(self, position: int, offset: int) -> None:
        """Remember a place, if it is behind all others."""
        if offset > self.offsets[-1]:
            self.positions.append(position)
            self.offsets.append(offset)


class CheckpointCache:
    """The checkpoints of the files that were read last; one for each process."""

    def __init__(self, max_checkpoints: int = MAX_CHECKPOINTS) -> None:
        self._max_checkpoints = max_checkpoints
        self._by_etag: OrderedDict[str, Checkpoints] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, etag: str) -> Checkpoints:
        """The checkpoints of a file, of which only the beginning may be known."""
        with self._lock:
            checkpoints = self._by_etag.setdefault(etag, Checkpoints())
            self._by_etag.move_to_end(etag)
            total = sum(len(known.offsets) for known in self._by_etag.values())
            while total > self._max_checkpoints and len(self._by_etag) > 1:
                total -= len(self._by_etag.popitem(last=False)[1].offsets)
            return checkpoints

    def record(self, checkpoints: Checkpoints, position: int, offset: int) -> None:
        """Remember a place; several threads may read one file."""
        with self._lock:
            checkpoints.add(position, offset)

    def record_end(self, checkpoints: Checkpoints, size_bytes: int) -> None:
        """Remember where the file ends."""
        with self._lock:
            checkpoints.size_bytes = size_bytes


CACHE = CheckpointCache()


@dataclass(frozen=True, slots=True)
class ResultsContent:
    """The lines of a batch's succeeded jobs, or of all others, in the order of the input."""

    database: Database
    batch: BatchView
    endpoint: Endpoint
    has_errors: bool
    etag: str
    cache: CheckpointCache = CACHE

    @classmethod
    def open(cls, database: Database, batch: BatchView, *, has_errors: bool, cache: CheckpointCache = CACHE) -> Self:
        """The content for the state of an ended batch.

        has_errors: whether it is the error file
        """
        endpoint = find_endpoint(batch.endpoint or "")
        if endpoint is None:
            raise BatchmillError(f"{batch.id} has no file of results; " + read_results(batch.id))
        return cls(database, batch, endpoint, has_errors, etag_of(batch, has_errors=has_errors), cache)

    def measure(self) -> int:
        """The number of bytes; reads what no pass of this process has read yet."""
        checkpoints = self.cache.get(self.etag)
        if checkpoints.size_bytes is None:
            for _ in self._read(checkpoints, checkpoints.offsets[-1], None):
                pass
        size = checkpoints.size_bytes
        assert size is not None, "a pass to the end records it"
        return size

    def read(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` on and before `end`, None = to the end, in blocks that begin and end with a line.

        Raises ResultsChanged instead of giving the last block.
        """
        return self._read(self.cache.get(self.etag), start, end)

    def _read(self, checkpoints: Checkpoints, start: int, end: int | None) -> Iterator[bytes]:
        """The same with the checkpoints of the file, which the cache may forget meanwhile."""
        position, offset = checkpoints.before(start)
        held = b""  # until the next block is there, or nothing has changed
        for block, last_position in self._blocks(position):
            begin, offset = offset, offset + len(block)
            self.cache.record(checkpoints, last_position, offset)
            if held:
                yield held
            held = block[max(0, start - begin) : None if end is None else max(0, end - begin)]
            if end is not None and offset >= end:
                break
        else:
            self.cache.record_end(checkpoints, offset)
        self._check_unchanged()
        if held:
            yield held

    def _blocks(self, after_position: int) -> Iterator[tuple[bytes, int]]:
        """Whole lines of about BLOCK_BYTES, each with the position of its last one."""
        write_line = LineWriter(self.batch, self.endpoint).line
        statuses = tuple(status for status in ERRORS if self._count(status)) if self.has_errors else SUCCESSES
        lines, size = [], 0
        for page in pages.pages_by_position(self.database, self.batch.id, after_position, statuses):
            for row in page:
                line = write_line(row)
                lines.append(line)
                size += len(line)
                if size >= BLOCK_BYTES:
                    yield "".join(lines).encode(), row.position
                    lines, size = [], 0
            after_position = page[-1].position
        if lines:
            yield "".join(lines).encode(), after_position

    @property
    def lines(self) -> int:
        """The number of lines."""
        return sum(self._count(status) for status in (ERRORS if self.has_errors else SUCCESSES))

    def _count(self, status: JobOutcome) -> int:
        return int(getattr(self.batch.counts, status.value))

    def _check_unchanged(self) -> None:
        if etag_of(views.get_batch(self.database, self.batch.id), has_errors=self.has_errors) != self.etag:
            raise ResultsChanged


def etag_of(batch: BatchView, *, has_errors: bool) -> str:
    """A name of the state of an ended batch: another retry ends it at another time."""
    times = [time and time.timestamp() for time in batch.timestamps.values()]
    state = [FORMAT_VERSION, batch.id, has_errors, batch.status.value, batch.counts.as_dict(), times]
    return hashlib.sha256(to_json(state).encode()).hexdigest()[:ETAG_DIGITS]
