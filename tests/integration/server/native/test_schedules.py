"""Schedules over HTTP: what the command line shows and does, and only to the tenant that they belong to."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from models.db import Database
from models.documents import to_json
from producer.schedules import registry
from producer.schedules.alerts import events
from producer.server.native.schedules import objects
from producer.tenants.principal import Scope
from tests.factories.batch_rows import execute
from tests.factories.http_server import client_over, key_headers
from tests.factories.schedules import CREATED_AT, ScheduleHarness, utc

NIGHT = utc("03-02 02:00")


@pytest.fixture
def harness(database: Database, database_url: str, tmp_path: Path) -> Iterator[ScheduleHarness]:
    harness = ScheduleHarness(database_url, tmp_path)
    for _ in range(3):
        harness.tickets.insert_ticket(utc("03-01 21:00"))
    harness.create_schedule()
    harness.tick(utc("03-02 02:01"))
    harness.answer_jobs({"label": "POSITIVE", "score": 0.5})
    harness.tick(utc("03-02 02:05"))
    yield harness
    harness.close()


@pytest.fixture
def client(harness: ScheduleHarness, database_url: str, tmp_path: Path) -> Iterator[TestClient]:
    fields = {"sources": harness.settings.sources, "home": tmp_path / "home", "simulated_clock": "2026-03-02T12:00Z"}
    with client_over(harness.database, database_url, **fields) as client:
        yield client


def get(client: TestClient, path: str, **params: Any) -> Any:
    response = client.get(path, params=params)
    assert response.status_code == 200, response.text
    return response.json()


def test_a_schedule_is_listed_and_shown_as_the_command_line_shows_it(client: TestClient) -> None:
    [listed] = get(client, "/api/schedules")["data"]
    shown = get(client, "/api/schedules/nightly")

    assert set(listed) == set(objects.Schedule.model_fields)
    assert set(shown) == set(objects.ScheduleReport.model_fields)
    assert (shown["name"], shown["tenant"], shown["state"]) == ("nightly", "default", "active")
    assert shown["next"][0] == "2026-03-03T02:00:00.000Z"
    assert [run["state"] for run in shown["runs"]] == ["completed"]
    objects.ScheduleReport.model_validate(shown)


def test_its_runs_reports_and_events(client: TestClient, harness: ScheduleHarness) -> None:
    with harness.database.write() as connection:
        events.record_event(connection, "nightly", NIGHT, "late", "it is late", occurred_at=CREATED_AT)

    [run] = get(client, "/api/schedules/nightly/runs", limit=5)["data"]
    report = get(client, "/api/schedules/nightly/report", time="2026-03-02")
    [event] = get(client, "/api/schedules/nightly/events")["data"]

    assert set(run) == set(objects.Run.model_fields)
    assert (report["summary"]["total"], report["events"]) == (3, [event])
    assert set(event) == set(objects.Event.model_fields)
    missing = client.get("/api/schedules/nightly/report", params={"time": "2026-03-01"})
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")


def test_one_that_can_t_be_read_hides_no_other(client: TestClient, harness: ScheduleHarness) -> None:
    harness.create_schedule("readable")
    definition = registry.get(harness.database, "nightly").definition.dump() | {"from_the_future": 1}
    harness.execute("UPDATE schedules SET definition = :text WHERE name = 'nightly'", text=to_json(definition))

    listed = get(client, "/api/schedules")

    assert [schedule["name"] for schedule in listed["data"]] == ["readable"]
    [unreadable] = listed["unreadable"]
    assert (unreadable["name"], unreadable["tenant"], unreadable["suspended_at"]) == ("nightly", "default", None)
    assert "from_the_future" in unreadable["problem"]
    objects.ScheduleList.model_validate(listed)
    assert client.get("/api/schedules/nightly").json()["error"]["message"] == unreadable["problem"]
    assert [run["state"] for run in get(client, "/api/schedules/nightly/runs")["data"]] == ["completed"]
    assert get(client, "/api/schedules/nightly/events")["data"] == []


def test_one_that_can_t_be_read_is_another_tenants_secret(client: TestClient, harness: ScheduleHarness) -> None:
    harness.execute("UPDATE schedules SET definition = :text", text=to_json({"from_the_future": 1}))
    headers = key_headers(harness.database, "acme", Scope.READ)

    assert client.get("/api/schedules", headers=headers).json() == {"object": "list", "data": [], "unreadable": []}
    assert client.get("/api/schedules/nightly/runs", headers=headers).status_code == 404


def test_it_is_suspended_and_resumed(client: TestClient) -> None:
    suspended = client.post("/api/schedules/nightly/suspend").json()
    resumed = client.post("/api/schedules/nightly/resume").json()

    assert (suspended["state"], suspended["next"]) == ("suspended", [])
    assert (resumed["state"], resumed["next_run_at"]) == ("active", "2026-03-03T02:00:00.000Z")


def test_it_is_run_now_and_again(client: TestClient) -> None:
    triggered = client.post("/api/schedules/nightly/trigger").json()
    again = client.post(
        "/api/schedules/nightly/backfill", json={"time": "2026-03-02 02:00", "rerun_completed": True}
    ).json()
    left_alone = client.post("/api/schedules/nightly/backfill", json={"from": "2026-03-02", "to": "2026-03-02"}).json()

    [run] = triggered["started"]
    assert run["scheduled_at"].startswith("2026-03-02T12:0")
    assert [run["scheduled_at"] for run in again["started"]] == ["2026-03-02T02:00:00.000Z"]
    assert (left_alone["started"], left_alone["skipped"]) == ([], ["2026-03-02T02:00:00.000Z"])
    objects.StartedRuns.model_validate(triggered)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "name what to run"),
        ({"time": "2026-03-02", "from": "2026-03-02"}, "give either"),
        ({"time": "yesterday-ish"}, "yesterday-ish"),
        ({"time": "2026-04-01"}, "still to come"),
        ({"nights": 3}, "nights"),
    ],
)
def test_a_span_that_can_t_be_run_is_refused_with_what_to_do(
    client: TestClient, body: dict[str, Any], message: str
) -> None:
    response = client.post("/api/schedules/nightly/backfill", json=body)

    assert response.status_code == 400
    assert message in response.json()["error"]["message"]


ROUTES = [
    ("GET", "/api/schedules/nightly"),
    ("GET", "/api/schedules/nightly/runs"),
    ("GET", "/api/schedules/nightly/report"),
    ("GET", "/api/schedules/nightly/events"),
    ("POST", "/api/schedules/nightly/trigger"),
    ("POST", "/api/schedules/nightly/backfill"),
    ("POST", "/api/schedules/nightly/suspend"),
    ("POST", "/api/schedules/nightly/resume"),
]


def test_nobody_else_s_schedule_can_be_seen_or_run(client: TestClient, harness: ScheduleHarness) -> None:
    client.headers.update(key_headers(harness.database, "other"))

    assert get(client, "/api/schedules")["data"] == []
    for method, path in ROUTES:
        response = client.request(method, path, json={"time": "2026-03-02"} if "backfill" in path else None)
        assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found"), path
        assert "nightly'" in response.json()["error"]["message"], "as one that never was"

    execute(harness.database, "UPDATE schedules SET tenant = 'other'")
    assert [item["name"] for item in get(client, "/api/schedules")["data"]] == ["nightly"]


def test_a_reader_may_not_act(client: TestClient, harness: ScheduleHarness) -> None:
    client.headers.update(key_headers(harness.database, "default", Scope.READ))

    for method, path in ROUTES:
        expected = 200 if method == "GET" else 403
        body = {"time": "2026-03-02"} if "backfill" in path else None
        assert client.request(method, path, json=body).status_code == expected, path
