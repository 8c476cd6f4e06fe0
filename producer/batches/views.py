"""The public batch object, modelled on OpenAI's Batch, and the queries that read it."""

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, case, func, literal_column, select

from models.columns import UtcDateTime
from models.db import Database
from models.errors import NotFound
from models.pipelines import redaction
from models.states import BatchStatus
from models.tables import Batch, ModelVersion, Result, Slice

TIMESTAMP_FIELDS = (
    "created_at",
    "in_progress_at",
    "expires_at",
    "completed_at",
    "failed_at",
    "expired_at",
    "cancelling_at",
    "cancelled_at",
)


@dataclass(frozen=True, slots=True)
class JobCounts:
    """A batch's jobs by outcome; at all times total = succeeded + failed + cancelled + expired + unanswered."""

    total: int
    succeeded: int
    failed: int
    cancelled: int
    expired: int
    unanswered: int = field(init=False)  # jobs without a result; 0 while the batch is `validating`

    def __post_init__(self) -> None:
        object.__setattr__(self, "unanswered", self.total - self.ended)

    @property
    def ended(self) -> int:
        """The number of jobs with a result."""
        return self.succeeded + self.failed + self.cancelled + self.expired

    def as_dict(self) -> dict[str, int]:
        """Return the counts by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class BatchView:
    """A batch as it was at one moment."""

    id: str
    status: BatchStatus
    name: str | None
    pipeline: str
    task: str
    model: str
    revision: str | None  # None until a worker has resolved it
    dtype: str | None  # None until there is a result
    device: str | None
    parameters: dict[str, Any]
    metadata: dict[str, str]
    priority: int
    counts: JobCounts
    tokens: int
    padded_tokens: int
    device_seconds: float
    jobs_per_second: float | None
    error_code: str | None
    error_message: str | None
    timestamps: dict[str, datetime | None]
    ingesting: bool = False  # more jobs are being read
    reused: int = 0  # succeeded jobs whose results come from earlier batches

    @property
    def padding_share(self) -> float | None:
        """The share of padding among the tokens that went through the model, 0 to 1; None before the first."""
        return 1 - self.tokens / self.padded_tokens if self.padded_tokens else None

    @property
    def devices_busy(self) -> float | None:
        """The average number of devices that computed for the batch since its first claim, such as 0.97 or 3.8."""
        answered = self.counts.succeeded + self.counts.failed - self.reused
        if not self.device_seconds or not self.jobs_per_second or not answered:
            return None
        return self.device_seconds * self.jobs_per_second / answered

    def as_dict(self) -> dict[str, Any]:
        """Return the public object: OpenAI's fields with times in seconds since 1970, then ours."""
        return {
            "id": self.id,
            "object": "batch",
            "status": self.status.value,
            "error_code": self.error_code,
            "error_message": self.error_message,
            **{name: timestamp and int(timestamp.timestamp()) for name, timestamp in self.timestamps.items()},
            "request_counts": self.counts.as_dict(),
            "reused": self.reused,
            "ingesting": self.ingesting,
            "metadata": self.metadata,
            "name": self.name,
            "pipeline": self.pipeline,
            "task": self.task,
            "model": self.model,
            "revision": self.revision,
            "dtype": self.dtype,
            "device": self.device,
            "parameters": redaction.redact_parameters(self.parameters),
            "priority": self.priority,
            "tokens": self.tokens,
            "padded_tokens": self.padded_tokens,
            "padding_share": _round_or_none(self.padding_share, 4),
            "device_seconds": round(self.device_seconds, 3),
            "devices_busy": _round_or_none(self.devices_busy, 3),
            "jobs_per_second": _round_or_none(self.jobs_per_second, 2),
        }


def get_batch(database: Database, batch_id: str) -> BatchView:
    """Return one batch; raises NotFound."""
    with database.read() as connection:
        row = connection.execute(_batch_query(database).where(Batch.id == batch_id)).one_or_none()
    if row is None:
        raise NotFound(f"there is no batch {batch_id[:80]!r}; list the batches: batchmill ls")
    return _view_from_row(row)


def list_batches(database: Database, limit: int, *, status: str | None = None) -> list[BatchView]:
    """Return the last `limit` batches, the newest first."""
    query = _batch_query(database).order_by(Batch.created_at.desc(), Batch.id.desc()).limit(limit)
    if status is not None:
        query = query.where(Batch.status == status)
    with database.read() as connection:
        return [_view_from_row(row) for row in connection.execute(query)]


def jobs_per_second(ended_jobs: int, started_at: datetime | None, ended_at: datetime) -> float | None:
    """Return how many jobs ended per second since the first claim; None before there is one."""
    if not ended_jobs or started_at is None:
        return None
    # Two readings of the clock can be equal; SQLite's resolution is a millisecond.
    return ended_jobs / max((ended_at - started_at).total_seconds(), 0.001)


def _batch_query(database: Database) -> Select[Any]:
    """Select batches with their claim times and model version: a few index look-ups, however many jobs they have."""
    of_batch = Slice.batch_id == Batch.id
    # Only results of a model have a version, so the subquery runs only for batches that have such results.
    first_version = (
        select(Result.model_version_id)
        .where(Result.batch_id == Batch.id, Result.model_version_id.is_not(None))
        .order_by(Result.seq)
        .limit(1)
    )
    version: ColumnElement[int] = case((Batch.succeeded > 0, first_version.scalar_subquery()))
    return (
        select(
            *Batch.__table__.c,
            select(func.min(Slice.first_claimed_at)).where(of_batch).scalar_subquery().label("first_claimed_at"),
            select(func.max(Slice.done_at)).where(of_batch).scalar_subquery().label("last_done_at"),
            ModelVersion.dtype,
            ModelVersion.device,
            literal_column(database.sql.now, UtcDateTime).label("now"),
        )
        .select_from(Batch)
        .outerjoin(ModelVersion, ModelVersion.id == version)
    )


def _view_from_row(row: Row[Any]) -> BatchView:
    counts = JobCounts(row.total, row.succeeded, row.failed, row.cancelled, row.expired)
    status = BatchStatus(row.status)
    ended_at = row.last_done_at if status.has_ended and row.last_done_at else row.now
    return BatchView(
        id=row.id,
        status=status,
        name=row.name,
        pipeline=row.pipeline,
        task=row.task,
        model=row.model,
        revision=row.revision,
        dtype=row.dtype,
        device=row.device,
        parameters=row.parameters,
        metadata=row.metadata,
        priority=row.priority,
        counts=counts,
        ingesting=row.ingesting and status is BatchStatus.IN_PROGRESS,
        reused=row.reused,
        tokens=row.tokens,
        padded_tokens=row.padded_tokens,
        device_seconds=row.device_seconds,
        jobs_per_second=jobs_per_second(counts.succeeded + counts.failed - row.reused, row.first_claimed_at, ended_at),
        error_code=row.error_code,
        error_message=row.error_message,
        timestamps={name: getattr(row, name) for name in TIMESTAMP_FIELDS},
    )


def _round_or_none(number: float | None, digits: int) -> float | None:
    return None if number is None else round(number, digits)
