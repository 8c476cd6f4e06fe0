"""The objects of these routes, as the OpenAPI document describes them; a test compares them with what is sent."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

EXAMPLE_NAME = "nightly-tickets"

RunStateName = Literal["waiting", "running", "completed", "failed", "skipped", "missed"]
ScheduleState = Literal["suspended", "overdue", "late", "failed", "missed", "skipped", "running", "waiting", "active"]


class Run(BaseModel):
    """One execution of a schedule, for one scheduled time."""

    object: Literal["schedule.run"]
    schedule: str
    scheduled_at: datetime
    trigger: Literal["cron", "manual", "backfill", "after"] | str
    state: RunStateName
    batch_id: str | None
    source_batch_id: str | None
    since: datetime | None
    until: datetime | None
    planned_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    deadline_at: datetime | None
    error_code: str | None
    error_message: str | None
    summary: dict[str, Any] | None = Field(description="Counts, quality and drift of the results.")


class Event(BaseModel):
    """Something about a schedule that people should know."""

    schedule: str
    scheduled_at: datetime | None
    kind: str
    message: str
    occurred_at: datetime
    delivered_at: datetime | None = Field(description="When its webhook accepted it.")


class Schedule(BaseModel):
    """A schedule with its last run."""

    object: Literal["schedule"]
    name: str
    state: ScheduleState
    tenant: str
    from_config: bool = Field(description="Whether batchmill.toml defines it.")
    definition: dict[str, Any]
    next_run_at: datetime | None
    watermark: datetime | None
    suspended_at: datetime | None
    created_at: datetime
    last_run: Run | None


class ScheduleReport(Schedule):
    """A schedule with its next times, last runs and events."""

    next: list[datetime]
    runs: list[Run]
    events: list[Event]


class RunReport(Run):
    """A run with its events."""

    events: list[Event]


class ScheduleList(BaseModel):
    """Schedules by name."""

    object: Literal["list"]
    data: list[Schedule]


class RunList(BaseModel):
    """Runs, the latest first."""

    object: Literal["list"]
    data: list[Run]


class EventList(BaseModel):
    """Events, the newest first."""

    object: Literal["list"]
    data: list[Event]


class StartedRun(BaseModel):
    """A run that was started, and its batch."""

    scheduled_at: datetime
    batch_id: str


class StartedRuns(BaseModel):
    """The runs that will start, and the scheduled times whose runs were left alone."""

    object: Literal["schedule.started"]
    started: list[StartedRun]
    skipped: list[datetime]


class BackfillBody(BaseModel):
    """Which scheduled times to run: one, or a span."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"from": "2026-11-20", "to": "2026-11-24"}})

    time: str | None = Field(None, max_length=100, description="One scheduled time, or its day.")
    first: str | None = Field(None, alias="from", max_length=100, description="The start of a span: a day or a time.")
    last: str | None = Field(None, alias="to", max_length=100, description="The end, included; null = now.")
    rerun_completed: bool = Field(False, description="Repeat completed runs too.")
