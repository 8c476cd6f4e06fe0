"""`batchmill schedule` as a person or a script uses it: what is printed, where, and with which exit code."""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from structlog.testing import capture_logs

import batchmill
from models.db import Database
from models.processes import home_lock
from producer.schedules import registry
from producer.schedules.runs import manual_runs
from tests.factories.schedules import PIPELINE, SELECT_TICKETS, ScheduleHarness, utc

NOON = "2026-03-02T12:00Z"
USUAL = ("--cron", "0 2 * * *", "--tz", "Europe/Berlin", "-p", PIPELINE, "--sql", "tickets", "--input", "text=body")
COMMANDS = ("show", "suspend", "resume", "trigger", "delete", "history")


def run(*arguments: str, code: int = 0) -> Result:
    """`batchmill schedule ARGUMENTS…`."""
    result = CliRunner().invoke(batchmill.cli, ["schedule", *arguments])
    assert result.exit_code == code, result.output
    assert "\x1b" not in result.output, "no colours where it is piped"
    return result


def document(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json").stdout)


@pytest.fixture(autouse=True)
def harness(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScheduleHarness]:
    created = ScheduleHarness(database_url, tmp_path)
    environment = {
        "DATABASE_URL": database_url,
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "SIMULATED_CLOCK": f"{NOON}@{datetime.now(UTC).isoformat()}",
        "LOG_LEVEL": "error",
    }
    sources = {"SOURCES__TICKETS__URL": created.tickets.url, "SOURCES__TICKETS__QUERY": SELECT_TICKETS}
    for name, value in (environment | sources).items():
        monkeypatch.setenv(f"BATCHMILL_{name}", value)
    monkeypatch.chdir(tmp_path)
    yield created
    created.close()


class TestCreate:
    def test_takes_all_that_a_definition_has(self, harness: ScheduleHarness) -> None:
        options = {
            "--id": "id",
            "--priority": "3",
            "--on-invalid": "reject",
            "--max-failures": "5%",
            "--catchup": "all",
            "--catchup-window": "3d",
            "--overlap": "queue",
            "--deadline": "06:00",
            "--source-timeout": "2h",
            "--lag": "10m",
            "--since": "2026-01-01",
            "--into": "labels",
            "--into-source": "tickets",
            "--alert-drift": "0.2",
            "--webhook": "https://example.org/x",
            "--passthrough": "created_at",
        }
        result = run("create", "nightly", *USUAL, *(word for pair in options.items() for word in pair), "--reuse")

        assert "Tue 2026-03-03 02:00 CET" in result.stdout
        assert "webhook_secret" in result.stderr
        definition = registry.get(harness.database, "nightly").definition
        assert definition.dump().keys() >= {name.removeprefix("--").replace("-", "_") for name in options}
        assert definition.reuse

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("--file", "in.jsonl"), "sql or file, one of them"),
            (("--cron", "0 0 30 2 *"), "cron"),
            (("--tz", "Europe/Berln"), "is Europe/Berlin meant?"),
            (("-p", "nope"), "there is no pipeline 'nope'"),
            (("--overlap", "skpi"), "overlap must be skip, queue or allow (is skip meant?)"),
            (("--overlap", "allow"), "overlap"),
            (("--since", "yesterday"), "since: that is no time such as"),
            (("--deadline", "25:00"), "deadline"),
            (("--alert-drift", "2"), "alert_drift"),
            (("--into", "no such table"), "into"),
            (("--webhook", "http://example.org"), "webhook"),
            (("--input", "txt=body"), "txt"),
            (("--param", "nope=1"), "nope"),
            (("--bind", "until=1"), "until"),
        ],
    )
    def test_says_what_is_wrong(self, options: tuple[str, ...], message: str) -> None:
        assert message in run("create", "nightly", *USUAL, *options, code=2).stderr
        assert document("ls") == {"object": "list", "data": []}

    def test_keeps_one_of_that_name_unless_told_to_replace_it(self) -> None:
        run("create", "nightly", *USUAL)
        assert "--replace" in run("create", "nightly", *USUAL, code=2).stderr
        run("create", "nightly", *USUAL, "--priority", "3", "--replace")
        assert document("show", "nightly")["definition"]["priority"] == 3

    def test_tells_by_what_a_table_finds_rows_again(self) -> None:
        assert "custom_id, or id" in run("create", "nightly", *USUAL, "--into", "labels").stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_name_is_not_found(command: str) -> None:
    assert "there is no schedule 'nope'" in run(command, "nope", code=4).stderr


def test_what_it_came_to_can_be_seen(harness: ScheduleHarness) -> None:
    run("create", "nightly", *USUAL, "--id", "id")
    assert "has had no run yet" in run("history", "nightly").stderr
    batch_id = run("trigger", "nightly").stdout.strip()
    assert "1 source read" in run("tick").stderr

    [listing] = document("ls")["data"]
    output = document("show", "nightly")
    [run_document] = document("history", "nightly")["data"]
    assert (listing["name"], listing["state"], listing["last_run"]) == ("nightly", "active", run_document)
    assert (run_document["batch_id"], run_document["trigger"], run_document["state"]) == (
        batch_id,
        "manual",
        "completed",
    )
    assert (output["runs"], output["next"][0], len(output["next"])) == ([run_document], "2026-03-03T01:00:00.000Z", 5)
    for command in (("ls",), ("show", "nightly"), ("history", "nightly")):
        assert "completed" in run(*command).stdout
    assert 'batchmill_schedule_runs{schedule="nightly",state="completed"} 1' in run("metrics").stdout


def test_ls_lists_the_others_beside_one_that_can_t_be_read(harness: ScheduleHarness) -> None:
    harness.create_schedule("nightly")
    harness.create_schedule("readable")
    harness.execute("UPDATE schedules SET definition = :text WHERE name = 'nightly'", text='{"from_the_future": 1}')

    listed = run("ls")

    assert "readable" in listed.stdout
    assert "nightly" not in listed.stdout
    assert "from_the_future" in listed.stderr
    assert [schedule["name"] for schedule in document("ls")["data"]] == ["readable"]


def test_it_rests_and_goes_on_and_is_taken_away() -> None:
    run("create", "nightly", *USUAL)
    run("suspend", "nightly")
    assert document("ls")["data"][0]["state"] == "suspended"
    assert document("show", "nightly")["next"] == []
    assert "2026-03-03 02:00" in run("resume", "nightly").stdout
    assert "deleted nightly" in run("delete", "nightly").stdout
    assert document("ls")["data"] == []


def test_one_created_again_by_hand_says_where_it_reads_on(harness: ScheduleHarness) -> None:
    run("create", "nightly", *USUAL)
    harness.execute("UPDATE schedules SET watermark = '2026-03-01 01:00:00+00:00'")
    run("delete", "nightly")

    assert "reads on from Sun 2026-03-01 02:00 CET" in run("create", "nightly", *USUAL).stderr


def test_backfill_says_what_will_run() -> None:
    run("create", "nightly", *USUAL)
    span = ("backfill", "nightly", "--from", "2026-02-27T00:00Z", "--to")
    first = run(*span, "2026-03-01T02:00Z")
    assert "3 runs of nightly will start" in first.stderr
    assert first.stdout.splitlines()[1].startswith("Fri 2026-02-27 02:00 CET  batch_")
    assert "3 runs in that span have completed, or are in progress" in run(*span, "2026-03-01T02:00Z").stderr
    assert "ends before it begins" in run(*span, "2026-02-25", code=2).stderr


@pytest.mark.parametrize(
    ("options", "days"),
    [
        (("--time", "2026-03-01"), [1]),
        (("--time", "Sun 2026-03-01 02:00 CET"), [1]),
        (("--time", "2026-03-01T01:00Z"), [1]),
        (("--from", "2026-03-01", "--to", "2026-03-01"), [1]),
        (("--from", "2026-03-01", "--to", "2026-03-02T03:00"), [1, 2]),
        (("--from", "2026-03-01", "--to", "2026-03-03"), [1, 2]),  # the third is still to come
        (("--from", "2026-03-01", "--to", "2027-01-01"), [1, 2]),
        (("--from", "2026-03-01"), [1, 2]),
        (("--from", "2026-03-01T02:00", "--to", "2026-03-01T02:00"), [1]),
    ],
)
def test_backfill_takes_spans_as_people_say_them(options: tuple[str, ...], days: list[int]) -> None:
    run("create", "nightly", *USUAL)

    started = json.loads(run("backfill", "nightly", *options, "--json").stdout)["data"]

    assert [item["scheduled_at"] for item in started] == [f"2026-03-0{day}T01:00:00.000Z" for day in days]
    assert all(item["batch_id"].startswith("batch_") for item in started)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "name what to run: --time 2026-11-24"),
        (("--to", "2026-03-01"), "name what to run"),
        (("--time", "2026-03-01", "--from", "2026-03-01"), "give either"),
        (("--time", "soon"), "is not a time such as"),
        (("--time", "2026-03-01 03:00"), "the nearest are Sun 2026-03-01 02:00 CET and Mon 2026-03-02 02:00 CET"),
        (("--time", "2026-03-03"), "still to come"),
        (("--from", "2026-03-02 11:00", "--to", "2026-03-03"), "the nearest are Mon 2026-03-02 02:00 CET and Tue"),
        (("--from", "2026-03-04", "--to", "2026-03-05"), "still to come"),
        (("--from", "2026-03-04"), "still to come"),
        (("--from", "2026-03-02", "--to", "2026-02-27"), "swap its two ends"),
        (("--from", "2020-01-01"), "take a shorter span"),
        (("--time", "2026-03-01", "--timeout", "3"), "add --wait"),
    ],
)
def test_backfill_says_what_is_wrong_with_a_span(options: tuple[str, ...], message: str) -> None:
    run("create", "nightly", *USUAL)

    assert message in run("backfill", "nightly", *options, code=2).stderr


def test_a_time_that_several_runs_have_is_not_one(harness: ScheduleHarness) -> None:
    harness.create_schedule(cron="0 * * * *")

    assert "more than one scheduled time" in run("backfill", "nightly", "--time", "2026-03-01", code=2).stderr
    assert run("backfill", "nightly", "--time", "2026-03-01 05:00").stdout.count("batch_") == 1


@pytest.mark.parametrize(("failures", "code"), [(0, 0), (1, 3), (None, 1)])
def test_wait_reports_how_the_run_ended(
    harness: ScheduleHarness, monkeypatch: pytest.MonkeyPatch, failures: int | None, code: int
) -> None:
    run("create", "nightly", *USUAL, "--since", "2026-03-01")
    harness.tickets.insert_ticket(utc("03-02 01:00"))
    times = iter((utc("03-02 12:30"), utc("03-02 12:31")))

    def work(_seconds: float) -> None:
        now = next(times)
        with capture_logs():  # a tick of its own process logs elsewhere
            harness.tick(now)
            if failures is None:
                harness.execute("DELETE FROM batches")
            else:
                harness.answer_jobs(failures_per_claim=failures)
            harness.tick(now)

    monkeypatch.setattr(manual_runs.time, "sleep", work)
    result = run("trigger", "nightly", "--wait", "--json", code=code)

    [run_document] = json.loads(result.stdout)["data"]
    assert run_document["finished_at"] is not None
    assert run_document["batch_id"].startswith("batch_")


def test_wait_ends_at_its_timeout() -> None:
    run("create", "nightly", *USUAL)

    result = run("trigger", "nightly", "--wait", "--timeout", "0", "--json", code=124)

    assert "1 of 1 runs of nightly have not ended" in result.stderr
    assert json.loads(result.stdout)["data"][0]["batch_id"].startswith("batch_")


def test_an_up_that_starts_is_not_a_lack_of_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHMILL_HOME", str(tmp_path / "home"))
    with home_lock.lock_home(tmp_path / "home"):
        notice = run("create", "nightly", *USUAL).stderr

    assert f"`batchmill up` (pid {os.getpid()}) is starting" in notice
    assert "no worker" not in notice


def test_vectors_of_two_pipelines_in_one_table_are_a_warning() -> None:
    fields = ("--cron", "0 2 * * *", "--sql", "tickets", "--input", "text=body", "--into", "vectors")
    fields += ("-p", "sample-feature-extraction")

    first = run("create", "passages", *fields, "--param", "prompt_name=passage")
    second = run("create", "queries", *fields, "--param", "prompt_name=query")

    assert "write vectors of two" not in first.stderr
    assert "passages and queries write vectors of two pipelines or parameters into vectors" in second.stderr


def test_sync_makes_them_what_the_file_declares(tmp_path: Path) -> None:
    config = f'[schedules.one]\npipeline = "{PIPELINE}"\ncron = "@daily"\nsql = "tickets"\ninput.text = "body"\n'
    (tmp_path / "batchmill.toml").write_text(config)
    assert run("sync").stdout.startswith("created one")
    assert "nothing to do" in run("sync").stderr
    (tmp_path / "batchmill.toml").write_text(config.replace("sql =", "sqll ="))
    assert "is sql meant?" in run("sync", code=2).stderr
    (tmp_path / "batchmill.toml").write_text("")
    kept = run("sync")
    assert (kept.stdout, f"from {tmp_path / 'batchmill.toml'}" in kept.stderr) == ("", True)
    assert "left as before: one; to delete: batchmill schedule sync --prune" in kept.stderr
    assert "a sync would delete one" in run("sync", "--prune", "--check").stderr
    assert "deleted one" in run("sync", "--prune").stdout
    assert "was deleted at" in run("show", "one", code=4).stderr
    (tmp_path / "batchmill.toml").write_text(config)
    assert run("sync").stdout.startswith("restored one")


@pytest.mark.parametrize("options", [(), ("--prune",), ("--check",)])
def test_sync_refuses_to_run_where_there_is_no_file(harness: ScheduleHarness, options: tuple[str, ...]) -> None:
    harness.create_schedule("one")
    harness.execute("UPDATE schedules SET from_config = true")

    assert "there is no batchmill.toml in" in run("sync", *options, code=2).stderr
    assert [schedule["name"] for schedule in document("ls")["data"]] == ["one"]


@pytest.mark.parametrize(
    ("changes", "level", "message"),
    [
        ("", "ok", "row 2 of the source 'tickets' is an input"),
        ('input.text = "boddy"', "problem", "has no column 'boddy'"),
        ('id = "nr"', "problem", "has no column 'nr'"),
        ('passthrough = ["nr"]', "problem", "has no column 'nr'"),
        ('sqll = "tickets"', "problem", "is sql meant?"),
        ('pipeline = "nope"', "problem", "there is no pipeline 'nope'"),
        ('sql = "elsewhere"', "warning", "there is no [sources.elsewhere] here"),
        ('since = "2026-03-02"', "warning", "has no rows now"),
        ('sql = "gone"', "problem", "does not answer"),
        ('sql = "broken"', "problem", "the query of the source 'broken' fails"),
        ('into = "tickets"\ninto_source = "tickets"', "problem", "is not one that schedules write"),
        ('into = "labels"\ninto_source = "elsewhere"', "problem", "which into_source names"),
        ('file = "in/{time:%Y-%m-%d}.csv"', "warning", "there is no file yet, such as"),
        ('file = "{time:%Y-%m-%d}.csv"', "ok", "line 2 of"),
        ('file = "bad-{time:%Y-%m-%d}.csv"', "problem", "has no column 'body'"),
        ('file = "{time:%Y-%m-%d}.csv"\ninto = "labels"', "problem", "id to find it again by"),
    ],
)
def test_check_reads_a_row_of_each_source_and_changes_nothing(
    harness: ScheduleHarness, tmp_path: Path, changes: str, level: str, message: str
) -> None:
    harness.tickets.insert_ticket(utc("03-01 20:00"), "")
    harness.tickets.insert_ticket(utc("03-01 20:00"))
    for name, header in (("2026-03-01.csv", "body"), ("bad-2026-03-01.csv", "text")):
        (tmp_path / name).write_text(f"{header}\nfine\n")
        os.utime(tmp_path / name, (1_700_000_000, 1_700_000_000))
    fields = {"pipeline": f'"{PIPELINE}"', "cron": '"@daily"', "sql": '"tickets"', "input.text": '"body"'}
    fields |= dict(line.split(" = ", 1) for line in changes.splitlines())
    if "file" in fields or "sqll" in fields:
        del fields["sql"]
    sources = (
        f'[sources.gone]\nurl = "sqlite:///{tmp_path}/nope.db"\nquery = "SELECT 1 AS body"\n'
        f'[sources.broken]\nurl = "{harness.tickets.url}"\nquery = "SELECT nothing FROM nowhere"\n'
    )
    declaration = "".join(f"{name} = {value}\n" for name, value in fields.items())
    (tmp_path / "batchmill.toml").write_text(f"{sources}[schedules.one]\n{declaration}")

    result = run("sync", "--check", code=1 if level == "problem" else 0)

    assert (level in result.stdout, message in result.stdout) == (True, True), result.stdout
    assert document("ls")["data"] == []


def test_ls_asks_as_often_for_many_as_for_one(harness: ScheduleHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    read = Database.read
    monkeypatch.setattr(Database, "read", lambda self: calls.append(1) or read(self))

    def counted() -> int:
        calls.clear()
        run("ls")
        return len(calls)

    harness.create_schedule("one")
    few = counted()
    for number in range(20):
        harness.create_schedule(f"more-{number:02}")
    assert counted() == few


def test_rows_without_ids_are_told_of_before_all_is_computed(harness: ScheduleHarness) -> None:
    created = harness.tickets.path.parent / "in-2026-03-02.csv"
    created.write_text("body\nfine\n")
    harness.create_schedule(
        "filed", utc("03-02 12:00"), file=str(created.parent / "in-{time:%Y-%m-%d}.csv"), id=None, into="labels"
    )
    run("trigger", "filed")
    os.utime(created, (1_700_000_000, 1_700_000_000))
    run("tick")

    [run_document] = document("history", "filed")["data"]
    assert run_document["state"] == "failed"
    assert "no row has an id to find it again by in the table labels" in run_document["error_message"]
