"""What pages read of the runs of schedules: bars, days of a calendar, and pages of runs."""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.event import listen, remove

from models.documents import to_json
from models.states import BatchStatus, RunState
from producer.schedules import registry, reports
from producer.schedules.history import calendar_runs, run_marks, run_pages
from producer.schedules.runs import manual_runs, run_views
from producer.times import TimeRange
from tests.factories.schedules import ScheduleHarness, insert_run, utc

GOOD, BAD = {"label": "POSITIVE", "score": 0.9}, {"label": "NEGATIVE", "score": 0.6}
SUMMARY = {"total": 7, "failed": 1, "quality": {"rows": 7, "vectors": {"mean": [0.5] * 500, "zero": 1}}}


COPY_RUN = """
WITH RECURSIVE n (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM n WHERE number < :count)
INSERT INTO runs (schedule, scheduled_at, state, "trigger", definition, planned_at, attempts, concurrent)
SELECT schedule, {days}, state, "trigger", definition, planned_at, attempts, concurrent FROM runs CROSS JOIN n
"""
DAYS_LATER = {
    "postgresql": "scheduled_at + make_interval(mins => number)",
    "sqlite": "strftime('%Y-%m-%d %H:%M:%f000', scheduled_at, number || ' minutes')",
}
EXPLAIN = {"postgresql": "EXPLAIN (ANALYZE, TIMING OFF, COSTS OFF) ", "sqlite": "EXPLAIN QUERY PLAN "}


@pytest.fixture
def harness(database_url: str, tmp_path: Path) -> Iterator[ScheduleHarness]:
    created = ScheduleHarness(database_url, tmp_path)
    created.create_schedule(alert_drift=0.2)
    yield created
    created.close()


def play_runs(harness: ScheduleHarness, *outputs: object) -> None:
    for day, output in enumerate(outputs, start=2):
        for _ in range(40):
            harness.tickets.insert_ticket(utc(f"03-0{day - 1} 21:00"))
        harness.run_schedule(utc(f"03-0{day} 02:00"), output, failures_per_claim=day % 2)


def test_a_mark_has_the_state_the_rows_and_the_drift_of_a_run(harness: ScheduleHarness) -> None:
    play_runs(harness, GOOD, GOOD, BAD)

    marks = run_marks.last_marks(harness.database, ["nightly"], 30)["nightly"]

    assert [mark.scheduled_at for mark in marks] == [utc(f"03-0{day} 02:00") for day in (2, 3, 4)]
    assert [(mark.state, mark.rows, mark.failed) for mark in marks] == [
        (RunState.COMPLETED, 40, 0),
        (RunState.COMPLETED, 40, 1),
        (RunState.COMPLETED, 40, 0),
    ]
    assert marks[0].drift is None
    assert [mark.has_drifted for mark in marks] == [False, False, True]
    assert marks[-1].max_drift == 0.2
    assert marks[-1].seconds == timedelta(minutes=5).total_seconds()


def test_only_the_last_runs_of_each_schedule_are_marks(harness: ScheduleHarness) -> None:
    harness.create_schedule("other")
    harness.create_schedule("without-runs", cron="0 0 1 1 *")
    for day in range(2, 7):
        harness.run_schedule(utc(f"03-0{day} 02:00"))

    marks = run_marks.last_marks(harness.database, ["nightly", "other", "without-runs", "unknown"], 2)

    last_two = [utc("03-05 02:00"), utc("03-06 02:00")]
    assert [mark.scheduled_at for mark in marks["nightly"]] == last_two
    assert [mark.scheduled_at for mark in marks["other"]] == last_two
    assert marks["without-runs"] == marks["unknown"] == []
    assert run_marks.last_marks(harness.database, [], 2) == {}


def test_last_marks_read_no_more_runs_than_they_show(harness: ScheduleHarness) -> None:
    """A scan of all runs would take seconds where a schedule has run for years."""
    harness.create_schedule("other")
    harness.run_schedule(utc("03-02 02:00"))
    with harness.database.write() as connection:
        connection.execute(text(COPY_RUN.format(days=DAYS_LATER[connection.dialect.name])), {"count": 3_000})
    if harness.database.engine.dialect.name == "postgresql":
        harness.execute("ANALYZE runs")
    plans: list[str] = []

    def explain(_connection: object, cursor: Any, statement: str, parameters: Any, *_context: object) -> None:
        if "rows_total" in statement:
            cursor.execute(EXPLAIN[harness.database.engine.dialect.name] + statement, parameters)
            plans.append("\n".join(str(row) for row in cursor.fetchall()))

    listen(harness.database.engine, "before_cursor_execute", explain)
    try:
        run_marks.last_marks(harness.database, ["nightly", "other"], 30)
    finally:
        remove(harness.database.engine, "before_cursor_execute", explain)

    [plan] = plans
    assert "Seq Scan on runs" not in plan
    assert "SCAN r" not in plan
    assert all(int(rows) <= 30 for rows in re.findall(r"Index Scan.* on runs.*actual rows=(\d+)", plan)), plan


def test_marks_since_a_time_are_the_newest_ones(harness: ScheduleHarness) -> None:
    for day in range(2, 7):
        harness.run_schedule(utc(f"03-0{day} 02:00"))

    since = run_marks.marks_since(harness.database, "nightly", utc("03-04 02:00"), 10)
    newest = run_marks.marks_since(harness.database, "nightly", utc("03-01 00:00"), 2)

    assert [mark.scheduled_at.day for mark in since] == [4, 5, 6]
    assert [mark.scheduled_at.day for mark in newest] == [5, 6]


def test_runs_of_a_calendar_are_counted_where_they_are_many(
    harness: ScheduleHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = utc("03-02 02:00")
    for minute in range(20):
        state = "failed" if minute == 16 else "completed"
        insert_run(harness.database, "nightly", start + timedelta(minutes=minute), state=state)
    harness.execute(
        "INSERT INTO events (schedule, scheduled_at, kind, message, occurred_at) "
        "SELECT schedule, scheduled_at, 'drift', 'the labels', scheduled_at FROM runs WHERE scheduled_at = :time",
        time=f"{start + timedelta(minutes=3):%Y-%m-%d %H:%M:%S.%f}",
    )

    alone = calendar_runs.read_runs(harness.database, "nightly", start)
    monkeypatch.setattr(calendar_runs, "MAX_MARKS", 19)
    counted = calendar_runs.read_runs(harness.database, "nightly", start)

    assert [runs.count for runs in alone] == [1] * 20
    assert all(runs.mark for runs in alone)
    assert [(runs.state, runs.count, runs.first_at.minute) for runs in counted] == [
        ("completed", 14, 0),
        ("drifted", 1, 3),
        ("completed", 4, 15),
        ("failed", 1, 16),
    ]
    assert counted[0].first_at == start
    assert calendar_runs.read_runs(harness.database, "nightly", start + timedelta(days=1)) == []


def test_pages_of_runs_neither_miss_nor_repeat_one(harness: ScheduleHarness) -> None:
    for day in range(2, 9):
        harness.run_schedule(utc(f"03-0{day} 02:00"))
    days, page = [], run_pages.list_runs(harness.database, "nightly", 3)
    while True:
        days.extend(run.scheduled_at.day for run in page.runs)
        if not page.has_more:
            break
        page = run_pages.list_runs(harness.database, "nightly", 3, before=page.runs[-1].scheduled_at)

    assert days == [8, 7, 6, 5, 4, 3, 2]


def test_runs_in_one_state(harness: ScheduleHarness) -> None:
    for day in range(2, 5):
        harness.run_schedule(utc(f"03-0{day} 02:00"))
    harness.execute("UPDATE runs SET state = 'failed' WHERE scheduled_at < :time", time="2026-03-03 00:00:00+00")

    failed = run_pages.list_runs(harness.database, "nightly", 10, state=RunState.FAILED).runs
    completed = run_pages.list_runs(harness.database, "nightly", 10, state=RunState.COMPLETED).runs

    assert [run.scheduled_at.day for run in failed] == [2]
    assert [run.scheduled_at.day for run in completed] == [4, 3]


def test_pages_leave_out_the_mean_vector_alone(harness: ScheduleHarness) -> None:
    harness.run_schedule(utc("03-02 02:00"))
    cast = "CAST(:summary AS jsonb)" if harness.database.engine.dialect.name == "postgresql" else ":summary"
    harness.execute(f"UPDATE runs SET summary = {cast}", summary=to_json(SUMMARY))

    [run] = run_pages.list_runs(harness.database, "nightly", 10).runs

    assert run.summary == {"total": 7, "failed": 1, "quality": {"rows": 7, "vectors": {"zero": 1}}}


def test_a_run_is_found_by_its_exact_time(harness: ScheduleHarness) -> None:
    harness.run_schedule(utc("03-02 02:00"))
    by_hand = utc("03-02 02:00") + timedelta(seconds=30)
    manual_runs.trigger(harness.database, harness.catalogue, "nightly", by_hand)

    report = reports.report_run_at(harness.database, "nightly", utc("03-02 02:00"))

    assert report.run.scheduled_at == utc("03-02 02:00")
    assert reports.report_run_at(harness.database, "nightly", by_hand).run.trigger.value == "manual"


def test_the_plan_of_a_backfill_is_what_it_does(harness: ScheduleHarness) -> None:
    harness.run_schedule(utc("03-02 02:00"))
    harness.run_schedule(utc("03-03 02:00"))
    harness.execute("UPDATE runs SET state = 'failed' WHERE scheduled_at < :time", time="2026-03-03 00:00:00+00")
    harness.tickets.insert_ticket(utc("03-03 21:00"))
    harness.tick(utc("03-04 02:00"))  # its job is unanswered
    now, definition = utc("03-04 03:00"), registry.get(harness.database, "nightly").definition
    span = TimeRange(utc("03-01 00:00"), utc("03-05 00:00"))

    plan = manual_runs.plan_backfill(harness.database, definition, span, now)
    result = manual_runs.backfill(harness.database, harness.catalogue, "nightly", span, now)

    assert [run.state for run in plan] == [None, RunState.FAILED, RunState.COMPLETED, RunState.RUNNING]
    assert [run.scheduled_at for run in plan if run.runs_again(include_completed=False)] == [
        run.scheduled_at for run in result.started
    ]
    assert [run.runs_again(include_completed=True) for run in plan] == [True, True, True, False]


def test_deleted_schedules_are_listed_for_their_tenant(harness: ScheduleHarness) -> None:
    harness.create_schedule("second", after="nightly")
    harness.create_schedule("of-acme", tenant="acme")
    assert registry.list_followers(harness.database, "nightly") == ["second"]
    for name in ("second", "of-acme"):
        registry.delete(harness.database, name, utc("03-02 03:00"))

    assert registry.list_deleted(harness.database) == dict.fromkeys(("of-acme", "second"), utc("03-02 03:00"))
    assert list(registry.list_deleted(harness.database, "acme")) == ["of-acme"]
    assert registry.list_followers(harness.database, "nightly") == []


def test_the_last_run_of_each_schedule_is_found_without_reading_all_runs(harness: ScheduleHarness) -> None:
    harness.create_schedule("other")
    for day in (2, 3):
        harness.run_schedule(utc(f"03-0{day} 02:00"))

    last = run_views.last_run_by_schedule(harness.database)

    assert {name: run.scheduled_at.day for name, run in last.items()} == {"nightly": 3, "other": 3}
    assert {run.batch_status for run in last.values()} == {BatchStatus.COMPLETED}
    if harness.database.engine.dialect.name == "sqlite":
        statement = str(run_views.select_last_runs().compile(harness.database.engine))
        plan = [row.detail for row in harness.query(f"EXPLAIN QUERY PLAN {statement}")]
        assert not any(step.startswith("SCAN outer_runs") for step in plan), plan
