"""How long a submission will take, judged by the pipeline's last batches."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import column, text

from models import tasks
from models.db import Database
from models.dialects.columns import Document
from models.pipelines.pipeline import Pipeline
from models.tasks.generation.decoding import DecodingParameters
from producer.batches import pace

MAX_BATCHES = 20  # the last ones that are looked at
COMPARED_BATCHES = 3  # those of the most similar size decide
SAMPLE_JOBS = 1000  # of each, to measure their mean length
CLAIM_SECONDS = 0.06  # to claim, start and commit, whatever the size; measured with small models on SQLite
FULL_JOBS = 128  # fewer do not fill the device, and about half of their time does not grow with their number
MIN_SIZE_RATIO = 0.25  # small batches below this share show only how long it takes at most

SELECT_RECENT_BATCHES = """
SELECT id, succeeded - reused + {claimed_failures} AS jobs, parameters FROM batches
WHERE pipeline = :pipeline AND task = :task AND model = :model AND status = 'completed' AND succeeded > reused
  {of_tenant}
ORDER BY created_at DESC, id DESC LIMIT :limit
"""

AVERAGE_CHARACTERS = """
SELECT avg(characters) FROM (SELECT CASE WHEN NOT invalid THEN length(CAST(input AS text)) END AS characters FROM jobs
                             WHERE batch_id = :batch_id ORDER BY position LIMIT :limit) AS sample
"""


@dataclass(frozen=True, slots=True)
class PastBatch:
    """A batch that was answered: its jobs, the characters of their inputs, and the working time."""

    jobs: int
    characters: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """The working time that jobs will take; `is_upper_bound` if only far smaller batches are known."""

    jobs: int
    seconds: float
    is_upper_bound: bool

    @property
    def jobs_per_second(self) -> float:
        """The pace that the forecast expects."""
        return self.jobs / self.seconds


def forecast(past_batches: Sequence[PastBatch], jobs: int, characters: float) -> Forecast | None:
    """Scale the batches of the most similar size; None without any.

    jobs: number of jobs to forecast
    characters: of their inputs, all together
    """
    if not past_batches or not jobs:
        return None
    telling = [batch for batch in past_batches if not _is_far_smaller(batch, characters)]
    similar = sorted(telling or past_batches, key=lambda batch: abs(math.log(batch.characters / max(characters, 1.0))))
    estimates = [_scale(batch, characters) for batch in similar[:COMPARED_BATCHES]]
    return Forecast(jobs, statistics.median(estimates), is_upper_bound=not telling)


def recent_batches(
    database: Database, pipeline: Pipeline, parameters: Mapping[str, Any], tenant: str | None = None
) -> list[PastBatch]:
    """Return the last batches that compare with one of these parameters, the newest first.

    Equal parameters compare best; any seed is like another, but not like none. How long a text is generated depends on
    the parameters, so for these tasks no others compare.

    tenant: whose batches may be used; None = all
    """
    claimed_failures = pace.count_claimed_failures(database.engine.dialect.name)
    of_tenant = "" if tenant is None else "AND tenant = :tenant"
    recent = text(SELECT_RECENT_BATCHES.format(claimed_failures=claimed_failures, of_tenant=of_tenant))
    query = recent.columns(column("id"), column("jobs"), column("parameters", Document))
    key = {"pipeline": pipeline.name, "task": pipeline.task, "model": pipeline.model, "limit": MAX_BATCHES}
    if tenant is not None:
        key["tenant"] = tenant
    with database.read() as connection:
        rows = connection.execute(query, key).all()
        equal = [row for row in rows if _cost_factors(row.parameters) == _cost_factors(parameters)]
        is_generative = issubclass(tasks.find_spec(pipeline.task).parameters, DecodingParameters)
        compared = equal or ([] if is_generative else rows)
        times = pace.working_times(connection, [row.id for row in compared])
        lengths = {
            row.id: connection.scalar(text(AVERAGE_CHARACTERS), {"batch_id": row.id, "limit": SAMPLE_JOBS})
            for row in compared
            if row.id in times
        }
    return [
        PastBatch(row.jobs, row.jobs * float(lengths[row.id]), times[row.id].seconds)
        for row in compared
        if lengths.get(row.id)
    ]


def _is_far_smaller(batch: PastBatch, characters: float) -> bool:
    return batch.jobs < FULL_JOBS and batch.characters < MIN_SIZE_RATIO * characters


def _scale(batch: PastBatch, characters: float) -> float:
    half = batch.seconds / 2
    fixed_seconds = half if batch.jobs < FULL_JOBS else min(CLAIM_SECONDS, half)
    return fixed_seconds + (batch.seconds - fixed_seconds) * characters / batch.characters


def _cost_factors(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: name == "seed" or value for name, value in parameters.items() if value is not None}
