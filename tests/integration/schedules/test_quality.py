"""The numbers behind the metrics, on both databases."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert

from models.db import Database
from models.states import RunState
from models.tables.schedules import Run, Schedule
from producer.schedules.metrics import ScheduleMetrics, collect

FIRST = datetime(2026, 3, 1, 1, tzinfo=UTC)
NOW = FIRST + timedelta(days=4)
COMPLETED, FAILED, MISSED, RUNNING = RunState.COMPLETED, RunState.FAILED, RunState.MISSED, RunState.RUNNING


@pytest.fixture
def database(database: Database) -> Database:
    with database.write() as connection:
        for name in ("nightly", "empty"):
            values = {"name": name, "definition": {}, "from_config": False, "evaluated_until": FIRST}
            connection.execute(insert(Schedule).values(**values))
    return database


def run(database: Database, day: int, state: RunState, **columns: Any) -> None:
    scheduled_at = FIRST + timedelta(days=day)
    values = {
        "schedule": "nightly",
        "scheduled_at": scheduled_at,
        "trigger": "cron",
        "state": state.value,
        "definition": {},
        "concurrent": False,
    }
    times = {"planned_at": scheduled_at, "deadline_at": scheduled_at + timedelta(hours=4)}
    with database.write() as connection:
        connection.execute(insert(Run).values(**values | times | columns))


def nightly(database: Database) -> ScheduleMetrics:
    [empty, nightly] = collect(database, NOW)
    assert empty == ScheduleMetrics("empty")
    return nightly


def test_of_runs(database: Database) -> None:
    run(database, 0, COMPLETED, summary={"total": 5})
    run(database, 1, COMPLETED, summary={"total": 7})
    run(database, 4, RUNNING)

    assert nightly(database) == ScheduleMetrics(
        "nightly", {"completed": 2, "running": 1}, FIRST + timedelta(days=1), 0.0, {"total": 7}
    )


def test_overdue_since_the_first_deadline_that_nobody_made_good(database: Database) -> None:
    run(database, 0, FAILED)
    assert nightly(database).overdue_seconds == timedelta(days=4, hours=-4).total_seconds()
    run(database, 1, COMPLETED)
    assert nightly(database).overdue_seconds == 0.0
    run(database, 2, MISSED)
    run(database, 3, FAILED)

    assert nightly(database).overdue_seconds == timedelta(days=2, hours=-4).total_seconds()
