"""The tables of schedules: what is to be run when, the runs of their slots, and what a person should hear of them."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Identity, Index, Integer, text
from sqlalchemy.orm import Mapped, mapped_column

from models.columns import DATABASE_CLOCK, Document, Key, RowId
from models.tables import Base

METADATA = Base.metadata  # those of `models/tables.py` too


class Schedule(Base):
    """What is to be run when; `definition` is all that a person said of it."""

    __tablename__ = "schedules"

    name: Mapped[str] = mapped_column(Key, primary_key=True)
    definition: Mapped[dict[str, Any]]
    declared: Mapped[bool]  # in batchmill.toml, which `schedule sync` follows
    suspended_at: Mapped[datetime | None]
    decided_at: Mapped[datetime]  # of every slot up to here it is decided whether it runs
    next_at: Mapped[datetime | None]  # the slot after that; none while suspended
    watermark: Mapped[datetime | None]  # up to here the source has been taken in by runs that completed
    created_at: Mapped[datetime] = mapped_column(server_default=DATABASE_CLOCK)

    __table_args__ = (Index("schedules_next", "next_at"),)


class Run(Base):
    """One slot of a schedule. The primary key makes a second run of it impossible, not merely unlikely."""

    __tablename__ = "runs"

    schedule: Mapped[str] = mapped_column(Key, ForeignKey("schedules.name", ondelete="CASCADE"), primary_key=True)
    slot: Mapped[datetime] = mapped_column(primary_key=True)
    cause: Mapped[str]
    state: Mapped[str]
    definition: Mapped[dict[str, Any]]  # the schedule's, when the slot came
    beside: Mapped[bool]  # it need not wait until the runs before it have ended
    batch_id: Mapped[str | None] = mapped_column(Key)  # no reference: the batch may be pruned, the run is kept
    since: Mapped[datetime | None]  # the run takes in what the source got from here on
    until: Mapped[datetime | None]  # and before this
    deadline_at: Mapped[datetime | None]
    look_at: Mapped[datetime | None]  # when somebody has to look next; none once it has ended
    held_by: Mapped[str | None]  # the process that is at it
    held_until: Mapped[datetime | None]  # unless it says more until then, by the database's clock
    tries: Mapped[int] = mapped_column(Integer, server_default="0")  # in vain, at what may pass with time
    starts: Mapped[int] = mapped_column(Integer, server_default="0")  # of a step, without its end so far
    faults: Mapped[int] = mapped_column(Integer, server_default="0")  # that are no errors of ours, and may pass
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    summary: Mapped[dict[str, Any] | None] = mapped_column(Document)
    decided_at: Mapped[datetime]
    started_at: Mapped[datetime | None]  # when the source was read and the batch accepted
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        Index("runs_batch", "batch_id", unique=True),
        Index(
            "runs_open",
            "schedule",
            "slot",
            postgresql_where=text("look_at IS NOT NULL"),
            sqlite_where=text("look_at IS NOT NULL"),
        ),
    )


class Event(Base):
    """Something about a schedule that a person should hear of."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(RowId, Identity(), primary_key=True)
    schedule: Mapped[str] = mapped_column(Key, ForeignKey("schedules.name", ondelete="CASCADE"))
    slot: Mapped[datetime | None]
    kind: Mapped[str]
    message: Mapped[str]
    at: Mapped[datetime]
    url: Mapped[str | None]  # of the webhook that is told of it
    tries: Mapped[int] = mapped_column(Integer, server_default="0")
    send_at: Mapped[datetime | None]  # when to try next, by the database's clock; none once it is sent or given up
    sent_at: Mapped[datetime | None]

    __table_args__ = (
        Index("events_of_slot", "schedule", "slot", "kind", unique=True),
        Index(
            "events_to_send",
            "send_at",
            postgresql_where=text("send_at IS NOT NULL"),
            sqlite_where=text("send_at IS NOT NULL"),
        ),
    )
