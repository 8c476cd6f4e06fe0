"""The rehearsal of a submission: all rows are read and checked, and nothing is written."""

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
from producer.submission.chunks import Chunk, JobChunker
from producer.submission.input_lengths import LengthHistogram
from producer.submission.request import SubmitRequest

MAX_PROBLEMS_LISTED = 20

# The last batches of the pipeline that a model answered: how many jobs in which time.
SELECT_RECENT_BATCHES = """
SELECT b.succeeded + b.failed - b.reused AS jobs,
       (SELECT min(s.claimed_at) FROM slices s WHERE s.batch_id = b.id) AS began,
       (SELECT max(s.done_at) FROM slices s WHERE s.batch_id = b.id) AS until
FROM batches b WHERE b.pipeline = :pipeline AND b.status = 'completed' AND b.succeeded > b.reused
ORDER BY b.created_at DESC, b.id DESC LIMIT 5
"""


@dataclass(slots=True)
class DryRunReport:
    """What a submission would come to."""

    lengths: LengthHistogram
    rows: int = 0
    invalid: Counter[str] = field(default_factory=Counter)  # rows that can't be jobs, by code
    problems: list[str] = field(default_factory=list)  # the first of them, each with its place
    slices: int = 0
    jobs_per_second: float | None = None  # as the last batches of the pipeline went

    @property
    def jobs(self) -> int:
        """Rows that can be jobs."""
        return self.rows - self.invalid.total()

    @property
    def estimated_seconds(self) -> float | None:
        """How long the jobs would take at that pace."""
        return self.jobs / self.jobs_per_second if self.jobs_per_second else None

    def as_dict(self) -> dict[str, Any]:
        """The object that `submit --dry-run --json` prints."""
        return {
            "object": "rehearsal",
            "rows": self.rows,
            "jobs": self.jobs,
            "slices": self.slices,
            "bad_rows": self.invalid.total(),
            "bad_rows_by_code": dict(sorted(self.invalid.items())),
            "duplicate_ids": self.invalid["duplicate_id"],
            "problems": self.problems,
            "lengths": {
                "unit": self.lengths.unit,
                "longest": self.lengths.max_length,
                "histogram": [{"at_most": most, "inputs": count} for most, count in self.lengths.bins()],
            },
            "jobs_per_second": self.jobs_per_second and round(self.jobs_per_second, 2),
            "seconds": self.estimated_seconds and round(self.estimated_seconds, 1),
        }


def dry_run(
    request: SubmitRequest, source: Source, slice_size: int, on_progress: Callable[[int], object] = lambda _: None
) -> DryRunReport:
    """Read and check all of a source; raises UnreadableSource where it is not what it claims to be."""
    found = DryRunReport(LengthHistogram.for_pipeline(request.pipeline))
    intake = JobChunker(request.pipeline.spec, source, request.parameters, keep_invalid=True)
    with SeenIds() as sightings:
        for chunk in intake.chunks():
            for custom_id, place in sightings.add(chunk.location_by_id).items():
                _mark_duplicate(intake, chunk, custom_id, place)
            _add_chunk(found, intake, chunk)
            on_progress(found.rows)
    found.slices = -(-found.rows // slice_size)
    return found


def recent_jobs_per_second(database_url: str, pipeline: str) -> float | None:
    """Jobs a second of the pipeline's last batches; None where that is not known, for whatever reason."""
    if _is_missing_sqlite_file(database_url):
        return None
    database = Database(database_url)
    try:
        if schema.current_version(database) != schema.HEAD:
            return None
        query = text(SELECT_RECENT_BATCHES).columns(
            column("jobs"), column("began", UtcDateTime), column("until", UtcDateTime)
        )
        with database.read() as connection:
            rows = connection.execute(query, {"pipeline": pipeline}).all()
    except BatchmillError:
        return None
    finally:
        database.close()
    timed = [(row.jobs, (row.until - row.began).total_seconds()) for row in rows if row.began and row.until]
    jobs, seconds = sum(jobs for jobs, _ in timed), sum(seconds for _, seconds in timed)
    return jobs / seconds if seconds > 0 else None


def _is_missing_sqlite_file(database_url: str) -> bool:
    """Whether it is a SQLite file that is not there: to look would make it."""
    parsed = make_url(database_url)
    return parsed.get_backend_name() == "sqlite" and not Path(str(parsed.database)).exists()


def _mark_duplicate(chunker: JobChunker, chunk: Chunk, custom_id: str, first_location: int) -> None:
    problem = chunker.duplicate_problem(chunk.location_by_id[custom_id], custom_id, first_location)
    if chunk.start_position + chunk.locations.index(problem.location) not in chunk.failures:
        chunk.mark_failed(problem)


def _add_chunk(report: DryRunReport, chunker: JobChunker, chunk: Chunk) -> None:
    report.rows += len(chunk.documents)
    for _, problem in sorted(chunk.failures.items()):
        report.invalid[problem.code] += 1
        if len(report.problems) < MAX_PROBLEMS_LISTED:
            report.problems.append(chunker.describe_problem(problem))
    bad = {position - chunk.start_position for position in chunk.failures}
    report.lengths.add([one for place, one in enumerate(chunk.documents) if place not in bad])


class SeenIds:
    """Ids with the place where each was seen first. Use as a context; what it keeps is gone with it."""

    def __init__(self) -> None:
        self._file = sqlite3.connect("")  # a temporary file of SQLite's own, in memory while it is small
        self._file.execute("PRAGMA journal_mode = OFF")
        self._file.execute("CREATE TABLE seen (id TEXT PRIMARY KEY, place INTEGER) WITHOUT ROWID")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._file.close()

    def add(self, locations: Mapping[str, int]) -> dict[str, int]:
        """Take ids in; returns those that were seen before, with where."""
        query = "SELECT id, place FROM seen WHERE id IN (SELECT value FROM json_each(?))"
        known = dict(self._file.execute(query, [json.dumps(list(locations))]))
        self._file.executemany("INSERT OR IGNORE INTO seen VALUES (?, ?)", locations.items())
        return known
