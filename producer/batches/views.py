"""The public batch object, modelled on OpenAI's Batch, and the queries that read it."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Integer, Row, Select, case, literal_column, select

from models.db import Database
from models.documents import format_timestamp
from models.errors import NotFound
from models.pipelines import redaction
from models.privacy import urls
from models.states import BatchStatus
from models.tables import Batch, ModelVersion, Result
from producer.batches import guard_counts, pace
from producer.batches.guard_counts import GuardCounts
from producer.batches.listing import BatchFilter
from producer.batches.pace import WorkingTime
from producer.readers.storable import is_storable
from producer.tenants.principal import DEFAULT_TENANT

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

COLUMNS_OF_VERSION = (ModelVersion.dtype, ModelVersion.device, ModelVersion.adapter, ModelVersion.adapter_revision)


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
    jobs_per_second: float | None  # over the working time; None before the first result, and while nobody works
    error_code: str | None
    error_message: str | None
    timestamps: dict[str, datetime | None]
    ingesting: bool = False  # more jobs are being read
    reused: int = 0  # succeeded jobs whose results come from earlier batches
    working_seconds: float = 0.0  # in which at least one worker held jobs of the batch
    is_running: bool = False  # a worker holds jobs of it now
    guards: tuple[GuardCounts, ...] = ()  # those of inputs first
    output_cache_key: str | None = None  # hash of all that determines an output, except the revision
    source_batch_id: str | None = None  # the batch whose results are its inputs; it may be deleted
    adapter: str | None = None  # the LoRA adapter on top of the model; None until there is a result
    adapter_revision: str | None = None
    tenant: str = DEFAULT_TENANT
    endpoint: str | None = None  # which the lines of its file name; None: native rows
    completion_window: str | None = None  # as an OpenAI client asked for it
    input_file_id: str | None = None  # the uploaded file that it is read from
    input_errors: tuple[dict[str, Any], ...] = ()  # lines that can't be jobs, if they rejected it
    webhook_url: str | None = None  # only its host is shown
    response_options: Mapping[str, Any] = field(default_factory=dict)  # how its endpoint writes responses

    @property
    def padding_share(self) -> float | None:
        """The share of padding among the tokens that went through the model, 0 to 1; None before the first."""
        return 1 - self.tokens / self.padded_tokens if self.padded_tokens else None

    @property
    def devices_busy(self) -> float | None:
        """The average number of devices that computed during the working time, such as 0.97 or 3.8."""
        seconds = self.device_seconds + self.guard_device_seconds
        return seconds / self.working_seconds if seconds and self.working_seconds else None

    @property
    def guard_device_seconds(self) -> float:
        """The device time of the guards' models, which `device_seconds` does not include."""
        return sum(guard.device_seconds for guard in self.guards)

    def as_dict(self) -> dict[str, Any]:
        """Return the public object: OpenAI's fields, with times in ISO 8601, then ours."""
        return {
            "id": self.id,
            "object": "batch",
            "status": self.status.value,
            "error_code": self.error_code,
            "error_message": self.error_message,
            **{name: timestamp and format_timestamp(timestamp) for name, timestamp in self.timestamps.items()},
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
            "adapter": self.adapter,
            "adapter_revision": self.adapter_revision,
            "parameters": redaction.redact_parameters(self.parameters),
            "priority": self.priority,
            "tokens": self.tokens,
            "padded_tokens": self.padded_tokens,
            "padding_share": _round_or_none(self.padding_share, 4),
            "device_seconds": round(self.device_seconds, 3),
            "working_seconds": round(self.working_seconds, 3),
            "devices_busy": _round_or_none(self.devices_busy, 3),
            "jobs_per_second": _round_or_none(self.jobs_per_second, 2),
            "guards": [guard.as_dict() for guard in self.guards],
            "source_batch_id": self.source_batch_id,
            "tenant": self.tenant,
            "input_file_id": self.input_file_id,
            "input_errors": list(self.input_errors),
            "webhook": self.webhook_url and urls.redact_webhook_url(self.webhook_url),
        }


def get_batch(database: Database, batch_id: str, tenant: str | None = None) -> BatchView:
    """Return one batch; raises NotFound.

    tenant: to whom it must belong; None = to anybody
    """
    with database.read() as connection:
        query = _batch_query(database.engine.dialect.name).where(Batch.id == batch_id)
        row = connection.execute(query).one_or_none() if is_storable(batch_id) else None
        if row is None or (tenant is not None and row.tenant != tenant):
            raise _not_found(batch_id)
        working_times = pace.working_times(connection, [batch_id])
        guards = guard_counts.count_by_batch(connection, _guarded_ids([row]))
    return _view_from_row(row, working_times, guards)


def check_visible(database: Database, batch_id: str, tenant: str | None) -> None:
    """Raise NotFound as `get_batch` does, or if the batch is being deleted; this reads only the batch's row."""
    query = select(Batch.tenant, Batch.status).where(Batch.id == batch_id)
    with database.read() as connection:
        row = connection.execute(query).one_or_none()
    if row is None or (tenant is not None and row.tenant != tenant):
        raise _not_found(batch_id)
    if row.status == BatchStatus.DELETING:
        raise _being_deleted(batch_id)


def check_not_deleting(batch: BatchView) -> None:
    """Raise NotFound if a batch is being deleted: it has only a part of its rows, which must not look complete."""
    if batch.status is BatchStatus.DELETING:
        raise _being_deleted(batch.id)


def _not_found(batch_id: str) -> NotFound:
    return NotFound(f"there is no batch {batch_id[:80]!r}; list the batches: batchmill ls")


def _being_deleted(batch_id: str) -> NotFound:
    return NotFound(f"{batch_id} is being deleted; list the batches: batchmill ls")


def list_batches(database: Database, limit: int, batch_filter: BatchFilter | None = None) -> list[BatchView]:
    """Return the newest batches, at most `limit`; raises NotFound if there is none to begin after."""
    dialect = database.engine.dialect.name
    query = _batch_query(dialect).order_by(Batch.created_at.desc(), Batch.id.desc()).limit(limit)
    if batch_filter is not None:
        query = batch_filter.apply(query, dialect)
        if batch_filter.after is not None:
            get_batch(database, batch_filter.after, batch_filter.tenant)
    with database.read() as connection:
        rows = connection.execute(query).all()
        working_times = pace.working_times(connection, [row.id for row in rows])
        guards = guard_counts.count_by_batch(connection, _guarded_ids(rows))
    return [_view_from_row(row, working_times, guards) for row in rows]


def _guarded_ids(rows: Iterable[Row[Any]]) -> list[str]:
    return [row.id for row in rows if row.guarded]


def _batch_query(dialect: str) -> Select[Any]:
    """Select batches with their model version and claimed failures: index look-ups, however many jobs they have."""
    # Only results of a model have a version, so the subquery runs only for batches that have such results.
    first_version = (
        select(Result.model_version_id)
        .where(Result.batch_id == Batch.id, Result.model_version_id.is_not(None))
        .order_by(Result.seq)
        .limit(1)
    )
    version: ColumnElement[int] = case((Batch.succeeded > 0, first_version.scalar_subquery()))
    claimed_failures: ColumnElement[int] = literal_column(pace.count_claimed_failures(dialect), Integer)
    return (
        select(*Batch.__table__.c, *COLUMNS_OF_VERSION, claimed_failures.label("claimed_failures"))
        .select_from(Batch)
        .outerjoin(ModelVersion, ModelVersion.id == version)
    )


def _view_from_row(
    row: Row[Any], working_times: Mapping[str, WorkingTime], guards: Mapping[str, tuple[GuardCounts, ...]]
) -> BatchView:
    counts = JobCounts(row.total, row.succeeded, row.failed, row.cancelled, row.expired)
    status = BatchStatus(row.status)
    working_time = working_times.get(row.id, WorkingTime(0.0, is_running=False))
    is_running = working_time.is_running and not status.has_ended
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
        working_seconds=working_time.seconds,
        jobs_per_second=pace.jobs_per_second(counts.succeeded - row.reused + row.claimed_failures, working_time.seconds)
        if is_running or status.has_ended
        else None,
        is_running=is_running,
        guards=guards.get(row.id, ()),
        output_cache_key=row.output_cache_key,
        source_batch_id=row.source_batch_id,
        tenant=row.tenant,
        endpoint=row.endpoint,
        completion_window=row.completion_window,
        input_file_id=row.input_file_id,
        input_errors=tuple(row.input_errors or ()),
        webhook_url=row.webhook_url,
        response_options=row.response_options or {},
        adapter=row.adapter,
        adapter_revision=row.adapter_revision,
        error_code=row.error_code,
        error_message=row.error_message,
        timestamps={name: getattr(row, name) for name in TIMESTAMP_FIELDS},
    )


def _round_or_none(number: float | None, digits: int) -> float | None:
    return None if number is None else round(number, digits)
