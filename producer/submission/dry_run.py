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
from models.columns import Moment
from models.db import Database
from models.errors import BatchmillError
from producer.readers.rows import Source
from producer.submission.chunks import Chunk, Intake
from producer.submission.input_lengths import Lengths
from producer.submission.request import Request

PROBLEMS_NAMED = 20

# The last batches of the pipeline that a model answered: how many jobs in which time.
ANSWERED = """
SELECT b.succeeded + b.failed - b.reused AS jobs,
       (SELECT min(s.claimed_at) FROM slices s WHERE s.batch_id = b.id) AS began,
       (SELECT max(s.done_at) FROM slices s WHERE s.batch_id = b.id) AS until
FROM batches b WHERE b.pipeline = :pipeline AND b.status = 'completed' AND b.succeeded > b.reused
ORDER BY b.created_at DESC, b.id DESC LIMIT 5
"""


@dataclass(slots=True)
class Rehearsal:
    """What a submission would come to."""

    lengths: Lengths
    rows: int = 0
    bad: Counter[str] = field(default_factory=Counter)  # rows that can't be jobs, by code
    problems: list[str] = field(default_factory=list)  # the first of them, each with its place
    slices: int = 0
    jobs_per_second: float | None = None  # as the last batches of the pipeline went

    @property
    def jobs(self) -> int:
        """Rows that can be jobs."""
        return self.rows - self.bad.total()

    @property
    def seconds(self) -> float | None:
        """How long the jobs would take at that pace."""
        return self.jobs / self.jobs_per_second if self.jobs_per_second else None

    def as_dict(self) -> dict[str, Any]:
        """The object that `submit --dry-run --json` prints."""
        return {
            "object": "rehearsal",
            "rows": self.rows,
            "jobs": self.jobs,
            "slices": self.slices,
            "bad_rows": self.bad.total(),
            "bad_rows_by_code": dict(sorted(self.bad.items())),
            "duplicate_ids": self.bad["duplicate_id"],
            "problems": self.problems,
            "lengths": {
                "unit": self.lengths.unit,
                "longest": self.lengths.longest,
                "histogram": [{"at_most": most, "inputs": count} for most, count in self.lengths.rows()],
            },
            "jobs_per_second": self.jobs_per_second and round(self.jobs_per_second, 2),
            "seconds": self.seconds and round(self.seconds, 1),
        }


def rehearsed(
    request: Request, source: Source, slice_jobs: int, watch: Callable[[int], object] = lambda _: None
) -> Rehearsal:
    """Read and check all of a source; raises UnreadableSource where it is not what it claims to be."""
    found = Rehearsal(Lengths.of(request.pipeline))
    intake = Intake(request.pipeline.spec, source, request.parameters, keeps_invalid=True)
    with Sightings() as sightings:
        for chunk in intake.chunks():
            for custom_id, place in sightings.note(chunk.seen).items():
                _fail(intake, chunk, custom_id, place)
            _count(found, intake, chunk)
            watch(found.rows)
    found.slices = -(-found.rows // slice_jobs)
    return found


def pace(url: str, pipeline: str) -> float | None:
    """Jobs a second of the pipeline's last batches; None where that is not known, for whatever reason."""
    if _is_missing(url):
        return None
    database = Database(url)
    try:
        if schema.version(database) != schema.HEAD:
            return None
        query = text(ANSWERED).columns(column("jobs"), column("began", Moment), column("until", Moment))
        with database.read() as connection:
            rows = connection.execute(query, {"pipeline": pipeline}).all()
    except BatchmillError:
        return None
    finally:
        database.close()
    timed = [(row.jobs, (row.until - row.began).total_seconds()) for row in rows if row.began and row.until]
    jobs, seconds = sum(jobs for jobs, _ in timed), sum(seconds for _, seconds in timed)
    return jobs / seconds if seconds > 0 else None


def _is_missing(url: str) -> bool:
    """Whether it is a SQLite file that is not there: to look would make it."""
    parsed = make_url(url)
    return parsed.get_backend_name() == "sqlite" and not Path(str(parsed.database)).exists()


def _fail(intake: Intake, chunk: Chunk, custom_id: str, place: int) -> None:
    problem = intake.duplicate(chunk.seen[custom_id], custom_id, place)
    if chunk.first + chunk.places.index(problem.where) not in chunk.failures:
        chunk.fail(problem)


def _count(found: Rehearsal, intake: Intake, chunk: Chunk) -> None:
    found.rows += len(chunk.documents)
    for _, problem in sorted(chunk.failures.items()):
        found.bad[problem.code] += 1
        if len(found.problems) < PROBLEMS_NAMED:
            found.problems.append(intake.located(problem))
    bad = {position - chunk.first for position in chunk.failures}
    found.lengths.add([one for place, one in enumerate(chunk.documents) if place not in bad])


class Sightings:
    """Ids with the place where each was seen first. Use as a context; what it keeps is gone with it."""

    def __init__(self) -> None:
        self._file = sqlite3.connect("")  # a temporary file of SQLite's own, in memory while it is small
        self._file.execute("PRAGMA journal_mode = OFF")
        self._file.execute("CREATE TABLE seen (id TEXT PRIMARY KEY, place INTEGER) WITHOUT ROWID")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._file.close()

    def note(self, places: Mapping[str, int]) -> dict[str, int]:
        """Take ids in; returns those that were seen before, with where."""
        query = "SELECT id, place FROM seen WHERE id IN (SELECT value FROM json_each(?))"
        known = dict(self._file.execute(query, [json.dumps(list(places))]))
        self._file.executemany("INSERT OR IGNORE INTO seen VALUES (?, ?)", places.items())
        return known
