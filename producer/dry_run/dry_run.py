"""A dry run reads and validates all rows of a submission, and writes nothing."""

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import make_url

from models import schema
from models.db import Database
from models.errors import BatchmillError
from producer.dry_run import forecast as forecasts
from producer.dry_run.forecast import Forecast
from producer.dry_run.guard_trial import GuardTrial
from producer.dry_run.input_lengths import LengthHistogram
from producer.readers.rows import Source
from producer.submission.chunks import Chunk, ChunkOptions, JobChunker
from producer.submission.request import SubmitRequest
from producer.workers import model_checks

MAX_PROBLEMS_LISTED = 20


@dataclass(slots=True)
class DryRunReport:
    """The rows of a source, as a submission would treat them."""

    lengths: LengthHistogram
    rows: int = 0
    invalid: Counter[str] = field(default_factory=Counter)  # rows that can't be jobs, by code
    problems: list[str] = field(default_factory=list)  # the first of them, each with its location
    slices: int = 0
    characters: int = 0  # of the inputs as they are stored
    forecast: Forecast | None = None
    doubts: list[str] = field(default_factory=list)  # what the reader had to assume
    column_names: list[str] = field(default_factory=list)  # that were given to a table without a header
    guards: GuardTrial = field(default_factory=lambda: GuardTrial.for_guards({}))

    @property
    def jobs(self) -> int:
        """The number of rows that can be jobs."""
        return self.rows - self.invalid.total()

    def add(self, chunk: Chunk, chunker: JobChunker) -> None:
        """Count a chunk's rows, and describe the first problems."""
        self.rows += len(chunk.documents)
        for _, problem in sorted(chunk.failures.items()):
            self.invalid[problem.code] += 1
            if len(self.problems) < MAX_PROBLEMS_LISTED:
                self.problems.append(chunker.describe_problem(problem))
        positions = enumerate(chunk.documents, start=chunk.start_position)
        documents = [document for position, document in positions if position not in chunk.failures]
        self.characters += sum(map(len, documents))
        self.lengths.add(documents)
        self.guards.add(documents)

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
            "column_names": self.column_names,
            "doubts": self.doubts,
            "lengths": {
                "unit": self.lengths.unit,
                "max": self.lengths.max_length,
                "limit": self.lengths.limit and self.lengths.limit.tokens,
                "too_long": self.lengths.too_long if self.lengths.limit else None,
                "too_long_outcome": self.lengths.limit and self.lengths.limit.outcome,
                "histogram": [{"up_to": length, "inputs": count} for length, count in self.lengths.bins()],
            },
            "jobs_per_second": self.forecast and round(self.forecast.jobs_per_second, 2),
            "seconds": self.forecast and round(self.forecast.seconds, 1),
            "seconds_is_upper_bound": self.forecast and self.forecast.is_upper_bound,
            "guards": self.guards.as_list(),
        }


def dry_run(
    request: SubmitRequest, source: Source, slice_size: int, on_progress: Callable[[int], object] = lambda _: None
) -> DryRunReport:
    """Read and validate a whole source; raises UnreadableSource where it is not in its format."""
    report = DryRunReport(
        LengthHistogram.for_pipeline(request.pipeline, request.parameters),
        guards=GuardTrial.for_guards(request.pipeline.guards),
    )
    chunker = JobChunker(request.pipeline.spec, source, request.parameters, ChunkOptions(keep_invalid=True))
    with SeenIds() as seen_ids:
        for chunk in chunker.chunks():
            for custom_id, first_location in seen_ids.add(chunk.location_by_id).items():
                _mark_duplicate(chunker, chunk, custom_id, first_location)
            report.add(chunk, chunker)
            on_progress(report.rows)
    report.slices = -(-report.rows // slice_size)
    report.column_names, report.doubts = list(source.column_names), list(source.doubts)
    return report


def forecast_for(
    report: DryRunReport, request: SubmitRequest, database_url: str, tenant: str | None = None
) -> Forecast | None:
    """Forecast how long the jobs take; None where no batch compares, or the database can't be read.

    tenant: whose batches may be used; None = all
    """
    with _readable_database(database_url) as database, suppress(BatchmillError):
        if database is not None:
            past_batches = forecasts.recent_batches(database, request.pipeline, request.parameters, tenant)
            return forecasts.forecast(past_batches, report.jobs, report.characters)
    return None


def check_pipeline(request: SubmitRequest, database_url: str) -> None:
    """Check the pipeline's model as a submission would; raises SettingsError."""
    with _readable_database(database_url) as database:
        if database is not None:
            model_checks.check_before_submit(database, request.pipeline, request.parameters)
            return
        model_checks.check_parameters(request.pipeline, request.parameters)
        model_checks.check_model(request.pipeline)


@contextmanager
def _readable_database(database_url: str) -> Iterator[Database | None]:
    """Open the database if it exists, responds and has our tables; nothing is created."""
    if _is_missing_sqlite_file(database_url):
        yield None
        return
    database = Database(database_url)
    try:
        is_usable = False
        with suppress(BatchmillError):
            is_usable = schema.current_version(database) == schema.HEAD
        yield database if is_usable else None
    finally:
        database.close()


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
