"""The tables of schedules, their runs and their events."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Identity, Index, Integer, text
from sqlalchemy.orm import Mapped, mapped_column

from models.dialects.columns import DATABASE_CLOCK, Document, Key, RowId
from models.tables.base import Base


class Schedule(Base):
    """A schedule; `definition` holds everything that the user specified."""

    __tablename__ = "schedules"

    name: Mapped[str] = mapped_column(Key, primary_key=True)
    definition: Mapped[dict[str, Any]]
    tenant: Mapped[str] = mapped_column(Key, server_default="default")  # to whom it and its batches belong
    from_config: Mapped[bool]  # from batchmill.toml, which `schedule sync` follows
    suspended_at: Mapped[datetime | None]
    evaluated_until: Mapped[datetime]  # every scheduled time until then has a run, or was skipped or missed
    next_run_at: Mapped[datetime | None]  # the first scheduled time after that; none while suspended
    watermark: Mapped[datetime | None]  # completed runs have read the source up to this time
    created_at: Mapped[datetime] = mapped_column(server_default=DATABASE_CLOCK)
    deleted_at: Mapped[datetime | None]  # a deleted schedule keeps its watermark and runs until it is purged

    __table_args__ = (Index("schedules_next_run", "next_run_at"),)


class Run(Base):
    """One run of a schedule; the primary key prevents a second run for a scheduled time."""

    __tablename__ = "runs"

    schedule: Mapped[str] = mapped_column(Key, ForeignKey("schedules.name", ondelete="CASCADE"), primary_key=True)
    scheduled_at: Mapped[datetime] = mapped_column(primary_key=True)
    trigger: Mapped[str]
    state: Mapped[str]
    definition: Mapped[dict[str, Any]]  # copied from the schedule when the run was planned
    concurrent: Mapped[bool]  # need not wait for earlier runs to end
    id_type: Mapped[str | None]  # type of the source's ids: bigint, uuid or text; NULL until it was read
    embedding_key: Mapped[str | None]  # hash of the settings that make its vectors; NULL if it makes none
    batch_id: Mapped[str | None] = mapped_column(Key)  # no foreign key: the run outlasts a pruned batch
    source_batch_id: Mapped[str | None] = mapped_column(Key)  # the batch of another run, whose results it reads
    since: Mapped[datetime | None]  # the run reads rows from this time on
    until: Mapped[datetime | None]  # and before this time
    deadline_at: Mapped[datetime | None]
    next_check_at: Mapped[datetime | None]  # when the next step is due; NULL once the run has ended
    holder_id: Mapped[str | None]  # the process that executes it
    held_until: Mapped[datetime | None]  # when the holder's lease expires, by the database's clock
    attempts: Mapped[int] = mapped_column(
        Integer, server_default="0"
    )  # attempts of the current step that failed transiently
    step_starts: Mapped[int] = mapped_column(
        Integer, server_default="0"
    )  # how often the current step was started without finishing
    unexpected_errors: Mapped[int] = mapped_column(
        Integer, server_default="0"
    )  # transient errors outside Batchmill's own error tree
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    summary: Mapped[dict[str, Any] | None] = mapped_column(Document)
    planned_at: Mapped[datetime]
    started_at: Mapped[datetime | None]  # when the source was read and the batch accepted
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        Index("runs_batch", "batch_id", unique=True),
        Index(
            "runs_open",
            "schedule",
            "scheduled_at",
            postgresql_where=text("next_check_at IS NOT NULL"),
            sqlite_where=text("next_check_at IS NOT NULL"),
        ),
    )


class Event(Base):
    """Something about a schedule that people should know."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(RowId, Identity(), primary_key=True)
    schedule: Mapped[str] = mapped_column(Key, ForeignKey("schedules.name", ondelete="CASCADE"))
    scheduled_at: Mapped[datetime | None]
    kind: Mapped[str]
    message: Mapped[str]
    occurred_at: Mapped[datetime]
    webhook_url: Mapped[str | None]  # the target of the delivery
    delivery_attempts: Mapped[int] = mapped_column(Integer, server_default="0")
    next_delivery_at: Mapped[datetime | None]  # by the database's clock; NULL once delivered or given up
    delivered_at: Mapped[datetime | None]

    __table_args__ = (
        Index("events_of_run", "schedule", "scheduled_at", "kind", unique=True),
        Index(
            "events_to_deliver",
            "next_delivery_at",
            postgresql_where=text("next_delivery_at IS NOT NULL"),
            sqlite_where=text("next_delivery_at IS NOT NULL"),
        ),
    )
