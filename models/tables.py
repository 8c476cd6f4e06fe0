"""The tables. SQL owns truth: jobs and results are insert-only, only slices and batches change."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Double, ForeignKey, Identity, Index, Integer, Text, false, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from models.columns import DATABASE_CLOCK, Document, Key, RowId, UtcDateTime
from models.lifecycle.claim_order import CLAIM_ORDER_COLUMNS, QUEUED_ORDINARY, QUEUED_QUARANTINED


class Base(DeclarativeBase):
    """The base of every table."""

    type_annotation_map = {str: Text(), int: BigInteger(), datetime: UtcDateTime(), dict[str, Any]: Document}  # noqa: RUF012


class Batch(Base):
    """One submission. Its counters change only together with the results they count."""

    __tablename__ = "batches"

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    name: Mapped[str | None]
    pipeline: Mapped[str]
    task: Mapped[str]
    model: Mapped[str]
    revision: Mapped[str | None]  # settled once: by the catalogue's pin, else by the first worker that claims
    parameters: Mapped[dict[str, Any]]
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata")
    priority: Mapped[int] = mapped_column(Integer, server_default="0")
    status: Mapped[str]
    total: Mapped[int] = mapped_column(server_default="0")
    succeeded: Mapped[int] = mapped_column(server_default="0")
    failed: Mapped[int] = mapped_column(server_default="0")
    cancelled: Mapped[int] = mapped_column(server_default="0")
    expired: Mapped[int] = mapped_column(server_default="0")
    reused: Mapped[int] = mapped_column(server_default="0")  # of those that succeeded, taken from earlier batches
    last_seq: Mapped[int] = mapped_column(server_default="0")
    tokens: Mapped[int] = mapped_column(server_default="0")
    padded_tokens: Mapped[int] = mapped_column(server_default="0")
    device_seconds: Mapped[float] = mapped_column(Double, server_default="0")
    max_failures: Mapped[int | None]  # more failed jobs than this end the batch early
    max_attempts: Mapped[int | None] = mapped_column(Integer)  # unset: the setting's
    ending: Mapped[str | None]  # what a batch that is `cancelling` will be when its open jobs are closed
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    idempotency_key: Mapped[str | None] = mapped_column(Key)  # the user's own: one batch for each
    fingerprint: Mapped[str | None]  # of what the batch was asked to be, where it has a key
    read_jobs: Mapped[int] = mapped_column(server_default="0")  # how far it is read in, where it has a key
    read_digest: Mapped[str | None]  # of the rows so far
    reading: Mapped[bool] = mapped_column(server_default=false())  # in progress though more of it may come
    recipe: Mapped[str | None] = mapped_column(Key)  # hash of all that an input's output hangs on
    submitter: Mapped[str | None]  # a token of the process that reads it in: another may take over
    created_at: Mapped[datetime] = mapped_column(server_default=DATABASE_CLOCK)
    heard_at: Mapped[datetime | None]  # of whoever submits it, while it is `validating`
    in_progress_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    failed_at: Mapped[datetime | None]
    expired_at: Mapped[datetime | None]
    cancelling_at: Mapped[datetime | None]
    cancelled_at: Mapped[datetime | None]

    __table_args__ = (
        # Which kinds of work there are, however many batches have ended.
        Index(
            "batches_in_progress",
            "pipeline",
            "task",
            "revision",
            postgresql_where=text("status = 'in_progress'"),
            sqlite_where=text("status = 'in_progress'"),
        ),
        Index("batches_newest", "created_at", "id"),
        Index("batches_idempotency_key", "idempotency_key", unique=True),
        Index("batches_recipe", "recipe", "created_at"),
        Index("batches_reading", "id", postgresql_where=text("reading"), sqlite_where=text("reading")),
        Index(
            "batches_unsettled",
            "id",
            postgresql_where=text("status IN ('validating', 'cancelling')"),
            sqlite_where=text("status IN ('validating', 'cancelling')"),
        ),
    )


class Job(Base):
    """One input of a batch, as the task's spec normalised it."""

    __tablename__ = "jobs"

    # No foreign key, here and in results: PostgreSQL would look it up row by row, and whoever inserts holds the batch.
    batch_id: Mapped[str] = mapped_column(Key, primary_key=True)
    position: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    custom_id: Mapped[str | None] = mapped_column(Key)
    input: Mapped[dict[str, Any]]
    meta: Mapped[dict[str, Any] | None] = mapped_column(Document)  # columns of its row that are kept for the user

    __table_args__ = (
        Index(
            "jobs_custom_id",
            "batch_id",
            "custom_id",
            unique=True,
            postgresql_where=text("custom_id IS NOT NULL"),
            sqlite_where=text("custom_id IS NOT NULL"),
        ),
        {"sqlite_with_rowid": False},
    )


class Slice(Base):
    """A contiguous run of a batch's jobs: the unit of claim, lease, retry and bell."""

    __tablename__ = "slices"

    id: Mapped[int] = mapped_column(RowId, Identity(), primary_key=True)
    batch_id: Mapped[str] = mapped_column(Key, ForeignKey("batches.id", ondelete="CASCADE"))
    first: Mapped[int]
    size: Mapped[int] = mapped_column(Integer)
    state: Mapped[str]
    attempts: Mapped[int] = mapped_column(Integer, server_default="0")  # claims, less the ones released in good order
    deaths: Mapped[int] = mapped_column(Integer, server_default="0")  # of processes that died of their own over it
    lapses: Mapped[int] = mapped_column(Integer, server_default="0")  # ends in silence, since its last result
    retries: Mapped[int] = mapped_column(Integer, server_default="0")  # put off since something may pass with time
    token: Mapped[int] = mapped_column(server_default="0")  # the fence: grows with every claim and never shrinks
    worker_id: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
    not_before: Mapped[datetime | None]
    claimed_at: Mapped[datetime | None]  # for the first time
    leased_at: Mapped[datetime | None]  # for the last time
    done_at: Mapped[datetime | None]
    # Its place in the order of claims, see `lifecycle/claim_order.py`. Triggers fill it in: no writer of slices has to.
    pipeline: Mapped[str | None]
    rank: Mapped[int | None] = mapped_column(Integer)
    due: Mapped[int | None]
    ahead: Mapped[int | None]
    since: Mapped[int | None]

    __table_args__ = (
        Index("slices_of_batch", "batch_id", "first"),
        Index(
            "slices_queued",
            "batch_id",
            "id",
            postgresql_where=text("state = 'queued'"),
            sqlite_where=text("state = 'queued'"),
        ),
        Index(
            "slices_leased",
            "batch_id",
            postgresql_where=text("state = 'leased'"),
            sqlite_where=text("state = 'leased'"),
        ),
        Index(
            "slices_ordinary",
            "pipeline",
            *CLAIM_ORDER_COLUMNS,
            postgresql_where=text(QUEUED_ORDINARY),
            sqlite_where=text(QUEUED_ORDINARY),
        ),
        Index(
            "slices_quarantined",
            "pipeline",
            *CLAIM_ORDER_COLUMNS,
            postgresql_where=text(QUEUED_QUARANTINED),
            sqlite_where=text(QUEUED_QUARANTINED),
        ),
        {"sqlite_autoincrement": True},  # an id that came again would bring old leases back
    )


class ModelVersion(Base):
    """Exactly what computed a result; `fingerprint` is the hash of all the rest."""

    __tablename__ = "model_versions"

    id: Mapped[int] = mapped_column(RowId, Identity(), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(Key, unique=True)
    task: Mapped[str]
    model: Mapped[str]
    revision: Mapped[str]
    tokenizer: Mapped[str]
    tokenizer_revision: Mapped[str]
    dtype: Mapped[str]
    quantization: Mapped[str | None]
    attention: Mapped[str]
    device: Mapped[str]
    libraries: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=DATABASE_CLOCK)


class JobOutcomeColumns:
    """The columns of what a job came to, now or before a replay."""

    batch_id: Mapped[str] = mapped_column(Key, primary_key=True)
    position: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    status: Mapped[str]
    output: Mapped[dict[str, Any] | None] = mapped_column(Document)
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    truncated: Mapped[bool]
    attempts: Mapped[int] = mapped_column(Integer)
    slice_id: Mapped[int | None]
    token: Mapped[int | None]  # the fence it was written under
    model_version_id: Mapped[int | None] = mapped_column(RowId)


class Result(JobOutcomeColumns, Base):
    """A job's one outcome. The primary key makes a second one impossible, not merely unlikely."""

    __tablename__ = "results"

    seq: Mapped[int]  # the order of commits within the batch: a cursor never misses one
    reused_from: Mapped[str | None] = mapped_column(Key)  # the batch that computed it, which may be gone by now
    finished_at: Mapped[datetime] = mapped_column(server_default=DATABASE_CLOCK)

    __table_args__ = (
        Index("results_seq", "batch_id", "seq", unique=True),
        Index(
            "results_failed",
            "batch_id",
            "position",
            postgresql_where=text("status = 'failed'"),
            sqlite_where=text("status = 'failed'"),
        ),
        {"sqlite_with_rowid": False},
    )


class SupersededResult(JobOutcomeColumns, Base):
    """A result that a replay took back: what the job came to before."""

    __tablename__ = "past_results"

    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    finished_at: Mapped[datetime]
    replaced_at: Mapped[datetime] = mapped_column(server_default=DATABASE_CLOCK)

    __table_args__ = ({"sqlite_with_rowid": False},)


class Attempt(Base):
    """How one claim of a slice ended, for the jobs from `first` up to and without `past`. Insert-only."""

    __tablename__ = "attempts"

    id: Mapped[int] = mapped_column(RowId, Identity(), primary_key=True)
    batch_id: Mapped[str] = mapped_column(Key, ForeignKey("batches.id", ondelete="CASCADE"))
    slice_id: Mapped[int]
    first: Mapped[int]
    past: Mapped[int]
    number: Mapped[int] = mapped_column(Integer)
    token: Mapped[int]
    worker_id: Mapped[str | None]
    ending: Mapped[str]
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    claimed_at: Mapped[datetime | None]
    ended_at: Mapped[datetime] = mapped_column(server_default=DATABASE_CLOCK)

    __table_args__ = (Index("attempts_of_batch", "batch_id", "first"), {"sqlite_autoincrement": True})


class MaintenanceTaskRow(Base):
    """When a duty is due next; whoever moves that moment on is the one that does it."""

    __tablename__ = "duties"

    name: Mapped[str] = mapped_column(Key, primary_key=True)
    due_at: Mapped[datetime]
    ran_at: Mapped[datetime | None]
    ran_by: Mapped[str | None]
    acted_at: Mapped[datetime | None]  # when it last had something to do
    acted: Mapped[str | None]  # and what that was
    failed_at: Mapped[datetime | None]  # when it was last met by what is no error of ours
    failure: Mapped[str | None]  # and which


class Worker(Base):
    """One worker process; gone when it ended in good order, stale when its heartbeat is old."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    host: Mapped[str]
    pid: Mapped[int] = mapped_column(Integer)
    device: Mapped[str]
    pipeline: Mapped[str]
    model: Mapped[str]
    revision: Mapped[str | None]
    serves: Mapped[list[str]] = mapped_column(Document)  # every pipeline that it may pin; the ones above are pinned now
    state: Mapped[str]  # see WorkerState
    state_since: Mapped[datetime | None]
    started_at: Mapped[datetime] = mapped_column(server_default=DATABASE_CLOCK)
    heartbeat_at: Mapped[datetime] = mapped_column(server_default=DATABASE_CLOCK)


class LoadFailure(Base):
    """A pipeline that a worker could not load, until it can. A `seat` outlives its processes: `lifecycle/seats.py`."""

    __tablename__ = "load_failures"

    seat: Mapped[str] = mapped_column(Key, primary_key=True)
    pipeline: Mapped[str] = mapped_column(Key, primary_key=True)
    host: Mapped[str]
    device: Mapped[str]
    model: Mapped[str]
    revision: Mapped[str | None]  # that was tried; None where it did not come so far
    code: Mapped[str]  # model_unusable, model_missing, or what is this machine's trouble
    message: Mapped[str]
    tries: Mapped[int] = mapped_column(Integer)  # that failed with this code and revision, one after another
    first_at: Mapped[datetime] = mapped_column(server_default=DATABASE_CLOCK)
    last_at: Mapped[datetime] = mapped_column(server_default=DATABASE_CLOCK)
    next_at: Mapped[datetime]


class TokenBudget(Base):
    """The size of a micro-batch that answered fastest, for whoever runs the pipeline on such a device next."""

    __tablename__ = "budgets"

    pipeline: Mapped[str] = mapped_column(Key, primary_key=True)
    device: Mapped[str] = mapped_column(Key, primary_key=True)
    dtype: Mapped[str] = mapped_column(Key, primary_key=True)
    tokens: Mapped[int]
    found_at: Mapped[datetime] = mapped_column(server_default=DATABASE_CLOCK)
