"""A dry run reads and validates all rows of a submission, and writes nothing."""

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import column, make_url, text

from models import schema
from models.columns import UtcDateTime
from models.db import Database
from models.errors import BatchmillError
from producer.readers.rows import Source
from producer.submission.chunks import Chunk, ChunkOptions, JobChunker
from producer.submission.input_lengths import LengthHistogram
from producer.submission.request import SubmitRequest

MAX_PROBLEMS_LISTED = 20

# The pipeline's last completed batches: the jobs that a model answered, and the time from first claim to last slice.
SELECT_RECENT_BATCHES = """
SELECT b.succeeded + b.failed - b.reused AS jobs,
       (SELECT min(s.first_claimed_at) FROM slices s WHERE s.batch_id = b.id) AS started_at,
       (SELECT max(s.done_at) FROM slices s WHERE s.batch_id = b.id) AS ended_at
FROM batches b WHERE b.pipeline = :pipeline AND b.status = 'completed' AND b.succeeded > b.reused
ORDER BY b.created_at DESC, b.id DESC LIMIT 5
"""


@dataclass(slots=True)
class DryRunReport:
    """The rows of a source, as a submission would treat them."""

    lengths: LengthHistogram
    rows: int = 0
    invalid: Counter[str] = field(default_factory=Counter)  # rows that can't be jobs, by code
    problems: list[str] = field(default_factory=list)  # the first of them, each with its location
    slices: int = 0
    jobs_per_second: float | None = None  # the throughput of the pipeline's last batches

    @property
    def jobs(self) -> int:
        """The number of rows that can be jobs."""
        return self.rows - self.invalid.total()

    @property
    def estimated_seconds(self) -> float | None:
        """The time that the jobs would take at `jobs_per_second`."""
        return self.jobs / self.jobs_per_second if self.jobs_per_second else None

    def add(self, chunk: Chunk, chunker: JobChunker) -> None:
        """Count a chunk's rows, and describe the first problems."""
        self.rows += len(chunk.documents)
        for _, problem in sorted(chunk.failures.items()):
            self.invalid[problem.code] += 1
            if len(self.problems) < MAX_PROBLEMS_LISTED:
                self.problems.append(chunker.describe_problem(problem))
        positions = enumerate(chunk.documents, start=chunk.start_position)
        self.lengths.add([document for position, document in positions if position not in chunk.failures])

    def as_dict(self) -> dict[str, Any]:
        """The object that `submit --dry-run --json` prints."""
        return {
            "object": "dry_run",
            "rows": self.rows,
            "jobs": self.jobs,
            "slices": self.slices,
            "invalid_rows": self.invalid.total(),
            "invalid_rows_by_code": dict(sorted(self.invalid.items())),
            "duplicate_ids": self.invalid["duplicate_id"],
            "problems": self.problems,
            "lengths": {
                "unit": self.lengths.unit,
                "max": self.lengths.max_length,
                "histogram": [{"up_to": length, "inputs": count} for length, count in self.lengths.bins()],
            },
            "jobs_per_second": self.jobs_per_second and round(self.jobs_per_second, 2),
            "seconds": self.estimated_seconds and round(self.estimated_seconds, 1),
        }


def dry_run(
    request: SubmitRequest, source: Source, slice_size: int, on_progress: Callable[[int], object] = lambda _: None
) -> DryRunReport:
    """Read and validate a whole source; raises UnreadableSource where it is not in its format."""
    report = DryRunReport(LengthHistogram.for_pipeline(request.pipeline))
    chunker = JobChunker(request.pipeline.spec, source, request.parameters, ChunkOptions(keep_invalid=True))
    with SeenIds() as seen_ids:
        for chunk in chunker.chunks():
            for custom_id, first_location in seen_ids.add(chunk.location_by_id).items():
                _mark_duplicate(chunker, chunk, custom_id, first_location)
            report.add(chunk, chunker)
            on_progress(report.rows)
    report.slices = -(-report.rows // slice_size)
    return report


def recent_jobs_per_second(database_url: str, pipeline: str) -> float | None:
    """The throughput of the pipeline's last batches; None where it is unknown, or the database can't be read."""
    if _is_missing_sqlite_file(database_url):
        return None
    database = Database(database_url)
    try:
        if schema.current_version(database) != schema.HEAD:
            return None
        query = text(SELECT_RECENT_BATCHES).columns(
            column("jobs"), column("started_at", UtcDateTime), column("ended_at", UtcDateTime)
        )
        with database.read() as connection:
            rows = connection.execute(query, {"pipeline": pipeline}).all()
    except BatchmillError:
        return None
    finally:
        database.close()
    timed = [row for row in rows if row.started_at and row.ended_at]
    seconds = sum((row.ended_at - row.started_at).total_seconds() for row in timed)
    return sum(row.jobs for row in timed) / seconds if seconds > 0 else None


def _is_missing_sqlite_file(database_url: str) -> bool:
    """Whether it is a SQLite file that does not exist: connecting would create it."""
    url = make_url(database_url)
    return url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists()


def _mark_duplicate(chunker: JobChunker, chunk: Chunk, custom_id: str, first_location: int) -> None:
    problem = chunker.duplicate_problem(chunk.location_by_id[custom_id], custom_id, first_location)
    if chunk.start_position + chunk.locations.index(problem.location) not in chunk.failures:
        chunk.mark_failed(problem)


class SeenIds:
    """The location where each custom_id was seen first, in a temporary file that is deleted with the block."""

    def __init__(self) -> None:
        self._file = sqlite3.connect("")  # SQLite keeps it in memory while it is small
        self._file.execute("PRAGMA journal_mode = OFF")
        self._file.execute("CREATE TABLE seen (id TEXT PRIMARY KEY, location INTEGER) WITHOUT ROWID")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._file.close()

    def add(self, location_by_id: Mapping[str, int]) -> dict[str, int]:
        """Record ids; returns those that were seen before, with their first location."""
        query = "SELECT id, location FROM seen WHERE id IN (SELECT value FROM json_each(?))"
        repeated = dict(self._file.execute(query, [json.dumps(list(location_by_id))]))
        self._file.executemany("INSERT OR IGNORE INTO seen VALUES (?, ?)", location_by_id.items())
        return repeated
