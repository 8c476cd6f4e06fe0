"""Whatever is raised while a run goes on ends that run by name: not the tick, no other run, and not for ever."""

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import DataError
from structlog.testing import capture_logs

from models.states import RunState
from producer.schedules import registry
from producer.schedules.alerts import events
from producer.schedules.alerts.event_outbox import SCHEDULE_EVENTS
from producer.schedules.quality.stats import StatsAccumulator
from producer.schedules.runs import deadline_watch, finish, planning, read_source, run_alerts, run_errors, sources
from producer.schedules.runs.output import output_table
from producer.schedules.timing import due_times
from producer.webhooks import delivery
from tests.factories.schedules import ScheduleHarness, utc
from tests.servers import WAIT_TIMEOUT_SECONDS

LATER = utc("03-02 02:05")
DAY = timedelta(days=1)


class Panic(BaseException):
    """As a package in another language raises it, past every `except Exception`."""


# Where it is raised: what is replaced, and whether its source has been read in and answered by then.
STAGES: dict[str, tuple[Any, str, bool]] = {
    "planning": (planning, "open_run", False),
    "opening the source": (sources, "open_source", False),
    "reading it": (read_source.submit, "submit_into", False),
    "emptying a batch": (read_source.submit, "delete_ingested_rows", False),
    "watching": (deadline_watch, "alert_if_overdue", False),
    "summing up": (run_alerts, "summarize_completed", True),
    "quality": (StatsAccumulator, "summarize", True),
    "merging": (output_table.StagedMerge, "merge", True),
    "telling": (run_alerts, "record_alerts", True),
    "the batch": (finish, "_find_batch", True),
}
LASTING = [
    ValueError("\0\ud800" + "x" * 9_000),
    OverflowError(),
    RecursionError(),
    Panic(),
    DataError("", {}, ValueError()),
]
PASSING = [MemoryError(), OSError(28, "no room")]


def raising(error: BaseException) -> Callable[..., Any]:
    def raises(*_: object, **__: object) -> Any:
        raise error

    return raises


@pytest.fixture
def harness(database_url: str, tmp_path: Path) -> Iterator[ScheduleHarness]:
    created = ScheduleHarness(database_url, tmp_path)
    for day in (1, 2):
        created.tickets.insert_ticket(utc(f"03-0{day} 21:00"))
    yield created
    created.close()


def begin(harness: ScheduleHarness, read: bool) -> None:
    """A run that is about to be decided, or to be finished, and another schedule beside it."""
    harness.create_schedule(into="labels", deadline="1s", webhook="https://example.com/hook")
    if read:
        harness.tick(LATER)
        harness.answer_jobs()


@pytest.mark.parametrize("stage", STAGES)
def test_what_lasts_fails_the_run_at_once(
    harness: ScheduleHarness, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    owner, name, read = STAGES[stage]
    harness.create_schedule(into="labels", deadline="1s", webhook="https://example.com/hook")

    for day, error in enumerate(LASTING):
        now = LATER + day * DAY
        if read:
            harness.tick(now)
            harness.answer_jobs()
        with monkeypatch.context() as patched, capture_logs() as logs:
            patched.setattr(owner, name, raising(error))
            for minute in range(2):
                harness.tick(now + timedelta(minutes=minute))

        run = harness.runs()[-1]
        assert (run.state, run.error_code, run.next_check_at) == (RunState.FAILED, "internal_error", None)
        assert type(error).__name__ in str(run.error_message)
        assert "xxx" not in str(run.error_message)  # it may quote inputs
        assert harness.event_kinds().count("failed") == day + 1
        assert len([line for line in logs if line.get("exc_info")]) == 1
        assert harness.query("SELECT id FROM batches WHERE status = 'validating'") == []

    harness.run_schedule(LATER + len(LASTING) * DAY)
    assert harness.run_states() == ["failed"] * len(LASTING) + ["completed"]


@pytest.mark.parametrize(
    ("stage", "error"), list(zip(["opening the source", "summing up", "watching"], [*PASSING, PASSING[0]], strict=True))
)
def test_what_may_pass_is_tried_again_and_not_for_ever(
    harness: ScheduleHarness, monkeypatch: pytest.MonkeyPatch, stage: str, error: BaseException
) -> None:
    owner, name, read = STAGES[stage]
    begin(harness, read)

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, raising(error))
        harness.tick(LATER)
        [put_off] = harness.runs()
        for minute in range(1, 10):
            harness.tick(LATER + timedelta(minutes=minute))

    assert put_off.state.is_open
    [run] = harness.runs()
    assert (run.state, run.error_code) == (RunState.FAILED, "internal_error")


def test_what_passes_leaves_a_whole_run(harness: ScheduleHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(harness, read=False)
    with monkeypatch.context() as patched:
        patched.setattr(sources, "open_source", raising(MemoryError()))
        harness.tick(LATER)

    harness.run_schedule(LATER + timedelta(minutes=2))

    assert harness.run_states() == ["completed"]
    harness.assert_consistent()


def test_one_schedule_s_trouble_is_its_own(harness: ScheduleHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ailing", "nightly", "weary"):
        harness.create_schedule(name)
    opened = sources.open_source

    def ails(settings: Any, schedule: Any, *rest: Any, **more: Any) -> Any:
        if schedule.name != "nightly":
            raise OverflowError
        return opened(settings, schedule, *rest, **more)

    monkeypatch.setattr(sources, "open_source", ails)
    harness.run_schedule(LATER)

    assert [harness.run_states(name) for name in ("ailing", "nightly", "weary")] == [
        ["failed"],
        ["completed"],
        ["failed"],
    ]


def test_a_run_that_can_not_even_be_recorded_is_failed(
    harness: ScheduleHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(harness, read=True)
    with monkeypatch.context() as patched:
        patched.setattr(run_alerts, "summarize_completed", raising(ValueError()))
        patched.setattr(events, "record_event", raising(KeyError()))
        harness.tick(LATER)

    assert harness.run_states() == ["failed"]


def test_runs_that_nobody_can_plan_are_told_once(harness: ScheduleHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(harness, read=False)
    with monkeypatch.context() as patched, capture_logs() as logs:
        patched.setattr(due_times, "decide_due_times", raising(OverflowError()))
        for minute in range(3):
            harness.tick(LATER + timedelta(minutes=minute))

    assert harness.event_kinds() == ["failed"]
    assert len([line for line in logs if line.get("exc_info")]) == 1
    harness.run_schedule(LATER + DAY)
    assert harness.run_states()[-1] == "completed"


@pytest.mark.parametrize(("point", "read"), [("before_read_source", False), ("before_finish_run", True)])
def test_a_step_that_kills_its_process_is_not_begun_for_ever(harness: ScheduleHarness, point: str, read: bool) -> None:
    begin(harness, read)
    for _ in range(2):
        harness.kill_tick(LATER, point)
    [row] = harness.query("SELECT step_starts FROM runs")
    assert row.step_starts == 2
    harness.execute("UPDATE runs SET step_starts = :most", most=run_errors.MAX_STEP_STARTS)

    assert harness.start_tick_process(LATER, f"{point}:kill").wait(WAIT_TIMEOUT_SECONDS) == 0

    [run] = harness.runs()
    assert (run.state, run.error_code) == (RunState.FAILED, "step_crashed")
    assert "was killed 5 times" in str(run.error_message)
    harness.run_schedule(LATER + DAY)
    assert harness.run_states() == ["failed", "completed"]


def test_a_table_that_stays_away_is_not_waited_for_for_ever(harness: ScheduleHarness, tmp_path: Path) -> None:
    harness.create_schedule(into="labels", into_source="tickets", source_timeout="2m")
    harness.tick(LATER)
    harness.answer_jobs()
    harness.tickets.path.rename(tmp_path / "away.db")

    for minute in range(10):
        harness.tick(LATER + timedelta(minutes=minute))

    [run] = harness.runs()
    assert (run.state, run.error_code) == (RunState.FAILED, "output_table_not_ready")


def test_a_moment_past_9999_in_a_kept_column_is_its_row_s(harness: ScheduleHarness, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    at_ = pyarrow.array([0, 253_402_300_800_000_000], pyarrow.timestamp("us"))
    table = pyarrow.table({"id": [1, 2], "body": ["a", "b"], "at": at_})
    for day in (2, 3):
        parquet.write_table(table, path := tmp_path / f"far-2026-03-0{day}.parquet")
        os.utime(path, (0, 0))  # long settled
    pattern = str(tmp_path / "far-{time:%Y-%m-%d}.parquet")
    harness.create_schedule("strict", file=pattern, passthrough=["at"], on_invalid="reject")
    harness.create_schedule("lenient", file=pattern, passthrough=["at"], on_invalid="fail-row")

    for day in (0, 1):
        harness.run_schedule(LATER + DAY * day)

    assert (harness.run_states("strict"), harness.run_states("lenient")) == (["failed"] * 2, ["completed"] * 2)
    assert [run.error_code for run in harness.runs("strict")] == ["invalid_rows"] * 2
    assert [run.summary["failed"] for run in harness.runs("lenient") if run.summary] == [1, 1]


def test_a_webhook_s_defect_keeps_no_other_event(harness: ScheduleHarness) -> None:
    begin(harness, read=False)
    sent: list[str] = []

    def send(url: str, *_: object) -> None:
        sent.append(url)
        raise UnicodeError("label too long")

    for name in ("a", "b"):
        with harness.database.write() as connection:
            events.record_event(
                connection, "nightly", None, "failed", name, occurred_at=LATER, url="https://example.com/" + name
            )
    settings = harness.settings.model_copy(update={"webhook_secret": None})

    assert delivery.send_due(harness.database, settings, (SCHEDULE_EVENTS,), send=send).delivered == 0
    assert registry.get(harness.database, "nightly")
    [row] = harness.query(
        "SELECT count(*) AS waiting FROM events WHERE delivery_attempts = 1 AND next_delivery_at IS NOT NULL"
    )
    assert row.waiting == 2
