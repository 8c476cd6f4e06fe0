"""The commands for schedules that run after another, as people type them."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import batchmill
from models.privacy import terminal
from tests.factories.schedules import ScheduleHarness, utc

Run = Callable[..., Result]


@pytest.fixture
def harness(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScheduleHarness]:
    created = ScheduleHarness(sqlite_url, tmp_path)
    for name, value in created.environment().items():
        if name.startswith("BATCHMILL_"):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("BATCHMILL_SIMULATED_CLOCK", "2026-03-01T20:00Z@2026-03-01T20:00Z")
    monkeypatch.setattr(terminal, "terminal_width", lambda: 200)
    created.create_schedule()
    created.tickets.insert_ticket(utc("03-01 21:00"))
    yield created
    created.close()


@pytest.fixture
def run(harness: ScheduleHarness) -> Run:
    return lambda *words: CliRunner().invoke(batchmill.cli, ["schedule", *words])


def create(run: Run, name: str = "second", *options: str) -> Result:
    mapping = ("--pipeline", "sample-sentiment-analysis", "--input", "text=output.label")
    return run("create", name, "--after", "nightly", *mapping, *options)


def test_a_follower_is_created_listed_and_shown_with_the_schedule_that_it_runs_after(run: Run) -> None:
    created = create(run, "second", "--label", "POSITIVE", "--min-score", "0.9")
    shown = json.loads(run("show", "second", "--json").stdout)

    assert created.exit_code == 0, created.stderr
    assert (
        "second runs after each completed run of nightly (UTC); next:\n  when a run of nightly completes"
        in created.stdout
    )
    assert [line.split()[2:4] for line in run("ls").stdout.splitlines()[2:]] == [["after", "nightly"]]
    assert (shown["definition"]["after"], shown["next"], shown["next_run_at"]) == ("nightly", [], None)
    assert "POSITIVE" not in run("show", "second").stdout, "labels may be texts of people"


def test_sync_refuses_a_chain_that_can_t_be_and_its_check_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    mapping = {"pipeline": "sample-sentiment-analysis", "input": {"text": "output.label"}}
    circle = {"a": {"after": "b", **mapping}, "b": {"after": "a", **mapping}}
    monkeypatch.setenv("BATCHMILL_SCHEDULES", json.dumps(circle))

    checked, synced = run("sync", "--check"), run("sync")

    assert (checked.exit_code, synced.exit_code) == (1, 2)
    for result in (checked, synced):
        assert "these run after one another in a circle: a → b → a; give one a cron" in result.stderr
    assert "created" not in synced.stdout


def test_report_and_history_name_what_a_run_has_read(run: Run, harness: ScheduleHarness) -> None:
    create(run)
    harness.run_schedule(utc("03-02 02:00"))
    harness.answer_jobs()
    harness.tick(utc("03-02 02:10"))
    batch_id = harness.runs()[0].batch_id

    [listed] = json.loads(run("history", "second", "--json").stdout)["data"]

    assert (listed["trigger"], listed["source_batch_id"]) == ("after", batch_id)
    assert f"source     the results of {batch_id}, a run of nightly" in run("report", "second").stdout
    assert "second" in run("metrics").stdout


def test_a_skipped_follower_names_the_way_to_repeat_it(run: Run, harness: ScheduleHarness) -> None:
    create(run)
    harness.tick(utc("03-02 02:00"))
    harness.tick(utc("03-05 12:00"))

    report = run("report", "second")

    assert "the run of nightly was skipped, so there are no results to read" in report.stdout
    assert "the run of nightly was skipped, so there are no results to read" in run("history", "second").stdout
    assert run("ls").stdout.count("skipped") >= 2


def test_what_can_t_be_is_refused_with_the_reason(run: Run) -> None:
    mapping = ("--pipeline", "sample-sentiment-analysis", "--input", "text=output.label")

    assert "say when it runs: cron, or after another" in run("create", "a", *mapping).stderr
    assert "there is no schedule 'b' to run after" in run("create", "a", "--after", "b", *mapping).stderr
    assert "can't run after itself" in run("create", "a", "--after", "a", *mapping).stderr
    assert "overlap is of schedules with cron" in create(run, "a", "--overlap", "queue").stderr
    assert "leave sql and file out" in create(run, "a", "--sql", "tickets").stderr
    assert "status is one of" in create(run, "a", "--status", "done").stderr
    assert create(run).exit_code == 0
    assert "second run after nightly" in run("delete", "nightly").stderr
    assert "nightly has no completed run" in run("trigger", "second").stderr
    assert (
        "min_score chooses among the results"
        in run("create", "a", "--cron", "@daily", "--sql", "tickets", "--min-score", "1", *mapping).stderr
    )
