"""Metrics of the schedules, for a server's `/metrics` and as text (version 0.0.4) for a textfile collector."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import and_, func, or_, select

from models.db import Database
from models.states import RunState
from models.tables.schedules import Run, Schedule


@dataclass(frozen=True, slots=True)
class ScheduleMetrics:
    """One schedule's numbers; `summary` is that of the last completed run. Times are aware, durations in seconds."""

    schedule: str
    runs_by_state: Mapping[str, int] = field(default_factory=dict)
    last_scheduled_at: datetime | None = None
    overdue_seconds: float = 0.0
    summary: Mapping[str, Any] | None = None


Sample = tuple[dict[str, str], float]


@dataclass(frozen=True, slots=True)
class ScheduleFamily:
    """One metric of all schedules, a gauge."""

    name: str
    description: str
    samples: Callable[[ScheduleMetrics], Iterable[Sample]]

    @property
    def full_name(self) -> str:
        """The name as Prometheus knows it."""
        return f"batchmill_schedule_{self.name}"

    def samples_of(self, schedules: Iterable[ScheduleMetrics]) -> Iterator[Sample]:
        """Yield the samples of these schedules with all their labels."""
        for schedule in schedules:
            for labels, value in self.samples(schedule):
                yield {"schedule": schedule.schedule, **labels}, value


def render(schedule_metrics: Sequence[ScheduleMetrics]) -> str:
    """Return all metrics with their help and type; a number that a schedule lacks has no line."""
    lines = []
    for family in FAMILIES:
        lines += [f"# HELP {family.full_name} {family.description}", f"# TYPE {family.full_name} gauge"]
        lines += [
            f"{family.full_name}{{{_format_labels(labels)}}} {_format_number(value)}"
            for labels, value in family.samples_of(schedule_metrics)
        ]
    return "".join(f"{line}\n" for line in lines)


def collect(database: Database, now: datetime) -> list[ScheduleMetrics]:
    """Read the numbers of every schedule, by name, with few queries however many there are."""
    is_completed = Run.state == RunState.COMPLETED.value
    newest = (
        select(Run.schedule, func.max(Run.scheduled_at).label("scheduled_at"))
        .where(is_completed)
        .group_by(Run.schedule)
        .subquery()
    )
    last_runs = select(Run.schedule, Run.scheduled_at, Run.summary).join(
        newest, and_(newest.c.schedule == Run.schedule, newest.c.scheduled_at == Run.scheduled_at)
    )
    overdue = (
        select(Run.schedule, func.min(Run.deadline_at).label("since"))
        .outerjoin(newest, newest.c.schedule == Run.schedule)
        .where(
            Run.state.not_in((RunState.COMPLETED.value, RunState.SKIPPED.value)),
            Run.deadline_at < now,
            or_(newest.c.scheduled_at.is_(None), Run.scheduled_at > newest.c.scheduled_at),
        )
        .group_by(Run.schedule)
    )
    runs_by_state: dict[str, dict[str, int]] = {}
    with database.snapshot() as connection:
        names = connection.scalars(
            select(Schedule.name).where(Schedule.deleted_at.is_(None)).order_by(Schedule.name)
        ).all()
        for name, state, count in connection.execute(
            select(Run.schedule, Run.state, func.count()).group_by(Run.schedule, Run.state)
        ):
            runs_by_state.setdefault(name, {})[state] = count
        last = {row.schedule: row for row in connection.execute(last_runs.where(is_completed))}
        since = {row.schedule: row.since for row in connection.execute(overdue)}
    return [
        ScheduleMetrics(
            name,
            runs_by_state=runs_by_state.get(name, {}),
            last_scheduled_at=last[name].scheduled_at if name in last else None,
            overdue_seconds=(now - since[name]).total_seconds() if name in since else 0.0,
            summary=last[name].summary if name in last else None,
        )
        for name in names
    ]


def _last_scheduled_at_samples(metrics: ScheduleMetrics) -> Iterable[Sample]:
    return [({}, metrics.last_scheduled_at.timestamp())] if metrics.last_scheduled_at else []


def _run_samples(metrics: ScheduleMetrics) -> Iterable[Sample]:
    return [({"state": state.value}, metrics.runs_by_state.get(state.value, 0)) for state in RunState]


def _overdue_samples(metrics: ScheduleMetrics) -> Iterable[Sample]:
    return [({}, metrics.overdue_seconds)]


def _summary_samples(name: str) -> Callable[[ScheduleMetrics], Iterable[Sample]]:
    def found(schedule: ScheduleMetrics) -> Iterable[Sample]:
        value = (schedule.summary or {}).get(name)
        return [] if value is None else [({}, value)]

    return found


def _guard_samples(metrics: ScheduleMetrics) -> Iterable[Sample]:
    guards = (metrics.summary or {}).get("guards", {})
    return [
        ({"guard": guard, "verdict": outcome}, count)
        for guard, outcomes in guards.items()
        for outcome, count in outcomes.items()
    ]


def _drift_samples(metrics: ScheduleMetrics) -> Iterable[Sample]:
    drift = (metrics.summary or {}).get("drift")
    return [({}, drift["worst"])] if drift else []


FAMILIES = (
    ScheduleFamily(
        "last_completed_scheduled_timestamp_seconds",
        "The newest scheduled time whose run completed.",
        _last_scheduled_at_samples,
    ),
    ScheduleFamily("runs", "Runs that are kept.", _run_samples),
    ScheduleFamily(
        "overdue_seconds", "Since the first deadline that passed with no run completed since.", _overdue_samples
    ),
    ScheduleFamily("last_run_rows", "Rows of the last completed run.", _summary_samples("total")),
    ScheduleFamily("last_run_failed_rows", "Rows of it that failed.", _summary_samples("failed")),
    ScheduleFamily("last_run_reused_rows", "Rows of it taken from earlier results.", _summary_samples("reused")),
    ScheduleFamily("last_run_guard_rows", "Rows of it by what a guard did.", _guard_samples),
    ScheduleFamily("last_run_seconds", "How long it took.", _summary_samples("seconds")),
    ScheduleFamily("last_run_drift", "How far its results were from those before, from 0 to 1.", _drift_samples),
)


def _format_labels(labels: Mapping[str, str]) -> str:
    return ",".join(f'{name}="{_escape(value)}"' for name, value in labels.items())


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _format_number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
