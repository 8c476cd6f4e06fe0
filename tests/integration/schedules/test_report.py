"""`schedule report`: what a night's run is told to be, in the morning."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import batchmill
from tests.factories.schedules import ScheduleHarness, utc

GOOD, BAD = {"label": "POSITIVE", "score": 0.9}, {"label": "NEGATIVE", "score": 0.6}


@pytest.fixture
def nights(database_url: str, tmp_path: Path) -> Iterator[ScheduleHarness]:
    made = ScheduleHarness(database_url, tmp_path)
    made.create_schedule(tz="Europe/Berlin", deadline="06:00", alert_drift=0.2, into="labels")
    yield made
    made.close()


def report(nights: ScheduleHarness, *arguments: str, now: str = "2026-03-09T08:00+01:00") -> Result:
    environment = {"BATCHMILL_DATABASE_URL": nights.settings.database_url, "BATCHMILL_SIMULATED_CLOCK": now}
    return CliRunner(env=environment).invoke(batchmill.cli, ["schedule", *arguments])


def lived(nights: ScheduleHarness, day: int, output: object, *, tickets: int = 40, hour: int = 1) -> None:
    """A night to this day, in Berlin; its run begins at this hour of UTC."""
    for number in range(tickets):
        nights.tickets.insert_ticket(utc(f"03-0{day - 1} {20 + number % 4}:00"))
    nights.run_schedule(utc(f"03-0{day} 0{hour}:00"), output)


def test_a_run_stands_beside_those_before_it(nights: ScheduleHarness) -> None:
    lived(nights, 2, GOOD)
    lived(nights, 3, GOOD)
    lived(nights, 4, BAD)

    said = report(nights, "report", "nightly").stdout
    lines = [" ".join(line.split()) for line in said.splitlines()]

    assert "scheduled Wed 2026-03-04 02:00 CET" in lines
    assert "state completed Wed 2026-03-04 02:05 CET, 3 h 55 min before its deadline" in lines
    assert "rows 40: 40 computed, 0 reused, 0 failed, 0 truncated" in lines
    assert "THIS RUN 2 RUNS BEFORE" in lines
    assert f"NEGATIVE 100 % {'█' * 20} 0 % moved" in lines
    assert "mean score 0.60 0.90 moved" in lines
    assert "failed 0 % 0 %" in lines
    assert any("drift NEGATIVE 0.0 % → 100 %" in line for line in lines)


def test_a_run_is_named_by_its_day_or_its_time_in_the_schedule_s_zone(nights: ScheduleHarness) -> None:
    lived(nights, 2, GOOD)
    lived(nights, 3, GOOD)

    for said in ("2026-03-02", "2026-03-02T02:00", "2026-03-02 02:00", "2026-03-02T01:00+00:00"):
        assert json.loads(report(nights, "report", "nightly", "--scheduled-at", said, "--json").stdout)[
            "scheduled_at"
        ] == ("2026-03-02T01:00:00.000Z")
    assert report(nights, "report", "nightly", "--scheduled-at", "2026-03-02T01:00").exit_code == 4
    assert report(nights, "report", "nightly", "--scheduled-at", "2026-03-04").exit_code == 4
    assert report(nights, "report", "nightly", "--scheduled-at", "yesterday").exit_code == 2
    assert report(nights, "report", "another").exit_code == 4


def test_a_night_that_was_caught_up_says_how_late(nights: ScheduleHarness) -> None:
    lived(nights, 2, GOOD, hour=7)

    told = json.loads(report(nights, "report", "nightly", "--json").stdout)
    said = report(nights, "history", "nightly").stdout

    assert "caught up 6 h late, done 2 h 5 min after its deadline" in said
    assert [event["kind"] for event in told["events"]] == ["overdue"]
    assert "by Mon 2026-03-02 06:00 CET" in told["events"][0]["message"]


def test_a_run_that_failed_says_what_to_do(nights: ScheduleHarness) -> None:
    nights.tickets.insert_ticket(utc("03-01 20:00"))
    nights.tick(utc("03-02 01:00"))
    nights.execute("DELETE FROM batches")
    nights.tick(utc("03-02 01:01"))

    told = report(nights, "report", "nightly")

    assert "error batch_deleted" in " ".join(told.stdout.split())
    assert "batchmill schedule trigger nightly" in told.stderr


def test_a_label_can_t_steer_the_terminal(nights: ScheduleHarness) -> None:
    lived(nights, 2, {"label": "\x1b[2J\u202eevil", "score": 0.9})

    assert "\x1b" not in (said := report(nights, "report", "nightly").stdout)
    assert "evil" in said


def test_what_ls_and_show_say_of_a_night_whose_results_moved(nights: ScheduleHarness) -> None:
    lived(nights, 2, GOOD)
    lived(nights, 3, BAD)

    shown = report(nights, "show", "nightly").stdout

    assert "completed, 40 rows, drifted" in report(nights, "ls").stdout
    assert "POSITIVE 100 % → 0.0 %" in shown or "NEGATIVE 0.0 % → 100 %" in shown
    assert " ".join(shown.split()).count("next Tue 2026-03-10 02:00 CET Wed 2026-03-11 02:00 CET") == 1


def test_sync_says_what_comes_next_and_what_is_not_here(
    nights: ScheduleHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = tmp_path / "batchmill.toml"
    declared.write_text(
        "[schedules.declared]\ncron = '0 2 * * *'\ntz = 'Europe/Berlin'\npipeline = 'sample-sentiment-analysis'\n"
        "sql = 'elsewhere'\n"
    )
    monkeypatch.setenv("BATCHMILL_CONFIG", str(declared))

    first, again = report(nights, "sync"), report(nights, "sync")
    declared.write_text("")
    gone = report(nights, "sync")

    assert first.stdout == "created declared; next: Tue 2026-03-10 02:00 CET\n"
    assert "there is no [sources.elsewhere] here" in first.stderr
    assert "no worker and no batchmill maintain runs now" in first.stderr
    assert (again.stdout, gone.stdout) == ("", "deleted declared\n")


def test_a_night_that_still_runs_when_the_next_one_comes_shows_in_ls(nights: ScheduleHarness) -> None:
    nights.tickets.insert_ticket(utc("03-01 20:00"))
    nights.tick(utc("03-02 01:00"))
    nights.tick(utc("03-03 01:00"))

    listed = json.loads(report(nights, "ls", "--json", now="2026-03-03T03:00+01:00").stdout)["data"]

    assert [one["state"] for one in listed] == ["skipped"]
    assert "batchmill watch batch_" in report(nights, "report", "nightly", "--scheduled-at", "2026-03-02").stderr
