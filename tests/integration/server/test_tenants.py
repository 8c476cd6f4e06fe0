"""Two tenants on one server: nothing of one exists for the other, on every route that the server has.

The routes come from the OpenAPI document, so a new one takes part in these tests by itself, or fails them until it is
classified.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from httpx2 import Response
from starlette.testclient import TestClient

from models.db import Database
from producer.server import openapi_document
from producer.tenants import keys
from producer.tenants.keys import KeyRequest, NewKey
from producer.tenants.principal import Scope
from producer.times import Deadline
from producer.uploads.files import NewFile, save_file
from producer.uploads.storage.store import open_store
from tests import fake_worker
from tests.factories.batch_rows import execute, insert_batch
from tests.factories.http_server import app_over, key_headers
from tests.factories.schedules import ScheduleHarness, utc
from worker.leasing import activity
from worker.leasing.usage import ComputedWork

PIPELINE = "sample-sentiment-analysis"
SECRET = "canary-of-the-other-tenant"
BATCH, UNKNOWN_BATCH = "batch_0000000000000000000f", "batch_0000000000000000000g"
SCHEDULE, UNKNOWN_SCHEDULE = "nightly-of-other", "nightly-unknown"
UNKNOWN_FILE = "file-00000000000000000000000000000000"

# Names of what all tenants share.
SHARED = {"/v1/models/{name}", "/api/pipelines/{name}", "/api/tasks/{name}"}
BODIES: dict[str, Any] = {"POST /api/schedules/{name}/backfill": {"time": "2026-03-02"}}
ENDLESS = "/api/follow"


@dataclass
class Server:
    """An application with things of the tenant `other`, and headers of both tenants' keys."""

    app: FastAPI
    client: TestClient
    database: Database
    file_id: str
    ours: dict[str, str]
    theirs: dict[str, str]

    def operations(self) -> list[tuple[str, str, dict[str, Any]]]:
        """All routes: method, path, and how the document describes it."""
        return [
            (method.upper(), path, operation)
            for path, methods in self.app.openapi()["paths"].items()
            for method, operation in methods.items()
            if method in openapi_document.HTTP_METHODS
        ]

    def call(self, method: str, path: str, headers: dict[str, str], **options: Any) -> Response:
        """Send a request."""
        return self.client.request(method, path, headers=headers, **options)


@pytest.fixture
def server(database: Database, database_url: str, tmp_path: Path) -> Iterator[Server]:
    harness = ScheduleHarness(database_url, tmp_path)
    harness.tickets.insert_ticket(utc("03-01 21:00"), SECRET)
    harness.create_schedule(SCHEDULE, tenant="other")
    harness.run_schedule(utc("03-02 02:01"))
    output = [{"label": SECRET, "score": 0.5}]
    insert_batch(database, [{"text": SECRET}] * 2, id=BATCH, tenant="other", name=SECRET, pipeline=PIPELINE)
    fake_worker.write_results(database, BATCH, [(0, output), (1, "model_error")])
    fake_worker.end_batch(database, BATCH)
    fields = {"sources": harness.settings.sources, "home": tmp_path / "home", "simulated_clock": "2026-03-02T12:00Z"}
    app = app_over(database, database_url, **fields)
    settings = app.state.context.settings
    with open_store(settings).create() as writer:
        writer.write(json.dumps({"text": SECRET}).encode())
        stored = writer.commit()
    file = save_file(database, settings, NewFile(f"{SECRET}.jsonl", tenant="other", stored=stored))
    execute(
        database,
        "INSERT INTO usage (day, tenant, pipeline, shard, succeeded) VALUES ('2026-11-25', 'other', :pipeline, 0, 7)",
        pipeline=SECRET,
    )
    with database.write() as connection:
        work = ComputedWork("other", SECRET, 3, 1, 9, 12, 0.5, ((SECRET, 1),))
        activity.add_activity(connection, [work], "worker-1")
    with TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False) as client:
        ours, theirs = (key_headers(database, tenant) for tenant in ("acme", "other"))
        yield Server(app, client, database, file.id, ours, theirs)
    harness.close()


def ids_for(server: Server, path: str) -> list[dict[str, str]]:
    """The other tenant's ids for a path, and those that nobody has."""
    known = {"batch_id": BATCH, "file_id": server.file_id, "name": SCHEDULE, "position": "0"}
    unknown = {"batch_id": UNKNOWN_BATCH, "file_id": UNKNOWN_FILE, "name": UNKNOWN_SCHEDULE, "position": "0"}
    assert all(part.strip("{}") in known for part in path.split("/") if part.startswith("{")), f"{path} has a new id"
    return [known, unknown]


def masked(response: Response, ids: dict[str, str]) -> tuple[int, str, str | None]:
    """What a response says, without the id that was asked for."""
    text = response.text
    for name, value in ids.items():
        text = text.replace(value, f"<{name}>") if len(value) > 1 else text
    return response.status_code, text, response.headers.get("etag")


def test_an_id_of_another_tenant_is_answered_as_one_that_nobody_has(server: Server) -> None:
    before = server.call("GET", f"/api/batches/{BATCH}", server.theirs).text
    checked = 0
    for method, path, _ in server.operations():
        if "{" not in path or path in SHARED:
            continue
        body = {"json": BODIES.get(f"{method} {path}", {})} if method == "POST" else {}
        answers = [
            masked(server.call(method, path.format(**ids), server.ours, **body), ids) for ids in ids_for(server, path)
        ]
        assert answers[0] == answers[1], f"{method} {path}"
        assert answers[0][0] == 404, f"{method} {path}: {answers[0]}"
        checked += 1
    assert checked > 20
    assert server.call("GET", f"/api/batches/{BATCH}", server.theirs).text == before
    assert server.call("GET", f"/v1/files/{server.file_id}", server.theirs).status_code == 200
    assert server.call("GET", f"/api/schedules/{SCHEDULE}", server.theirs).json()["state"] == "active"


def test_its_owner_can_read_it(server: Server) -> None:
    """So that the tests of the other tenant can fail."""
    [known, _] = ids_for(server, "")
    for method, path, _ in server.operations():
        if method == "GET" and "{" in path and path not in SHARED:
            response = server.call(method, path.format(**known), server.theirs)
            assert response.status_code == 200, f"{path}: {response.text}"


def test_lists_show_nothing_of_another_tenant(server: Server) -> None:
    for method, path, operation in server.operations():
        if method != "GET" or "{" in path or path == ENDLESS:
            continue
        names = {parameter["name"] for parameter in operation.get("parameters", [])}
        days = {"since": "2026-11-01", "until": "2026-11-30"} if path == "/api/usage" else {}
        shown = [server.call(method, path, headers, params=days).text for headers in (server.ours, server.theirs)]
        for word in (SECRET, BATCH, SCHEDULE, server.file_id):
            assert word not in shown[0], f"{path} shows {word}"
        if path not in ("/v1/models", "/api/pipelines", "/api/tasks", "/api/workers", "/api/doctor"):
            assert any(word in shown[1] for word in (SECRET, BATCH, SCHEDULE, server.file_id)), f"{path}: {shown[1]}"
        if "after" in names:
            known, unknown = (server.file_id, UNKNOWN_FILE) if "files" in path else (BATCH, UNKNOWN_BATCH)
            answers = [
                masked(server.call(method, path, server.ours, params={"after": after}), {"after": after})
                for after in (known, unknown)
            ]
            assert answers[0] == answers[1], path
        if "tenant" in names:
            assert server.call(method, path, server.ours, params={"tenant": "other"}).status_code == 404


def test_bodies_name_nothing_of_another_tenant(server: Server) -> None:
    openai = {"endpoint": f"/v1/pipelines/{PIPELINE}", "completion_window": "24h"}
    native = {"pipeline": PIPELINE, "input_columns": {"text": "output.label"}}
    for path, body, name, ids in (
        ("/v1/batches", openai, "input_file_id", (server.file_id, UNKNOWN_FILE)),
        ("/api/batches", {"pipeline": PIPELINE}, "file_id", (server.file_id, UNKNOWN_FILE)),
        ("/api/batches", {"pipeline": PIPELINE}, "sql", ("tickets", "unknown")),
        ("/api/batches", native, "from_batch", (BATCH, UNKNOWN_BATCH)),
        ("/api/dry-run", native, "from_batch", (BATCH, UNKNOWN_BATCH)),
        ("/api/dry-run", {"pipeline": PIPELINE}, "file_id", (server.file_id, UNKNOWN_FILE)),
    ):
        answers = [
            masked(server.call("POST", path, server.ours, json={**body, name: value}), {name: value}) for value in ids
        ]
        assert answers[0] == answers[1], (path, name)
        assert answers[0][0] in (400, 404), answers
        assert server.call("POST", path, server.theirs, json={**body, name: ids[0]}).status_code not in (404, 500)


def test_a_key_submits_for_its_own_tenant(server: Server) -> None:
    body = {"pipeline": PIPELINE, "inputs": ["good"]}

    made = server.call("POST", "/api/batches", server.ours, json=body)
    wrong = server.call("POST", "/api/batches", server.ours, json={**body, "tenant": "other"})

    assert (made.status_code, made.json()["tenant"], wrong.status_code) == (201, "acme", 403)


def test_a_full_tenant_is_told_when_to_come_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = server.app.state.context.settings
    monkeypatch.setitem(settings.tenants, "acme", {"max_unanswered_jobs": 1})
    body = {"pipeline": PIPELINE, "inputs": ["good", "bad"]}

    full = server.call("POST", "/api/batches", server.ours, json=body)
    fits = server.call("POST", "/api/batches", server.ours, json={**body, "inputs": ["good"]})

    assert (full.status_code, full.json()["error"]["code"]) == (429, "too_many_unanswered_jobs")
    assert int(full.headers["retry-after"]) > 0
    assert fits.status_code == 201


def test_every_route_needs_a_key(server: Server) -> None:
    [known, _] = ids_for(server, "")
    new = keys.create_key(server.database, KeyRequest("other", tuple(Scope)))
    expired = keys.create_key(server.database, KeyRequest("other", tuple(Scope), expires=Deadline(seconds=-1.0)))
    revoked = keys.create_key(server.database, KeyRequest("other", tuple(Scope)))
    keys.revoke_key(server.database, revoked.view.id)
    wrong = wrong_headers(new, expired, revoked)
    for method, path, _ in server.operations():
        for headers in wrong if path == "/api/batches" else wrong[:2]:
            response = server.client.request(method, path.format(**known), headers=headers)
            assert response.status_code == 401, f"{method} {path} {headers}"
            assert response.headers["www-authenticate"] == "Bearer"
            assert response.json()["error"]["code"] == "invalid_api_key"
            assert new.text[20:] not in response.text


def wrong_headers(new: NewKey, expired: NewKey, revoked: NewKey) -> list[list[tuple[str, str]]]:
    secret = new.text.split("_", 2)[2]
    values = [
        "",
        f"Bearer {new.text[:-1]}",
        f"Bearer {new.text}x",
        f"Bearer {expired.text}",
        f"Bearer {revoked.text}",
        f"Bearer bm_{revoked.view.id}_{secret}",
        f"Basic {new.text}",
        f"Bearer {new.text}, Bearer {new.text}",
        f"Bearer {'x' * 10_000}",
        "Bearer ' OR 1=1 --",
    ]
    return [[], *([("authorization", value)] for value in values), [("authorization", f"Bearer {new.text}")] * 2]


def test_scopes_include_no_others(server: Server) -> None:
    allowed = {scope: key_headers(server.database, "other", scope) for scope in Scope}
    file = {"endpoint": "/v1/pipelines/x", "completion_window": "24h", "input_file_id": server.file_id}
    requests: list[tuple[str, str, Any, Scope]] = [
        ("GET", "/api/batches", None, Scope.READ),
        ("GET", f"/v1/files/{server.file_id}/content", None, Scope.READ),
        ("POST", f"/api/batches/{BATCH}/cancel", {}, Scope.SUBMIT),
        ("POST", "/v1/batches", file, Scope.SUBMIT),
        ("POST", f"/api/schedules/{SCHEDULE}/suspend", None, Scope.ADMIN),
        ("GET", "/api/workers", None, Scope.ADMIN),
    ]
    for method, path, body, needed in requests:
        statuses = {scope: server.call(method, path, allowed[scope], json=body).status_code for scope in Scope}
        assert {scope for scope, status in statuses.items() if status != 403} == {needed}, f"{path}: {statuses}"


def test_a_key_of_all_tenants_sees_all_and_makes_things_of_the_default_tenant(server: Server) -> None:
    headers = key_headers(server.database, None)

    assert server.call("GET", f"/api/batches/{BATCH}", headers).json()["tenant"] == "other"
    usage = server.call("GET", "/api/usage?since=2026-11-25&until=2026-11-25&tenant=other", headers).json()
    assert [row["succeeded"] for row in usage["data"]] == [7]


def test_the_first_key_closes_the_door_without_a_restart(database: Database, database_url: str, tmp_path: Path) -> None:
    app = app_over(database, database_url, home=tmp_path)
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        assert client.get("/api/batches", headers={"authorization": "Bearer sk-anything"}).status_code == 200
        headers = key_headers(database, "acme")
        app.state.context.authenticator._open_until = 0.0  # five seconds later

        assert client.get("/api/batches").status_code == 401
        assert client.get("/api/batches", headers=headers).status_code == 200
        [view] = keys.list_keys(database)
        assert view.last_used_at is not None
