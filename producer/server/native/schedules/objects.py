"""The objects of these routes, as the OpenAPI document describes them; a test compares them with what is sent."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

EXAMPLE_NAME = "nightly-tickets"
EXAMPLE_RUN: dict[str, Any] = {
    "object": "schedule.run",
    "schedule": EXAMPLE_NAME,
    "scheduled_at": "2026-11-24T02:00:00.000Z",
    "trigger": "cron",
    "state": "completed",
    "batch_id": "batch_06h2ct5jnpnpm5t4md9m",
    "source_batch_id": None,
    "since": "2026-11-23T02:00:00.000Z",
    "until": "2026-11-24T02:00:00.000Z",
    "planned_at": "2026-11-24T02:00:00.210Z",
    "started_at": "2026-11-24T02:00:01.530Z",
    "finished_at": "2026-11-24T02:03:12.040Z",
    "deadline_at": "2026-11-24T06:00:00.000Z",
    "error_code": None,
    "error_message": None,
    "summary": {"total": 4810, "computed": 4800, "reused": 0, "failed": 10, "truncated": 2},
}
EXAMPLE_SCHEDULE: dict[str, Any] = {
    "object": "schedule",
    "name": EXAMPLE_NAME,
    "state": "active",
    "tenant": "default",
    "from_config": True,
    "definition": {"pipeline": "sentiment-analysis", "cron": "0 2 * * *", "tz": "UTC", "sql": "tickets"},
    "next_run_at": "2026-11-25T02:00:00.000Z",
    "watermark": "2026-11-24T02:00:00.000Z",
    "suspended_at": None,
    "created_at": "2026-11-01T09:12:44.100Z",
    "last_run": EXAMPLE_RUN,
}
EXAMPLE_EVENT: dict[str, Any] = {
    "schedule": EXAMPLE_NAME,
    "scheduled_at": "2026-11-24T02:00:00.000Z",
    "kind": "late",
    "message": "at its pace the run will miss its deadline",
    "occurred_at": "2026-11-24T05:10:00.000Z",
    "delivered_at": "2026-11-24T05:10:03.000Z",
}

EXAMPLE_UNREADABLE: dict[str, Any] = {
    "name": "nightly-reviews",
    "tenant": "default",
    "problem": "schedule nightly-reviews: unknown field 'weekly'; this version can't read it; the operator has to "
    "create it again or delete it",
    "suspended_at": None,
}

RunStateName = Literal["waiting", "running", "completed", "failed", "skipped", "missed"]
ScheduleState = Literal["suspended", "overdue", "late", "failed", "missed", "skipped", "running", "waiting", "active"]


class Run(BaseModel):
    """One execution of a schedule, for one scheduled time."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE_RUN})

    object: Literal["schedule.run"]
    schedule: str
    scheduled_at: datetime
    trigger: Literal["cron", "manual", "backfill", "after"]
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

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE_EVENT})

    schedule: str
    scheduled_at: datetime | None
    kind: str
    message: str
    occurred_at: datetime
    delivered_at: datetime | None = Field(description="When its webhook accepted it.")


class Schedule(BaseModel):
    """A schedule with its last run."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE_SCHEDULE})

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

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                **EXAMPLE_SCHEDULE,
                "next": ["2026-11-25T02:00:00.000Z", "2026-11-26T02:00:00.000Z"],
                "runs": [EXAMPLE_RUN],
                "events": [EXAMPLE_EVENT],
            }
        }
    )

    next: list[datetime]
    runs: list[Run]
    events: list[Event]


class RunReport(Run):
    """A run with its events."""

    model_config = ConfigDict(json_schema_extra={"example": {**EXAMPLE_RUN, "events": [EXAMPLE_EVENT]}})

    events: list[Event]


class UnreadableSchedule(BaseModel):
    """A schedule whose definition another version of Batchmill has saved; no runs of it start."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE_UNREADABLE})

    name: str
    tenant: str
    problem: str = Field(description="Why its definition can't be read, and what helps.")
    suspended_at: datetime | None


class ScheduleList(BaseModel):
    """Schedules by name."""

    object: Literal["list"]
    data: list[Schedule]
    unreadable: list[UnreadableSchedule] = Field(description="Those that this version can't read.")


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

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "object": "schedule.started",
                "started": [{"scheduled_at": "2026-11-24T02:00:00.000Z", "batch_id": "batch_06h2ct5jnpnpm5t4md9m"}],
                "skipped": ["2026-11-23T02:00:00.000Z"],
            }
        }
    )

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
