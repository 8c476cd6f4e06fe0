"""The tables of worker processes: their state, what they can't load, their budgets and their maintenance."""

from datetime import datetime

from sqlalchemy import Integer
from sqlalchemy.orm import Mapped, mapped_column

from models.dialects.columns import DATABASE_CLOCK, Document, Key
from models.tables.base import Base


class Worker(Base):
    """One worker process; a clean exit deletes the row, and an old heartbeat makes it stale."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    host: Mapped[str]
    pid: Mapped[int] = mapped_column(Integer)
    device: Mapped[str]
    pipeline: Mapped[str]
    model: Mapped[str]
    revision: Mapped[str | None]
    # Every pipeline that it may load, with the hash of its settings; `pipeline` is the loaded one.
    served_pipelines: Mapped[dict[str, str]] = mapped_column(Document)
    guards: Mapped[dict[str, list[str]] | None] = mapped_column(Document)  # names of the guards of each, if any
    state: Mapped[str]  # see WorkerState
    state_since: Mapped[datetime | None]
    started_at: Mapped[datetime] = mapped_column(server_default=DATABASE_CLOCK)
    heartbeat_at: Mapped[datetime] = mapped_column(server_default=DATABASE_CLOCK)


class LoadFailure(Base):
    """A pipeline that a worker can't load at present; the worker's name stays the same across restarts."""

    __tablename__ = "load_failures"

    worker_name: Mapped[str] = mapped_column(Key, primary_key=True)
    pipeline: Mapped[str] = mapped_column(Key, primary_key=True)
    host: Mapped[str]
    device: Mapped[str]
    model: Mapped[str]
    revision: Mapped[str | None]  # the revision tried; NULL if unknown
    error_code: Mapped[str]  # model_unusable, model_missing, or a problem of this machine
    error_message: Mapped[str]
    attempts: Mapped[int] = mapped_column(Integer)  # consecutive failures with this code and revision
    first_failed_at: Mapped[datetime] = mapped_column(server_default=DATABASE_CLOCK)
    last_failed_at: Mapped[datetime] = mapped_column(server_default=DATABASE_CLOCK)
    next_attempt_at: Mapped[datetime]


class TokenBudget(Base):
    """The fastest micro-batch size found for a pipeline, device and dtype, as the start value of later workers."""

    __tablename__ = "token_budgets"

    pipeline: Mapped[str] = mapped_column(Key, primary_key=True)
    device: Mapped[str] = mapped_column(Key, primary_key=True)
    dtype: Mapped[str] = mapped_column(Key, primary_key=True)
    micro_batch_tokens: Mapped[int]
    tuned_at: Mapped[datetime] = mapped_column(server_default=DATABASE_CLOCK)


class MaintenanceTaskRow(Base):
    """The next due time of a maintenance task; the process that advances this time runs the task."""

    __tablename__ = "maintenance_tasks"

    name: Mapped[str] = mapped_column(Key, primary_key=True)
    next_run_at: Mapped[datetime]
    last_run_at: Mapped[datetime | None]
    last_run_by: Mapped[str | None]
    last_effect_at: Mapped[datetime | None]  # when the task last changed something
    last_effect: Mapped[str | None]  # the change
    last_failed_at: Mapped[datetime | None]  # when the task last failed
    last_failure: Mapped[str | None]  # the reason, or the name of an unexpected exception
    failures_in_a_row: Mapped[int] = mapped_column(Integer, server_default="0")  # since the last success
