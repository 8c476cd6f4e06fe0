"""Actions on schedules: what their confirmations say, what they do, and who may."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from httpx2 import Response
from starlette.testclient import TestClient

from models.documents import to_json
from producer.schedules import registry
from producer.schedules.runs import manual_runs
from producer.schedules.runs.manual_runs import BackfillResult
from producer.server.pages.schedules import addresses, backfill
from producer.tenants.principal import Scope
from tests.factories.http_server import app_over
from tests.factories.page_clients import PART, Page, browser_over, csrf_token, sign_in_as
from tests.factories.schedules import ScheduleHarness, utc
from tests.servers import WAIT_TIMEOUT_SECONDS, wait_until

INSERT_TASK = """
INSERT INTO maintenance_tasks (name, next_run_at, last_run_at, failures_in_a_row) VALUES ('schedules', {now}, {now}, 0)
"""
ACTIONS = ("trigger", "suspend", "resume", "backfill")


@pytest.fixture
def harness(database_url: str, tmp_path: Path) -> Iterator[ScheduleHarness]:
    created = ScheduleHarness(database_url, tmp_path)
    created.tickets.insert_ticket(utc("03-01 21:00"))
    created.create_schedule()
    created.run_schedule(utc("03-02 02:00"))
    yield created
    created.close()


@pytest.fixture
def browser(harness: ScheduleHarness, database_url: str, tmp_path: Path) -> Iterator[TestClient]:
    fields = {"sources": harness.settings.sources, "home": tmp_path / "home", "simulated_clock": "2026-03-02T12:00Z"}
    with browser_over(app_over(harness.database, database_url, **fields)) as client:
        yield client


def words(response: Response) -> str:
    assert response.status_code == 200, response.text[:1000]
    return " ".join(Page(response.text).text.split())


def act(browser: TestClient, action: str, **fields: str) -> Response:
    return browser.post(f"/schedules/nightly/{action}", data={"csrf_token": csrf_token(browser), **fields})


def test_a_run_now_shows_which_rows_it_reads_and_then_its_run(browser: TestClient, harness: ScheduleHarness) -> None:
    confirmation = words(browser.get("/schedules/nightly/trigger"))
    response = act(browser, "trigger")

    assert "Run nightly now?" in confirmation
    assert (
        "from Mon 2026-03-02 02:00 UTC, where the last completed run ended, up to Mon 2026-03-02 12:0" in confirmation
    )
    assert "open already" not in confirmation
    assert response.status_code == 303
    assert response.headers["location"].startswith("/schedules/nightly/runs/2026-03-02T12:0")
    shown = words(browser.get(response.headers["location"]))
    assert "started by hand" in shown
    assert "A run of nightly is planned" in shown
    assert harness.run_states() == ["completed", "waiting"]
    again = words(browser.get("/schedules/nightly/trigger"))
    assert "1 run is open already" in again


def test_a_run_now_needs_somebody_who_reads_its_rows(browser: TestClient, harness: ScheduleHarness) -> None:
    response = act(browser, "trigger")
    assert "begins when a worker runs" in words(browser.get(response.headers["location"]))

    harness.execute("DELETE FROM runs WHERE state = 'waiting'")
    harness.execute(INSERT_TASK.format(now=harness.database.sql.now))
    response = act(browser, "trigger")
    assert "reads its rows within seconds" in words(browser.get(response.headers["location"]))


def test_a_second_run_of_the_same_second_is_the_first_one(
    browser: TestClient, harness: ScheduleHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "current_time", lambda _context: utc("03-02 12:00"))

    first, second = act(browser, "trigger"), act(browser, "trigger")

    assert first.status_code == second.status_code == 303
    assert first.headers["location"] == second.headers["location"]
    assert harness.run_states() == ["completed", "waiting"]


def test_a_run_that_can_t_start_is_not_offered(browser: TestClient, harness: ScheduleHarness) -> None:
    harness.create_schedule("leader", cron="0 0 1 1 *")
    harness.create_schedule("orphan", after="leader")
    confirmation = words(browser.get("/schedules/orphan/trigger"))
    assert "leader has no completed run whose results orphan could read" in confirmation
    assert "Run now" not in confirmation

    definition = registry.get(harness.database, "nightly").definition.dump() | {"pipeline": "removed"}
    harness.execute("UPDATE schedules SET definition = :text WHERE name = 'nightly'", text=to_json(definition))
    span = {"from": "2026-02-28", "to": "2026-03-02"}
    for shown in (
        words(browser.get("/schedules/nightly/trigger")),
        words(browser.get("/schedules/nightly/backfill", params=span)),
        words(browser.get("/schedules/nightly")),
    ):
        assert "pipeline removed is not in the catalogue of this machine" in shown
        assert "scheduled times will run" not in shown


def test_an_active_schedule_is_not_resumed(browser: TestClient, harness: ScheduleHarness) -> None:
    due = registry.get(harness.database, "nightly").next_run_at
    page = words(browser.get("/schedules/nightly/resume"))
    assert "nightly is active" in page
    assert "Keep it suspended" not in page

    act(browser, "resume")

    assert "is active already" in words(browser.get("/schedules/nightly"))
    view = registry.get(harness.database, "nightly")
    assert (view.next_run_at, view.evaluated_until) == (due, utc("03-02 02:00"))


def test_a_suspended_schedule_is_not_suspended_again(browser: TestClient) -> None:
    act(browser, "suspend")

    assert "nightly is suspended already" in words(browser.get("/schedules/nightly/suspend"))


def test_a_confirmation_is_a_part_for_the_dialog(browser: TestClient) -> None:
    for action in ACTIONS:
        assert "<html" not in browser.get(f"/schedules/nightly/{action}", headers=PART).text
        assert "<html" in browser.get(f"/schedules/nightly/{action}").text


def test_suspending_says_what_does_not_start_and_resuming_what_passed(
    browser: TestClient, harness: ScheduleHarness
) -> None:
    assert "The next run, Tue 2026-03-03 02:00 UTC, does not start" in words(browser.get("/schedules/nightly/suspend"))
    assert act(browser, "suspend").headers["location"] == "/schedules/nightly"
    assert registry.get(harness.database, "nightly").suspended_at is not None
    shown = words(browser.get("/schedules/nightly"))
    assert "Suspended" in shown
    assert "Resume" in shown

    harness.execute("UPDATE schedules SET suspended_at = :time", time="2026-02-25 00:00:00+00")
    assert "6 scheduled times passed" in words(browser.get("/schedules/nightly/resume"))
    assert act(browser, "resume").status_code == 303
    view = registry.get(harness.database, "nightly")
    assert (view.suspended_at, view.next_run_at) == (None, utc("03-03 02:00"))
    assert "Its next run is Tue 2026-03-03 02:00 UTC" in words(browser.get("/schedules/nightly"))


def test_a_backfill_shows_first_which_times_run(browser: TestClient, harness: ScheduleHarness) -> None:
    span = {"from": "2026-02-28", "to": "2026-03-02"}
    form = words(browser.get("/schedules/nightly/backfill"))
    preview = words(browser.get("/schedules/nightly/backfill", params=span))
    with_completed = words(browser.get("/schedules/nightly/backfill", params={**span, "rerun": "true"}))

    assert "scheduled times will run" not in form
    assert "2 of 3 scheduled times will run" in preview
    assert "left alone: it is completed" in preview
    assert "3 of 3 scheduled times will run" in with_completed
    assert harness.run_states() == ["completed"], "looking changes nothing"

    response = act(browser, "backfill", **span)

    assert response.headers["location"] == "/schedules/nightly#runs"
    assert harness.run_states() == ["waiting", "waiting", "completed"]
    assert "2 runs are planned. 1 scheduled time is left alone." in words(browser.get("/schedules/nightly"))


def test_one_time_is_run_again(browser: TestClient, harness: ScheduleHarness) -> None:
    address = "/schedules/nightly/runs/2026-03-02T02:00:00.000Z"
    [again] = [link["href"] for link in Page(browser.get(address).text).all("a") if "backfill" in link["href"]]

    assert "1 of 1 scheduled times will run" in words(browser.get(again))
    response = act(browser, "backfill", time="2026-03-02T02:00:00+00:00", rerun="true")

    assert response.headers["location"] == address
    assert harness.run_states() == ["waiting"]


def test_one_time_counts_rather_than_the_span_that_the_form_has(browser: TestClient, harness: ScheduleHarness) -> None:
    form = Page(browser.get("/schedules/nightly/backfill").text)
    fields = {field["name"]: field.get("value", "") for field in form.all("input") if field.get("type") != "checkbox"}
    fields |= {"time": "2026-02-28 02:00"}

    assert "1 of 1 scheduled times will run" in words(browser.get("/schedules/nightly/backfill", params=fields))
    act(browser, "backfill", **{name: fields[name] for name in ("time", "from", "to")})

    assert [run.scheduled_at for run in harness.runs()] == [utc("02-28 02:00"), utc("03-02 02:00")]


def test_a_long_backfill_goes_on_while_the_page_comes(
    browser: TestClient, harness: ScheduleHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_begin = Event()
    plan_runs = manual_runs.backfill

    def plan_later(*arguments: Any, **options: Any) -> BackfillResult:
        may_begin.wait(WAIT_TIMEOUT_SECONDS)
        return plan_runs(*arguments, **options)

    monkeypatch.setattr(manual_runs, "backfill", plan_later)
    monkeypatch.setattr(backfill, "WAIT_SECONDS", 0.01)

    response = act(browser, "backfill", **{"from": "2026-02-28", "to": "2026-03-01"})
    assert response.headers["location"] == "/schedules/nightly#runs"
    assert backfill.STILL_PLANNED in words(browser.get("/schedules/nightly"))
    assert harness.run_states() == ["completed"]

    may_begin.set()
    wait_until(lambda: harness.run_states() == ["waiting", "waiting", "completed"], "the runs to be planned")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"from": "2026-04-01"}, "still to come"),
        ({"from": "yesterday-ish"}, "yesterday-ish"),
        ({"from": "2026-03-02", "to": "2026-02-01"}, "swap its two ends"),
        ({"to": "2026-03-02"}, "The span has no beginning"),
        ({"time": "9999-99-99"}, "is not a time"),
        ({"from": "2000-01-01"}, "more than 1,000 runs"),
        ({"from": "<script>alert(1)</script>"}, "is not a time"),
    ],
)
def test_a_span_that_can_t_be_run_is_explained_on_the_form(
    browser: TestClient, fields: dict[str, str], message: str
) -> None:
    response = browser.get("/schedules/nightly/backfill", params=fields)

    assert message in words(response)
    assert "<script>alert" not in response.text


def test_an_action_needs_the_token_of_the_session(browser: TestClient, harness: ScheduleHarness) -> None:
    for action, fields in itertools.product(ACTIONS, ({}, {"csrf_token": "0" * 64})):
        response = browser.post(f"/schedules/nightly/{action}", data={**fields, "from": "2026-02-28"})
        assert response.status_code == 403

    assert harness.run_states() == ["completed"]
    assert registry.get(harness.database, "nightly").suspended_at is None


@pytest.mark.parametrize(
    ("tenant", "scopes", "status"), [("default", (Scope.READ, Scope.SUBMIT), 403), ("acme", tuple(Scope), 404)]
)
def test_an_action_needs_the_scope_and_the_tenant(
    browser: TestClient, harness: ScheduleHarness, tenant: str, scopes: tuple[Scope, ...], status: int
) -> None:
    fields = {"csrf_token": sign_in_as(browser, harness.database, tenant, *scopes)}

    for action in ACTIONS:
        assert browser.get(f"/schedules/nightly/{action}").status_code == status
        assert browser.post(f"/schedules/nightly/{action}", data=fields).status_code == status

    assert harness.run_states() == ["completed"]
