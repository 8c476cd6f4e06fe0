"""The tables of results: the models that computed them, what they replaced, and the attempts that gave none."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, Integer, text
from sqlalchemy.orm import Mapped, mapped_column

from models.dialects.columns import DATABASE_CLOCK, Document, Key, RowId, Vector
from models.tables.base import Base


class ModelVersion(Base):
    """The model, device and libraries that computed a result; `fingerprint` is a hash of the other columns."""

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
    adapter: Mapped[str | None]  # the LoRA adapter on top of the model
    adapter_revision: Mapped[str | None]


class JobOutcomeColumns:
    """The columns of a job's outcome, current or superseded."""

    batch_id: Mapped[str] = mapped_column(Key, primary_key=True)
    position: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    status: Mapped[str]
    output: Mapped[dict[str, Any] | None] = mapped_column(Document)
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    truncated: Mapped[bool]
    attempts: Mapped[int] = mapped_column(Integer)
    slice_id: Mapped[int | None]
    fencing_token: Mapped[int | None]  # the token of the claim that wrote it
    model_version_id: Mapped[int | None] = mapped_column(RowId)
    windows: Mapped[int | None] = mapped_column(Integer)  # in which the text was read; NULL: no model read it
    guards: Mapped[list[Any] | None] = mapped_column(Document)  # the verdicts, see `models/guards/verdict.py`
    vector: Mapped[bytes | None] = mapped_column(Vector)  # instead of `output`; see `models/vectors.py`
    # Of the input, as the model read it in all windows. NULL: no model read it, or a worker of tables 0011 wrote it.
    input_tokens: Mapped[int | None] = mapped_column(Integer)
    output_tokens: Mapped[int | None] = mapped_column(Integer)  # generated, with the end token of each text
    finish_reason: Mapped[str | None]  # of a generated text, see `models/states.py`


class Result(JobOutcomeColumns, Base):
    """The single outcome of a job; the primary key makes a second one impossible."""

    __tablename__ = "results"

    seq: Mapped[int]  # follows the order of commits, so a cursor misses no result
    reused_from: Mapped[str | None] = mapped_column(Key)  # the batch that computed it; it may be deleted already
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
    )


class SupersededResult(JobOutcomeColumns, Base):
    """A result that a replay has replaced."""

    __tablename__ = "superseded_results"

    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    finished_at: Mapped[datetime]
    superseded_at: Mapped[datetime] = mapped_column(server_default=DATABASE_CLOCK)

    __table_args__ = ({"sqlite_with_rowid": False},)


class Attempt(Base):
    """The outcome of one claim of a slice, for jobs from `start_position` to before `end_position`; insert-only."""

    __tablename__ = "attempts"

    id: Mapped[int] = mapped_column(RowId, Identity(), primary_key=True)
    batch_id: Mapped[str] = mapped_column(Key, ForeignKey("batches.id", ondelete="CASCADE"))
    slice_id: Mapped[int]
    start_position: Mapped[int]
    end_position: Mapped[int]
    attempt: Mapped[int] = mapped_column(Integer)
    fencing_token: Mapped[int]
    worker_id: Mapped[str | None]
    outcome: Mapped[str]
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    claimed_at: Mapped[datetime | None]
    ended_at: Mapped[datetime] = mapped_column(server_default=DATABASE_CLOCK)

    __table_args__ = (Index("attempts_of_batch", "batch_id", "start_position"), {"sqlite_autoincrement": True})
