"""Bars of the last runs: their height, their colour and their words."""

from datetime import UTC, datetime, timedelta
from typing import Any

from models.states import RunState
from producer.schedules.definition import ScheduleDefinition
from producer.schedules.history.run_marks import RunMark
from producer.server.pages.schedules import run_bars

NIGHT = datetime(2026, 11, 24, 1, tzinfo=UTC)
DEFINITION = ScheduleDefinition.from_fields(
    "nightly", {"pipeline": "p", "cron": "0 2 * * *", "tz": "Europe/Berlin", "sql": "tickets"}
)


def mark(rows: int | None, state: RunState = RunState.COMPLETED, **fields: Any) -> RunMark:
    values: dict[str, Any] = {"error_code": None, "failed": 0, "drift": None, "max_drift": None} | fields
    return RunMark("nightly", NIGHT, state, NIGHT, NIGHT + timedelta(seconds=90), rows=rows, **values)


def test_the_latest_run_is_on_the_right_and_the_largest_is_the_highest() -> None:
    bars = run_bars.bars_for([mark(50), mark(100), mark(0)], DEFINITION)

    assert [bar.height for bar in bars] == [14.0, 28.0, run_bars.MIN_HEIGHT]
    assert bars[-1].x + run_bars.STEP == run_bars.RUNS * run_bars.STEP
    assert all(bar.y + bar.height == run_bars.HEIGHT for bar in bars)


def test_failed_runs_are_high_and_missed_ones_are_stubs() -> None:
    failed, missed = run_bars.bars_for([mark(None, RunState.FAILED), mark(None, RunState.MISSED)], DEFINITION)

    assert (failed.tone, failed.height) == ("failed", run_bars.HEIGHT)
    assert (missed.tone, missed.height) == ("missed", run_bars.STUB_HEIGHT)


def test_a_bar_says_in_words_what_it_shows_and_leads_to_its_run() -> None:
    [bar] = run_bars.bars_for([mark(4810, failed=12, error_code="x" * 500, drift=0.5, max_drift=0.1)], DEFINITION)

    assert bar.text.startswith("Tue 2026-11-24 02:00 CET: drifted, xxx")
    assert bar.text.endswith("x, 4,810 rows, 12 of them failed, 1 min 30 s")
    assert len(bar.text) < 200
    assert bar.address == "/schedules/nightly/runs/2026-11-24T01:00:00.000Z"


def test_all_bars_have_a_sentence_for_screen_readers() -> None:
    marks = [mark(1), mark(1), mark(None, RunState.FAILED)]

    assert run_bars.summarize(marks) == "last 3 runs: 2 completed, 1 failed"
    assert run_bars.summarize(marks[:1]).startswith("last run: 1 ")
    assert run_bars.summarize([]) == "no runs yet"
    assert run_bars.bars_for([], DEFINITION) == []
