"""The tables of batches: their jobs, their guards, and the slices in which the jobs are claimed."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Computed, Double, ForeignKey, Identity, Index, Integer, false, text
from sqlalchemy.orm import Mapped, mapped_column

from models.dialects.columns import DATABASE_CLOCK, Document, Key, RowId
from models.lifecycle.claim_order import CLAIM_ORDER_COLUMNS, QUEUED_ORDINARY, QUEUED_QUARANTINED
from models.tables.base import Base

# Batches that somebody may have to look at. With `failed` itself in this condition, PostgreSQL would write
# all indexes of a batch at every commit that counts a failure; `has_failures` changes once.
TROUBLED = "(has_failures OR status IN ('failed', 'expired'))"


class Batch(Base):
    """One submission; its counters change in the same transaction as the results that they count."""

    __tablename__ = "batches"

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    name: Mapped[str | None]
    pipeline: Mapped[str]
    task: Mapped[str]
    model: Mapped[str]
    revision: Mapped[str | None]  # set once, by the catalogue or by the first worker that claims
    parameters: Mapped[dict[str, Any]]
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata")
    priority: Mapped[int] = mapped_column(Integer, server_default="0")
    status: Mapped[str]
    total: Mapped[int] = mapped_column(server_default="0")
    succeeded: Mapped[int] = mapped_column(server_default="0")
    failed: Mapped[int] = mapped_column(server_default="0")
    cancelled: Mapped[int] = mapped_column(server_default="0")
    expired: Mapped[int] = mapped_column(server_default="0")
    reused: Mapped[int] = mapped_column(server_default="0")  # succeeded jobs with results from earlier batches
    last_seq: Mapped[int] = mapped_column(server_default="0")
    tokens: Mapped[int] = mapped_column(server_default="0")
    padded_tokens: Mapped[int] = mapped_column(server_default="0")
    device_seconds: Mapped[float] = mapped_column(Double, server_default="0")
    max_failures: Mapped[int | None]  # more failed jobs than this terminate the batch
    max_attempts: Mapped[int | None] = mapped_column(Integer)  # NULL: the setting
    terminating_as: Mapped[str | None]  # the reason, while the batch is `cancelling`
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    idempotency_key: Mapped[str | None] = mapped_column(Key)  # chosen by the user; unique among its tenant's
    request_fingerprint: Mapped[str | None]  # hash of the request, if the batch has a key
    rows_read: Mapped[int] = mapped_column(server_default="0")  # rows ingested, if the batch has a key
    rows_digest: Mapped[str | None]  # hash of the rows ingested so far
    ingesting: Mapped[bool] = mapped_column(server_default=false())  # in progress, and more jobs may follow
    guarded: Mapped[bool] = mapped_column(server_default=false())  # `batch_guards` has rows for it
    guarded_seq: Mapped[int] = mapped_column(server_default="0")  # the last seq by a process that knows guards
    output_cache_key: Mapped[str | None] = mapped_column(Key)  # hash of all that determines an output
    source_batch_id: Mapped[str | None] = mapped_column(Key)  # the batch whose results are its inputs; may be deleted
    tenant: Mapped[str] = mapped_column(Key, server_default="default")  # to whom it belongs
    endpoint: Mapped[str | None]  # which the lines of its file name, such as /v1/embeddings; NULL: native rows
    completion_window: Mapped[str | None]  # as an OpenAI client asked for it
    input_file_id: Mapped[str | None] = mapped_column(Key)  # the uploaded file that it is read from
    read_request: Mapped[dict[str, Any] | None] = mapped_column(Document)  # how to read that; NULL once it was read
    input_errors: Mapped[list[Any] | None] = mapped_column(Document)  # lines that can't be jobs, if they rejected it
    response_options: Mapped[dict[str, Any] | None] = mapped_column(Document)  # of the endpoint; NULL: none
    webhook_url: Mapped[str | None]  # called when it ends
    holder_id: Mapped[str | None]  # the process that ingests it; another may take over
    created_at: Mapped[datetime] = mapped_column(server_default=DATABASE_CLOCK)
    holder_heartbeat_at: Mapped[datetime | None]  # the submitter's, while the batch is `validating`
    in_progress_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    failed_at: Mapped[datetime | None]
    expired_at: Mapped[datetime | None]
    cancelling_at: Mapped[datetime | None]
    cancelled_at: Mapped[datetime | None]
    has_failures: Mapped[bool] = mapped_column(Computed("failed > 0", persisted=True))  # for an index

    __table_args__ = (
        # Finds the pipelines that have work, at a cost independent of the number of ended batches.
        Index(
            "batches_in_progress",
            "pipeline",
            "task",
            "revision",
            postgresql_where=text("status = 'in_progress'"),
            sqlite_where=text("status = 'in_progress'"),
        ),
        Index("batches_newest", "created_at", "id"),
        Index("batches_newest_of_tenant", "tenant", "created_at", "id"),
        Index("batches_idempotency_key", "tenant", "idempotency_key", unique=True),
        *(
            Index(name, column, postgresql_where=text(condition), sqlite_where=text(condition))
            for name, column, condition in (
                ("batches_of_file", "input_file_id", "input_file_id IS NOT NULL"),
                ("batches_to_read", "id", "read_request IS NOT NULL"),
                ("batches_open_of_tenant", "tenant", "status IN ('validating', 'in_progress', 'cancelling')"),
            )
        ),
        Index(
            "batches_troubled",
            "created_at",
            "id",
            "tenant",
            postgresql_where=text(TROUBLED),
            sqlite_where=text(TROUBLED),
        ),
        Index(
            "batches_source",
            "source_batch_id",
            postgresql_where=text("source_batch_id IS NOT NULL"),
            sqlite_where=text("source_batch_id IS NOT NULL"),
        ),
        Index("batches_output_cache_key", "output_cache_key", "created_at"),
        Index(
            "batches_with_deadline",
            "expires_at",
            postgresql_where=text("status = 'in_progress' AND expires_at IS NOT NULL"),
            sqlite_where=text("status = 'in_progress' AND expires_at IS NOT NULL"),
        ),
        Index("batches_ingesting", "id", postgresql_where=text("ingesting"), sqlite_where=text("ingesting")),
        Index(
            "batches_transitioning",
            "id",
            postgresql_where=text("status IN ('validating', 'cancelling')"),
            sqlite_where=text("status IN ('validating', 'cancelling')"),
        ),
    )


class Job(Base):
    """One input of a batch, normalised by the task's spec."""

    __tablename__ = "jobs"

    # No foreign key here or in results: PostgreSQL would check it per row, and each inserter has locked the batch.
    batch_id: Mapped[str] = mapped_column(Key, primary_key=True)
    position: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    custom_id: Mapped[str | None] = mapped_column(Key)
    input: Mapped[dict[str, Any]]
    passthrough: Mapped[dict[str, Any] | None] = mapped_column(
        Document
    )  # the row's columns that are returned with the result
    invalid: Mapped[bool] = mapped_column(server_default=false())  # it can't run: `input` is what could be kept of it
    redacted: Mapped[bool] = mapped_column(server_default=false())  # by a guard; `input` is what the model read
    original_input: Mapped[dict[str, Any] | None]  # as submitted, if a guard redacted it and keeps the original
    source_batch_id: Mapped[str | None] = mapped_column(Key)  # the batch whose result the input was taken from
    source_position: Mapped[int | None]  # and the position of its job; either may be deleted already

    __table_args__ = (
        # An invalid row may have the id of another.
        Index(
            "jobs_custom_id",
            "batch_id",
            "custom_id",
            text("(CASE WHEN invalid THEN position ELSE -1 END)"),
            unique=True,
            postgresql_where=text("custom_id IS NOT NULL"),
            sqlite_where=text("custom_id IS NOT NULL"),
        ),
        {"sqlite_with_rowid": False},
    )


class BatchGuard(Base):
    """A guard that every row of a batch must pass, with its verdicts so far; changes with the results counted here."""

    __tablename__ = "batch_guards"

    batch_id: Mapped[str] = mapped_column(Key, ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True)
    guard: Mapped[str] = mapped_column(Key, primary_key=True)
    stage: Mapped[str]  # input or output
    action: Mapped[str]  # fail, flag or redact
    passed: Mapped[int] = mapped_column(server_default="0")
    flagged: Mapped[int] = mapped_column(server_default="0")
    redacted: Mapped[int] = mapped_column(server_default="0")
    blocked: Mapped[int] = mapped_column(server_default="0")
    device_seconds: Mapped[float] = mapped_column(Double, server_default="0")


class Slice(Base):
    """A contiguous range of a batch's jobs: the unit of claim, lease, retry and wakeup."""

    __tablename__ = "slices"

    id: Mapped[int] = mapped_column(RowId, Identity(), primary_key=True)
    batch_id: Mapped[str] = mapped_column(Key, ForeignKey("batches.id", ondelete="CASCADE"))
    start_position: Mapped[int]
    size: Mapped[int] = mapped_column(Integer)
    state: Mapped[str]
    attempts: Mapped[int] = mapped_column(Integer, server_default="0")  # claims, except those released in good order
    crashes: Mapped[int] = mapped_column(Integer, server_default="0")  # worker crashes, except kills from outside
    lost_leases: Mapped[int] = mapped_column(Integer, server_default="0")  # since the last result
    retries: Mapped[int] = mapped_column(Integer, server_default="0")  # after transient failures
    fencing_token: Mapped[int] = mapped_column(server_default="0")  # grows with every claim, never shrinks
    worker_id: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
    available_at: Mapped[datetime | None]
    first_claimed_at: Mapped[datetime | None]  # time of the first claim
    leased_at: Mapped[datetime | None]  # time of the latest claim
    done_at: Mapped[datetime | None]
    # The key of the claim order, see `lifecycle/claim_order.py`; triggers set it, so writers of slices need not.
    pipeline: Mapped[str | None]
    tenant: Mapped[str] = mapped_column(Key, server_default="default")
    priority_rank: Mapped[int | None] = mapped_column(Integer)
    deadline_ms: Mapped[int | None]
    jobs_ahead: Mapped[int | None]
    batch_created_ms: Mapped[int | None]

    __table_args__ = (
        Index("slices_of_batch", "batch_id", "start_position"),
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
            "tenant",
            *CLAIM_ORDER_COLUMNS,
            postgresql_where=text(QUEUED_ORDINARY),
            sqlite_where=text(QUEUED_ORDINARY),
        ),
        Index(
            "slices_quarantined",
            "pipeline",
            "tenant",
            *CLAIM_ORDER_COLUMNS,
            postgresql_where=text(QUEUED_QUARANTINED),
            sqlite_where=text(QUEUED_QUARANTINED),
        ),
        {"sqlite_autoincrement": True},  # a reused id would make old leases valid again
    )
