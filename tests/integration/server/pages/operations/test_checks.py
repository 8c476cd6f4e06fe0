"""The pages of the doctor and of audits."""

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from models.db import Database
from producer.health import doctor
from producer.health.findings import Finding
from producer.server.native.operations import checks
from producer.tenants.principal import Scope
from tests.factories.batch_rows import execute, insert_batch
from tests.factories.http_server import app_over
from tests.factories.page_clients import PART, Page, browser_over, sign_in_as
from tests.servers import WAIT_TIMEOUT_SECONDS

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def browser(database: Database, database_url: str) -> Iterator[TestClient]:
    with browser_over(app_over(database, database_url)) as client:
        yield client


def test_the_doctor_comes_at_once_and_loads_its_findings(browser: TestClient) -> None:
    page = Page(browser.get("/doctor").text)

    [loading] = [part for part in page.all("div") if part.get("hx-trigger") == "load"]
    assert loading["hx-get"] == "/doctor/findings"
    part = browser.get("/doctor/findings", headers=PART).text
    assert "<html" not in part
    assert "Problems (" in part, "no Redis answers"


def test_without_scripts_the_findings_are_a_whole_page(browser: TestClient) -> None:
    page = browser.get("/doctor/findings").text

    assert "<html" in page
    assert "Problems (" in page
    assert 'hx-trigger="load"' not in page


def test_findings_are_grouped_with_commands_to_copy(browser: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def find(_settings: Any) -> Iterator[Finding]:
        yield Finding("ok", "version", "1")
        yield Finding("problem", "work", HOSTILE * 500, "start a worker: batchmill up --pipelines x")
        yield Finding("warning", HOSTILE, "odd", HOSTILE)

    monkeypatch.setattr(doctor, "run_checks", find)

    html = browser.get("/doctor/findings").text
    page = Page(html)

    assert [html.index(title) for title in ("Problems (1)", "Warnings (1)", "Fine (1)")] == sorted(
        html.index(title) for title in ("Problems (1)", "Warnings (1)", "Fine (1)")
    )
    assert [button["data-copy"] for button in page.all("button") if "data-copy" in button] == [
        "batchmill up --pipelines x"
    ]
    assert HOSTILE not in html
    assert len(html) < 30_000


def test_a_busy_doctor_says_so(browser: TestClient) -> None:
    permits = [checks._doctors.acquire(timeout=WAIT_TIMEOUT_SECONDS) for _ in range(checks.MAX_DOCTORS)]
    try:
        assert all(permits)
        assert "other checks run now" in browser.get("/doctor/findings", headers=PART).text
    finally:
        for _ in permits:
            checks._doctors.release()


def test_the_doctor_is_for_operators(browser: TestClient, database: Database) -> None:
    sign_in_as(browser, database, "acme", *Scope)
    assert {browser.get(address).status_code for address in ("/doctor", "/doctor/findings")} == {403}

    browser.cookies.clear()
    sign_in_as(browser, database, None, *Scope)
    assert browser.get("/doctor").status_code == 200


def test_an_audit_runs_when_it_is_asked_for(browser: TestClient, database: Database) -> None:
    sound, unsound = (insert_batch(database, 2, name=HOSTILE) for _ in range(2))
    execute(database, f"UPDATE batches SET succeeded = 1 WHERE id = '{unsound}'")

    first = browser.get(f"/batches/{sound}/audit").text
    result = browser.get(f"/batches/{sound}/audit?run=true").text
    part = browser.get(f"/batches/{unsound}/audit?run=true", headers=PART).text

    assert "Audit now" in first
    assert "Nothing is lost" not in first
    assert "Nothing is lost" in result
    assert "problem" in part
    assert "<html" not in part
    assert HOSTILE not in first + result + part


def test_a_batch_of_another_tenant_has_no_audit(browser: TestClient, database: Database) -> None:
    batch_id = insert_batch(database, 2, tenant="other")
    sign_in_as(browser, database, "acme", Scope.READ)

    assert browser.get(f"/batches/{batch_id}/audit?run=true").status_code == 404
