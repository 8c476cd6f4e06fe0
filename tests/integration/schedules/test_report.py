"""`schedule report`: what a run's run is told to be, in the morning."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import batchmill
from models.guards.verdict import Verdict, VerdictAction
from tests.factories.schedules import ScheduleHarness, utc

GOOD, BAD = {"label": "POSITIVE", "score": 0.9}, {"label": "NEGATIVE", "score": 0.6}


@pytest.fixture
def harness(database_url: str, tmp_path: Path) -> Iterator[ScheduleHarness]:
    created = ScheduleHarness(database_url, tmp_path)
    created.create_schedule(tz="Europe/Berlin", deadline="06:00", alert_drift=0.2, into="labels")
    yield created
    created.close()


def report(harness: ScheduleHarness, *arguments: str, now: str = "2026-03-09T08:00+01:00") -> Result:
    environment = {"BATCHMILL_DATABASE_URL": harness.settings.database_url, "BATCHMILL_SIMULATED_CLOCK": now}
    return CliRunner(env=environment).invoke(batchmill.cli, ["schedule", *arguments])


def play_run(
    harness: ScheduleHarness, day: int, output: object, *, tickets: int = 40, hour: int = 1, **answers: Any
) -> None:
    """A run to this day, in Berlin; its run begins at this hour of UTC."""
    for number in range(tickets):
        harness.tickets.insert_ticket(utc(f"03-0{day - 1} {20 + number % 4}:00"))
    harness.run_schedule(utc(f"03-0{day} 0{hour}:00"), output, **answers)


def test_a_run_stands_beside_those_before_it(harness: ScheduleHarness) -> None:
    play_run(harness, 2, GOOD)
    play_run(harness, 3, GOOD)
    play_run(harness, 4, BAD)

    text = report(harness, "report", "nightly").stdout
    lines = [" ".join(line.split()) for line in text.splitlines()]

    assert "scheduled Wed 2026-03-04 02:00 CET" in lines
    assert "state completed Wed 2026-03-04 02:05 CET, 3 h 55 min before its deadline" in lines
    assert "rows 40: 40 computed, 0 reused, 0 failed, 0 truncated" in lines
    assert "THIS RUN 2 RUNS BEFORE" in lines
    assert f"NEGATIVE 100 % {'█' * 20} 0 % moved" in lines
    assert "mean score 0.60 0.90 moved" in lines
    assert "failed 0 % 0 %" in lines
    assert any("drift NEGATIVE 0.0 % → 100 %" in line for line in lines)


def test_guards_are_counted_and_a_new_revision_of_their_model_is_named(harness: ScheduleHarness) -> None:
    def injection(action: VerdictAction, revision: str) -> Verdict:
        return Verdict("injection", "input", action, 0.5, "INJECTION", model="g", revision=revision * 40)

    play_run(harness, 2, GOOD, verdicts=[injection("pass", "a")])
    play_run(harness, 3, GOOD, verdicts=[injection("flag", "b")])

    text = report(harness, "report", "nightly").stdout
    lines = [" ".join(line.split()) for line in text.splitlines()]
    document = json.loads(report(harness, "report", "nightly", "--json").stdout)
    changed = f"the model of guard injection changed: g@{'a' * 12} → g@{'b' * 12}"
    assert "guards injection: 40 flagged" in lines
    assert f"injection flagged 100 % {'█' * 20} 0 % moved" in lines
    assert any(line.endswith(f"model changed {changed}") for line in lines)
    assert any(line.endswith("drift guard injection 0.0 % → 100 %") for line in lines)
    assert document["summary"]["guards"] == {"injection": {"passed": 0, "flagged": 40, "redacted": 0, "blocked": 0}}
    assert document["summary"]["changed"] == changed
    assert "; another guard model" in report(harness, "history", "nightly").stdout
    metrics = report(harness, "metrics").stdout
    assert 'last_run_guard_rows{schedule="nightly",guard="injection",verdict="flagged"} 40' in metrics


def test_a_run_is_named_by_its_day_or_its_time_in_the_schedule_s_zone(harness: ScheduleHarness) -> None:
    play_run(harness, 2, GOOD)
    play_run(harness, 3, GOOD)

    for text in ("2026-03-02", "2026-03-02T02:00", "2026-03-02 02:00", "2026-03-02T01:00+00:00"):
        assert json.loads(report(harness, "report", "nightly", "--time", text, "--json").stdout)["scheduled_at"] == (
            "2026-03-02T01:00:00.000Z"
        )
    assert report(harness, "report", "nightly", "--time", "2026-03-02T01:00").exit_code == 4
    assert report(harness, "report", "nightly", "--time", "2026-03-04").exit_code == 4
    assert report(harness, "report", "nightly", "--time", "yesterday").exit_code == 2
    assert report(harness, "report", "another").exit_code == 4


def test_a_run_that_was_caught_up_says_how_late(harness: ScheduleHarness) -> None:
    play_run(harness, 2, GOOD, hour=7)

    output = json.loads(report(harness, "report", "nightly", "--json").stdout)
    text = report(harness, "history", "nightly").stdout

    assert "caught up 6 h late, done 2 h 5 min after its deadline" in text
    assert [event["kind"] for event in output["events"]] == ["overdue"]
    assert "its deadline was Mon 2026-03-02 06:00 CET" in output["events"][0]["message"]


def test_a_run_that_failed_says_what_to_do(harness: ScheduleHarness) -> None:
    harness.tickets.insert_ticket(utc("03-01 20:00"))
    harness.tick(utc("03-02 01:00"))
    harness.execute("DELETE FROM batches")
    harness.tick(utc("03-02 01:01"))

    output = report(harness, "report", "nightly")

    assert "error batch_deleted" in " ".join(output.stdout.split())
    assert "batchmill schedule trigger nightly" in output.stderr


@pytest.mark.parametrize(("file", "repeated"), [(None, False), (None, True), ("{time:%Y-%m-%d}.jsonl", False)])
def test_a_run_whose_rows_the_next_one_does_not_read_says_how_to_repeat_it(
    harness: ScheduleHarness, tmp_path: Path, file: str | None, repeated: bool
) -> None:
    if file:
        harness.create_schedule("files", file=str(tmp_path / file), tz="Europe/Berlin")
        source = tmp_path / "2026-03-02.jsonl"
        source.write_text('{"id": "1", "body": "fine"}\n')
        os.utime(source, (0, 0))
    name = "files" if file else "nightly"
    harness.tickets.insert_ticket(utc("03-01 20:00"))
    if repeated:
        harness.run_schedule(utc("03-02 01:00"), GOOD)
        harness.backfill("03-02 01:00", now=utc("03-02 02:00"), include_completed=True)
    harness.tick(utc("03-02 02:00"))
    harness.execute("DELETE FROM batches")
    harness.tick(utc("03-02 02:01"))

    advice = report(harness, "report", name).stderr

    repeat = f"batchmill schedule backfill {name} --time 2026-03-02T02:00:00+01:00"
    assert (repeat in advice) == (repeated or file is not None), advice
    assert ("the next run reads its rows too" in advice) != (repeat in advice)
    if repeat in advice:
        assert report(harness, *repeat.split()[2:]).exit_code == 0


def test_a_label_can_t_steer_the_terminal(harness: ScheduleHarness) -> None:
    play_run(harness, 2, {"label": "\x1b[2J\u202eevil", "score": 0.9})

    assert "\x1b" not in (text := report(harness, "report", "nightly").stdout)
    assert "evil" in text


def test_what_ls_and_show_say_of_a_run_whose_results_moved(harness: ScheduleHarness) -> None:
    play_run(harness, 2, GOOD)
    play_run(harness, 3, BAD)

    output = report(harness, "show", "nightly").stdout

    assert "completed, 40 rows, drifted" in report(harness, "ls").stdout
    assert "POSITIVE 100 % → 0.0 %" in output or "NEGATIVE 0.0 % → 100 %" in output
    assert " ".join(output.split()).count("next Tue 2026-03-10 02:00 CET Wed 2026-03-11 02:00 CET") == 1


def test_sync_says_what_comes_next_and_what_is_not_here(
    harness: ScheduleHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "batchmill.toml"
    config.write_text(
        "[schedules.declared]\ncron = '0 2 * * *'\ntz = 'Europe/Berlin'\npipeline = 'sample-sentiment-analysis'\n"
        "sql = 'elsewhere'\n"
    )
    monkeypatch.setenv("BATCHMILL_CONFIG", str(config))

    first, again = report(harness, "sync"), report(harness, "sync")

    assert first.stdout == "created declared; next: Tue 2026-03-10 02:00 CET\n"
    assert "there is no [sources.elsewhere] here" in first.stderr
    assert "no worker and no batchmill maintain runs now" in first.stderr
    assert again.stdout == ""


def test_a_run_that_still_runs_when_the_next_one_comes_shows_in_ls(harness: ScheduleHarness) -> None:
    harness.tickets.insert_ticket(utc("03-01 20:00"))
    harness.tick(utc("03-02 01:00"))
    harness.tick(utc("03-03 01:00"))

    schedules = json.loads(report(harness, "ls", "--json", now="2026-03-03T03:00+01:00").stdout)["data"]

    assert [item["state"] for item in schedules] == ["skipped"]
    assert "batchmill watch batch_" in report(harness, "report", "nightly", "--time", "2026-03-02").stderr
