"""The pages of schedules: what the list, a schedule and a run show, and to whom."""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from models.db import Database
from models.documents import to_json
from producer.schedules import registry
from producer.schedules.alerts import events
from producer.tenants.principal import Scope
from tests.factories.http_server import app_over
from tests.factories.page_clients import PART, Page, browser_over, csrf_token, sign_in_as
from tests.factories.schedules import ScheduleHarness, insert_run, utc

GOOD, BAD = {"label": "POSITIVE", "score": 0.9}, {"label": "NEGATIVE", "score": 0.6}
HOSTILE = '<script>alert(1)</script> "quoted" \u202e\n\tend'
NIGHT = "/schedules/nightly/runs/2026-03-04T01:00:00.000Z"
PAGES = ("/schedules", "/schedules/nightly", NIGHT, "/schedules/nightly/backfill?from=2026-03-01")


@pytest.fixture
def harness(database_url: str, tmp_path: Path) -> Iterator[ScheduleHarness]:
    created = ScheduleHarness(database_url, tmp_path)
    created.create_schedule(tz="Europe/Berlin", deadline="06:00", alert_drift=0.2, metadata={"note": HOSTILE})
    for day, output in ((2, GOOD), (3, GOOD), (4, BAD)):
        for _ in range(40):
            created.tickets.insert_ticket(utc(f"03-0{day - 1} 21:00"))
        created.run_schedule(utc(f"03-0{day} 01:00"), output, failures_per_claim=1)
    yield created
    created.close()


@pytest.fixture
def browser(harness: ScheduleHarness, database_url: str, tmp_path: Path) -> Iterator[TestClient]:
    fields = {"sources": harness.settings.sources, "home": tmp_path / "home", "simulated_clock": "2026-03-04T12:00Z"}
    with browser_over(app_over(harness.database, database_url, **fields)) as client:
        yield client


def read(browser: TestClient, address: str, status: int = 200, headers: dict[str, str] | None = None) -> Page:
    response = browser.get(address, headers=headers)
    assert response.status_code == status, response.text[:2000]
    return Page(response.text)


def words(page: Page) -> str:
    return " ".join(page.text.split())


def test_a_schedule_is_a_row_with_its_timing_its_last_runs_and_its_next(browser: TestClient) -> None:
    page = read(browser, "/schedules")

    assert "every night at 02:00" in page.text
    assert "Europe/Berlin" in page.text
    assert "Thu 2026-03-05 02:00 CET" in page.text
    html = browser.get("/schedules").text
    bars = [link for link in page.all("a") if "/runs/" in link["href"] and "tabindex" in link]
    assert re.findall(r"<a [^>]*><title>([^<]*)</title>", html) == [
        "Mon 2026-03-02 02:00 CET: completed, 40 rows, 1 of them failed, 5 min",
        "Tue 2026-03-03 02:00 CET: completed, 40 rows, 1 of them failed, 5 min",
        "Wed 2026-03-04 02:00 CET: drifted, 40 rows, 1 of them failed, 5 min",
    ]
    assert bars[-1]["href"] == NIGHT
    assert "last 3 runs: 2 completed, 1 drifted" in str(page.all("svg"))


def test_filters_stand_in_the_address(browser: TestClient, harness: ScheduleHarness) -> None:
    harness.create_schedule("hourly", cron="0 * * * *", now=utc("03-04 11:30"))
    harness.create_schedule("of-acme", tenant="acme", now=utc("03-04 11:30"))
    registry.suspend(harness.database, "of-acme", utc("03-04 11:40"))

    def names(query: str) -> list[str]:
        return re.findall(r'<th scope="row"><a href="/schedules/([^"]+)"', browser.get(f"/schedules{query}").text)

    assert names("") == ["hourly", "nightly", "of-acme"]
    assert names("?name=LY") == ["hourly", "nightly"]
    assert names("?state=suspended") == ["of-acme"]
    assert names("?tenant=acme") == ["of-acme"]
    assert names("?after=hourly") == ["nightly", "of-acme"]
    assert names("?state=attention") == []
    assert names("?state=drifted") == ["nightly"]
    assert "No schedule fits this filter" in browser.get("/schedules?name=unknown").text
    harness.execute("UPDATE schedules SET next_run_at = evaluated_until WHERE name = 'hourly'")
    assert names("?state=attention") == names("?state=overdue") == ["hourly"]


def test_without_schedules_the_page_says_how_to_make_one(database: Database, database_url: str) -> None:
    with browser_over(app_over(database, database_url)) as browser:
        page = read(browser, "/schedules")

    assert "No schedules yet" in page.text
    copied = [button["data-copy"] for button in page.all("button") if "data-copy" in button]
    assert "[schedules.nightly-reviews]" in copied[0]
    assert copied[1].startswith("batchmill schedule create nightly-reviews --pipeline")


def test_the_page_of_a_schedule_has_its_facts_calendar_runs_and_charts(
    browser: TestClient, harness: ScheduleHarness
) -> None:
    harness.create_schedule("second", after="nightly")

    page = read(browser, "/schedules/nightly")
    text = words(page)

    assert "followed by second" in text
    assert "NEGATIVE 0.0 % → 100 %" in text, "the drift in words"
    assert "March 2026" in text
    cells = [link["aria-label"] for link in page.all("a") if link.get("class", "").startswith("cell ")]
    assert [cell.split(",")[0] for cell in cells] == [
        "Mon 2026-03-02 02:00 CET: completed",
        "Tue 2026-03-03 02:00 CET: completed",
        "Wed 2026-03-04 02:00 CET: drifted",
    ]
    charts = {figure["id"] for figure in page.all("figure")}
    assert {"chart-rows", "chart-labels", "chart-score", "chart-drift"} <= charts
    assert "Thu 2026-03-05 02:00 CET" in text, "the next run"
    assert "in 13 h" in text


def test_a_schedule_that_runs_often_has_a_calendar_of_hours(browser: TestClient, harness: ScheduleHarness) -> None:
    harness.create_schedule("hourly", cron="0 * * * *", tz="America/New_York", now=utc("03-04 10:30"))
    harness.tick(utc("03-04 11:00"))

    page = read(browser, "/schedules/hourly")

    [cell] = [link for link in page.all("a") if link.get("class", "").startswith("cell ")]
    assert cell["aria-label"] == "Wed 2026-03-04 06:00 EST: running"
    days = [link["href"] for link in page.all("a") if "before=" in link["href"] and "hx-get" not in link]
    assert len(days) == 14, "each day leads to its runs"
    assert "Wed 2026-03-04 06:00 EST" in words(read(browser, days[0]))
    assert "Hours in America/New_York" in page.text


def test_a_schedule_that_runs_every_minute_has_all_its_days(
    browser: TestClient, harness: ScheduleHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producer.schedules.history.calendar_runs.MAX_MARKS", 10)
    harness.create_schedule("minutely", cron="* * * * *", tz="Asia/Kolkata", now=utc("03-04 10:30"))
    for minute in range(60):  # from 16:30 to 17:30 there
        state = "failed" if minute == 40 else "completed"
        insert_run(harness.database, "minutely", utc("03-04 11:00") + timedelta(minutes=minute), state=state)
    insert_run(harness.database, "minutely", utc("02-20 11:00"))

    page = read(browser, "/schedules/minutely")

    cells = [link for link in page.all("a") if link.get("class", "").startswith("cell ")]
    assert [cell["aria-label"] for cell in cells] == [
        "Wed 04 Mar 16:00: 30 runs: 30 completed",
        "Wed 04 Mar 17:00: 30 runs: 1 failed, 29 completed",
        "Fri 20 Feb 16:00: 1 run: 1 completed",
    ]
    assert "state=failed" in cells[1]["href"]
    assert "/runs/2026-02-20T11:00" in cells[2]["href"]


def test_schedules_are_paged_both_ways(
    browser: TestClient, harness: ScheduleHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producer.server.pages.schedules.schedule_list.PAGE_SCHEDULES", 2)
    for number in range(4):
        harness.create_schedule(f"a{number}", now=utc("03-04 11:30"))

    def turn(page: Page, part: str) -> Page:
        links = [link["href"] for link in page.all("a") if link.get("class") == "button small"]
        return read(browser, links[-1] if part == "next" else links[0])

    first = read(browser, "/schedules")
    last = turn(turn(first, "next"), "next")

    assert "1\u20132 of 5" in first.text
    assert "5\u20135 of 5" in last.text
    assert "3\u20134 of 5" in turn(last, "before").text
    assert "1\u20132 of 5" in turn(turn(last, "before"), "before").text


def test_runs_before_the_calendar_are_not_forgotten(browser: TestClient, harness: ScheduleHarness) -> None:
    harness.execute("DELETE FROM runs WHERE scheduled_at < '2026-03-04'")
    harness.execute("UPDATE runs SET scheduled_at = '2025-03-04 01:00:00.000000'")

    text = words(read(browser, "/schedules/nightly"))

    assert "No runs since Sat 2025-11-01 00:00 CET" in text
    assert "No run yet" not in text


def test_runs_are_paged_and_filtered(browser: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("producer.server.pages.schedules.schedule_page.PAGE_RUNS", 2)

    def runs(address: str, headers: dict[str, str] | None = None) -> list[str]:
        text = browser.get(address, headers=headers).text
        return re.findall(r'<th scope="row"><a href="/schedules/nightly/runs/([^T]+)T', text)

    page = read(browser, "/schedules/nightly")
    [older] = [link["hx-get"] for link in page.all("a") if "before=" in link.get("hx-get", "")]

    assert runs("/schedules/nightly") == ["2026-03-04", "2026-03-03"]
    assert runs(older) == runs(older, PART) == ["2026-03-02"]
    assert "<html" not in browser.get(older, headers=PART).text
    assert runs("/schedules/nightly?state=completed") == ["2026-03-04", "2026-03-03"]
    assert runs("/schedules/nightly?state=failed") == []
    assert browser.get("/schedules/nightly?before=yesterday").status_code == 404


def test_a_run_is_compared_with_those_before_it(browser: TestClient, harness: ScheduleHarness) -> None:
    text = words(read(browser, NIGHT))
    first = words(read(browser, "/schedules/nightly/runs/2026-03-02T01:00:00Z"))

    assert "NEGATIVE 100 % 0 % moved" in text
    assert "mean score 0.60 0.90 moved" in text
    assert "completed drifted" in text
    assert "from Tue 2026-03-03 02:00 CET up to Wed 2026-03-04 02:00 CET" in text
    assert "alert above 20.0 %" in text
    assert harness.runs()[-1].batch_id in text
    assert "nothing to compare with" in first


def test_the_report_of_a_run_is_downloaded_as_the_command_line_prints_it(browser: TestClient) -> None:
    response = browser.get(f"{NIGHT}/report.json")

    assert response.headers["content-disposition"] == 'attachment; filename="nightly-20260304T010000Z.json"'
    assert (response.json()["object"], response.json()["summary"]["total"]) == ("schedule.run", 40)


@pytest.mark.parametrize("time", ["2026-03-07T01:00:00Z", "yesterday", "2026-03-04"])
def test_a_run_that_there_is_not_is_not_found(browser: TestClient, time: str) -> None:
    read(browser, f"/schedules/nightly/runs/{time}", 404)


def test_events_say_what_happened(browser: TestClient, harness: ScheduleHarness) -> None:
    with harness.database.write() as connection:
        url = "https://hooks.example.com/x"
        events.record_event(
            connection, "nightly", utc("03-02 01:00"), "late", HOSTILE, occurred_at=utc("03-02 03:00"), url=url
        )

    page = read(browser, "/schedules/nightly")

    assert "on its way to the webhook" in page.text
    assert "drift" in page.text


def test_hostile_texts_are_escaped_and_cut(browser: TestClient, harness: ScheduleHarness) -> None:
    message = HOSTILE * 300
    harness.execute(
        "UPDATE runs SET state = 'failed', error_code = :code, error_message = :text", code=HOSTILE, text=message
    )
    with harness.database.write() as connection:
        for number in range(12):
            time = utc("03-04 01:00") - timedelta(days=number)
            events.record_event(connection, "nightly", time, "failed", message, occurred_at=time)

    for address in PAGES:
        html = browser.get(address).text
        assert "<script>alert" not in html
        assert all("src" in script for script in Page(html).all("script"))
        assert len(html) < 400_000


def test_pages_have_no_inline_scripts_or_styles_and_one_heading(browser: TestClient) -> None:
    for address in PAGES:
        page = read(browser, address)
        attributes = {name for _, attributes in page.elements for name in attributes}
        assert not any(name == "style" or name.startswith("on") for name in attributes)
        assert page.all("style") == []
        assert len(page.all("h1")) == 1
        assert all("scope" in cell for cell in page.all("th"))
        labelled = {label.get("for") for label in page.all("label")}
        fields = [field for field in (*page.all("input"), *page.all("select")) if field.get("type") != "hidden"]
        assert {field["id"] for field in fields} <= labelled


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_times_at_the_ends_of_the_calendar_have_no_run(browser: TestClient, time: str) -> None:
    for address in (f"/schedules/nightly/runs/{time}", f"/schedules/nightly/runs/{time}/report.json"):
        assert browser.get(address).status_code == 404
    assert browser.get("/schedules/nightly", params={"before": time}).status_code == 404


def test_one_that_can_t_be_read_hides_no_other(browser: TestClient, harness: ScheduleHarness) -> None:
    harness.create_schedule("readable")
    definition = registry.get(harness.database, "nightly").definition.dump() | {"from_the_future": 1}
    harness.execute("UPDATE schedules SET definition = :text WHERE name = 'nightly'", text=to_json(definition))

    shown = words(read(browser, "/schedules"))
    assert "every night at 02:00" in shown
    assert "Schedules that can't be read" in shown
    assert "from_the_future" in shown
    history = words(read(browser, "/schedules/nightly"))
    assert "from_the_future" in history
    assert "Wed 2026-03-04 02:00 CET" in history
    assert "Run this time again" not in words(read(browser, NIGHT))

    assert "Suspend nightly?" in words(read(browser, "/schedules/nightly/suspend"))
    form = {"csrf_token": csrf_token(browser)}
    assert browser.post("/schedules/nightly/suspend", data=form).status_code == 303
    assert "Suspend" not in words(read(browser, "/schedules/nightly"))
    assert [row.name for row in harness.query("SELECT name FROM schedules WHERE suspended_at IS NOT NULL")] == [
        "nightly"
    ]


def test_the_history_of_a_deleted_one_stays(browser: TestClient, harness: ScheduleHarness) -> None:
    registry.delete(harness.database, "nightly", utc("03-04 11:00"))

    [link] = [link["href"] for link in read(browser, "/schedules").all("a") if link["href"] == "/schedules/nightly"]
    page = words(read(browser, link))

    assert "This schedule was deleted" in page
    assert "Wed 2026-03-04 02:00 CET" in page
    assert "Run now" not in page
    assert "Run this time again" not in words(read(browser, NIGHT))
    assert browser.post("/schedules/nightly/suspend", data={"csrf_token": csrf_token(browser)}).status_code == 404
    sign_in_as(browser, harness.database, "acme", Scope.READ)
    assert browser.get(link).status_code == browser.get(NIGHT).status_code == 404


def test_a_tenant_sees_its_schedules_alone(browser: TestClient, harness: ScheduleHarness) -> None:
    harness.create_schedule("of-acme", tenant="acme")
    sign_in_as(browser, harness.database, "acme", Scope.READ)

    page = read(browser, "/schedules")

    assert "of-acme" in page.text
    assert "nightly" not in page.text
    for address in ("/schedules/nightly", NIGHT, f"{NIGHT}/report.json"):
        assert browser.get(address).status_code == 404
    assert "Run now" not in read(browser, "/schedules/of-acme").text, "the key lacks the scope"
