"""Every page route that the server has: sessions, tenants, forged actions, headers, and hostile rows.

The routes come from the application, so a new one takes part in these tests by itself, or fails them until it is
classified.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from httpx2 import Response
from starlette.testclient import TestClient

from models.db import Database
from producer.server.pages import router as pages
from producer.server.pages.frame.headers import HEADERS
from producer.tenants import keys
from producer.tenants.keys import KeyRequest
from producer.tenants.principal import Scope
from producer.uploads.files import NewFile, save_file
from producer.uploads.storage.store import open_store
from tests import fake_worker
from tests.factories.batch_rows import execute, insert_batch
from tests.factories.http_server import app_over
from tests.factories.page_clients import PART, Page, assert_harmless, browser_over, sign_in_as
from tests.factories.schedules import ScheduleHarness, utc

SECRET = "canary-of-the-other-tenant"
HOSTILE = f"{SECRET}<script>alert(1)</script>\"'><img src=x onerror=alert(1)>\u202e\n\x1b[31m{{{{7*7}}}}"
LONG = f"{HOSTILE}{'x' * 10_000}"
BATCH, UNKNOWN_BATCH = "batch_0000000000000000000f", "batch_0000000000000000000g"
SCHEDULE, UNKNOWN_SCHEDULE = "nightly-of-other", "nightly-unknown"
UNKNOWN_FILE = "file-00000000000000000000000000000000"
TIME, UNKNOWN_TIME = "2026-03-02T02:00:00Z", "2026-01-02T02:00:00Z"
UNKNOWN_KEY = "0" * 16

# Which values stand for the parameters of a route, by the beginning of its path.
NAMES = {"/schedules/": ("schedule", SCHEDULE, UNKNOWN_SCHEDULE), "/batches/": ("part", "input", "input")}

OPEN = {"/login", "/static/{name}", "/favicon.ico", "/robots.txt"}  # nobody has to sign in for them
SHARED = {"/static/{name}", "/pipelines/{name}", "/events/pipelines/{name}"}  # names of what all tenants share
UPLOADS = {"/submit/files", "/batches/{batch_id}/repair"}  # whose form has a file
REDIRECTS = {"/submit/files/{file_id}/check"}  # to another page, which then says whether the thing exists
ENDLESS = "/events/"


@dataclass(frozen=True)
class Route:
    """A page route: a method and a template."""

    method: str
    path: str

    @property
    def is_endless(self) -> bool:
        return self.path.startswith(ENDLESS) or self.path == ENDLESS.rstrip("/")


def page_routes(app: FastAPI) -> list[Route]:
    [included] = [route for route in app.routes if getattr(route, "original_router", None) is pages.router]
    found = [
        Route(method, context.path)
        for context in included.effective_route_contexts()  # type: ignore[attr-defined]
        for method in sorted(context.methods)
    ]
    assert len(found) > 20
    return found


@dataclass
class Site:
    """An application with hostile things of the tenant `other`, and signed-in browsers with their tokens."""

    app: FastAPI
    routes: list[Route]
    nobody: TestClient
    ours: TestClient
    theirs: TestClient
    operator: TestClient
    file_id: str
    key_id: str
    tokens: dict[int, str]

    def token(self, browser: TestClient) -> str:
        return self.tokens[id(browser)]

    def addresses(self, route: Route) -> tuple[str, str]:
        """The address of the other tenant's thing, and of one that nobody has."""
        _, schedule, unknown_schedule = next((v for k, v in NAMES.items() if route.path.startswith(k)), ("", "", ""))
        known = {
            "batch_id": BATCH,
            "file_id": self.file_id,
            "key_id": self.key_id,
            "name": schedule or "sample-sentiment-analysis",
            "position": "0",
            "time": TIME,
        }
        unknown = {
            "batch_id": UNKNOWN_BATCH,
            "file_id": UNKNOWN_FILE,
            "key_id": UNKNOWN_KEY,
            "name": unknown_schedule or "unknown",
            "position": "0",
            "time": UNKNOWN_TIME,
        }
        parameters = re.findall(r"\{(\w+)", route.path)
        assert all(name in known for name in parameters), f"{route} has a new parameter: classify it"
        template = re.sub(r":\w+\}", "}", route.path)
        return template.format(**known), template.format(**unknown)


@pytest.fixture
def site(database: Database, database_url: str, tmp_path: Path) -> Iterator[Site]:
    harness = ScheduleHarness(database_url, tmp_path)
    harness.tickets.insert_ticket(utc("03-01 21:00"), HOSTILE)
    harness.create_schedule(SCHEDULE, tenant="other")
    harness.run_schedule(utc("03-02 02:01"))
    insert_hostile_rows(database)
    fields = {"sources": harness.settings.sources, "home": tmp_path / "home", "simulated_clock": "2026-03-02T12:00Z"}
    app = app_over(database, database_url, **fields)
    settings = app.state.context.settings
    with open_store(settings).create() as writer:
        writer.write(json.dumps({"text": LONG, HOSTILE: HOSTILE}).encode())
        stored = writer.commit()
    file = save_file(database, settings, NewFile(f"{HOSTILE[:100]}.jsonl", tenant="other", stored=stored))
    key = keys.create_key(database, KeyRequest("other", tuple(Scope), name="<script>alert(1)</script>"))
    with browser_over(app) as nobody, browser_over(app) as ours, browser_over(app) as theirs, browser_over(app) as all_:
        tokens = {
            id(browser): sign_in_as(browser, database, tenant)
            for browser, tenant in ((ours, "acme"), (theirs, "other"), (all_, None))
        }
        yield Site(app, page_routes(app), nobody, ours, theirs, all_, file.id, key.view.id, tokens)
    app.state.context.watch.close()
    harness.close()


def insert_hostile_rows(database: Database) -> None:
    """A batch whose every text wants to be a script."""
    inputs = [{"text": LONG, "id": HOSTILE}, {"text": HOSTILE, HOSTILE: HOSTILE}, {"text": HOSTILE}, {"text": SECRET}]
    hostile = {HOSTILE: HOSTILE}
    columns: dict[str, Any] = {"name": HOSTILE, "tenant": "other", "metadata_": hostile, "parameters": hostile}
    insert_batch(database, inputs, id=BATCH, **columns)
    execute(
        database,
        "UPDATE jobs SET custom_id = :hostile || position WHERE batch_id = :id",
        hostile=HOSTILE[:500],
        id=BATCH,
    )
    labels = [{"label": HOSTILE, "score": 0.5}, {"label": LONG, "score": 0.25}]
    entities = [{"entity_group": HOSTILE, "word": HOSTILE, "start": 0, "end": 10_000_000, "score": 0.5}]
    fake_worker.write_results(database, BATCH, [(0, labels), (1, entities), (2, {HOSTILE: LONG}), (3, "model_error")])
    execute(database, "UPDATE results SET error_message = :hostile WHERE error_code IS NOT NULL", hostile=LONG)
    fake_worker.end_batch(database, BATCH)
    execute(database, "UPDATE batches SET error_message = :hostile WHERE id = :id", hostile=HOSTILE, id=BATCH)
    execute(
        database,
        "INSERT INTO usage (day, tenant, pipeline, shard, succeeded) VALUES ('2026-11-25', 'other', :name, 0, 7)",
        name=HOSTILE,
    )


def assert_headers(response: Response, route: Route) -> None:
    for name, value in HEADERS.items():
        if name != "cache-control" or response.status_code >= 300:
            assert name in response.headers, f"{route}: {name}"
        if name not in ("cache-control", "content-security-policy"):
            assert response.headers[name] == value, f"{route}: {name}"
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert "unsafe" not in response.headers["content-security-policy"]


def masked(response: Response, *words: str) -> tuple[int, str]:
    text = response.text
    for word in words:
        text = text.replace(word, "<id>") if len(word) > 1 else text
    return response.status_code, re.sub(r"\b[0-9a-f]{128}\b", "<token>", text)


def allowed_statuses(route: Route) -> tuple[int, ...]:
    """How a route answers for what does not exist."""
    if route.path.startswith("/keys/"):  # for operators
        return (403, 404)
    return (303, 404) if route.path in REDIRECTS and route.method == "GET" else (404,)


def test_nobody_sees_a_page_without_a_session(site: Site) -> None:
    for route in site.routes:
        address, _ = site.addresses(route)
        response = site.nobody.request(route.method, address)
        assert_headers(response, route)
        if route.path in OPEN:
            assert response.status_code in (200, 403, 404), route
            continue
        assert (response.status_code, response.headers["location"].partition("?")[0]) == (303, "/login"), route
        part = site.nobody.request(route.method, address, headers=PART)
        assert (part.status_code, part.headers["hx-redirect"].partition("?")[0]) == (401, "/login"), route
        for answer in (response, part):
            assert SECRET not in answer.text


def test_an_id_of_another_tenant_is_one_that_nobody_has(site: Site) -> None:
    checked = 0
    for route in site.routes:
        if "{" not in route.path or route.path in SHARED:
            continue
        known, unknown = site.addresses(route)
        answers = []
        for address in (known, unknown):
            body = {"data": {"csrf_token": site.token(site.ours)}} if route.method == "POST" else {}
            response = site.ours.request(route.method, address, **body)
            assert_headers(response, route)
            answers.append(masked(response, *known.split("/"), *unknown.split("/")))
        assert answers[0] == answers[1], route
        assert answers[0][0] in allowed_statuses(route), f"{route} {answers[0]}"
        assert SECRET not in answers[0][1]
        checked += 1
    assert checked > 5


def test_its_owner_can_read_it(site: Site) -> None:
    """So that the tests of the other tenant can fail."""
    for route in site.routes:
        if route.method != "GET" or "{" not in route.path or route.path in SHARED or route.is_endless:
            continue
        known, _ = site.addresses(route)
        browser = site.operator if route.path.startswith("/keys/") else site.theirs
        response = browser.get(known)
        assert response.status_code in (200, 303, 409), f"{route} {response.status_code} {Page(response.text).text}"


def test_lists_show_nothing_of_another_tenant(site: Site) -> None:
    for route in site.routes:
        if route.method != "GET" or "{" in route.path or route.is_endless:
            continue
        for query in ("", "?since=2026-11-01&until=2026-11-30&tenant=other"):
            text = site.ours.get(f"{route.path}{query}").text
            for word in (SECRET, BATCH, SCHEDULE, site.file_id):
                assert word not in text, f"{route} shows {word}"


def test_actions_without_the_token_of_the_session_are_forged(site: Site) -> None:
    fields = {"message": "x", "key": "bm_x", "time": TIME, "code": "model_error"}
    for route in site.routes:
        if route.method == "GET":
            continue
        address, _ = site.addresses(route)
        token = site.token(site.theirs)
        for data, headers in (
            (fields, {}),
            (fields | {"csrf_token": "0" * 64}, {}),
            (fields | {"csrf_token": site.token(site.ours)}, {}),
            (fields | {"csrf_token": token}, {"sec-fetch-site": "cross-site"}),
            (fields, {"x-csrf-token": site.token(site.operator)}),
        ):
            files = {"file": ("a.jsonl", b'{"text": "good"}\n')} if route.path in UPLOADS else None
            response = site.theirs.post(address, data=data, files=files, headers=headers)
            assert response.status_code == 403, f"{route} {data} {headers}: {response.status_code}"
            assert "set-cookie" not in response.headers, route
            assert_headers(response, route)
            assert "form" in Page(response.text).text


def test_no_text_of_a_row_becomes_a_part_of_a_page(site: Site) -> None:
    shown = 0
    for route in site.routes:
        if route.method != "GET" or route.is_endless or route.path in OPEN:
            continue
        address, _ = site.addresses(route)
        for browser in (site.theirs, site.operator):
            for headers in ({}, PART):
                response = browser.get(address, headers=headers)
                assert response.status_code < 500, f"{route}: {response.text}"
                assert_headers(response, route)
                if not response.headers.get("content-type", "").startswith("text/html"):
                    continue
                page = assert_harmless(response.text)
                assert "[31m49" not in page.text  # no template is made of a text
                assert len(page.all("h1")) == (1 if page.all("html") else len(page.all("h1"))), route
                assert len(response.text) < 1_000_000, f"{route} is not bounded"
                shown += "alert(1)" in page.text
    assert shown > 3


def test_pages_change_no_cookie(site: Site) -> None:
    """A cookie that changes ends the forms of other tabs."""
    for route in site.routes:
        if route.method == "GET" and not route.is_endless:
            response = site.theirs.get(site.addresses(route)[0])
            assert "set-cookie" not in response.headers, route
