"""The page of usage, its filters and its CSV."""

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from sqlalchemy import insert
from starlette.testclient import TestClient

from models.db import Database
from models.errors import Unreachable
from models.tables.service import Usage
from producer.server.pages.operations import usage as usage_page
from producer.tenants import usage as reports
from producer.tenants.principal import Scope
from producer.tenants.usage import UsageRow
from tests.factories.hostile import HOSTILE_NAME
from tests.factories.page_clients import Page, assert_harmless, sign_in_as

FORMULA = f"=cmd(){HOSTILE_NAME}"


@pytest.fixture
def usage(database: Database) -> None:
    today = datetime.now(UTC).date()
    rows = [
        {"day": str(today), "tenant": "acme", "pipeline": "reviews", "shard": 0, "succeeded": 900, "failed": 100,
         "tokens": 5000, "padded_tokens": 6000, "device_seconds": 3600.0},
        {"day": str(today - timedelta(days=2)), "tenant": "acme", "pipeline": FORMULA, "shard": 0, "succeeded": 500,
         "failed": 0, "tokens": 0, "padded_tokens": 0, "device_seconds": 0.0},
        {"day": str(today - timedelta(days=60)), "tenant": "other", "pipeline": "old", "shard": 0, "succeeded": 7,
         "failed": 0, "tokens": 1, "padded_tokens": 1, "device_seconds": 1.0},
    ]  # fmt: skip
    with database.write() as connection:
        connection.execute(insert(Usage.__table__), rows)  # type: ignore[arg-type]


def words(browser: TestClient, address: str) -> str:
    response = browser.get(address)
    assert response.status_code == 200
    assert_harmless(response.text)
    return " ".join(Page(response.text.replace("<", " <")).text.split())


@pytest.mark.usefixtures("usage")
def test_sums_and_shares_of_the_last_30_days(browser: TestClient) -> None:
    text = words(browser, "/usage")

    assert "Rows 1,500" in text
    assert "Failed 100 6.7 %" in text
    assert "Device hours 1.00" in text
    assert "reviews 1,000 100 5,000 16.7 % 1.00 66.7 %" in text
    assert "acme 1,500 100 5,000" in text
    assert "other" not in text.split("By tenant")[1], "that was before"


@pytest.mark.usefixtures("usage")
def test_filters_stand_in_the_address(browser: TestClient) -> None:
    assert "other 7 0 1" in words(browser, "/usage?since=90d")
    assert "acme 1,500" not in words(browser, "/usage?since=90d&tenant=other")
    assert "Rows 500" in words(browser, f"/usage?pipeline={quote(FORMULA)}")
    assert "66.7 %" not in words(browser, "/usage?measure=device hours")
    assert "exchange since and until" in words(browser, "/usage?since=2026-11-02&until=2026-11-01")
    assert "yesterday-ish" in words(browser, "/usage?since=yesterday-ish")
    assert "per month" in words(browser, "/usage?since=365d")


def test_without_usage_the_page_says_what_counts(browser: TestClient) -> None:
    assert "Nothing was computed" in words(browser, "/usage")


@pytest.mark.usefixtures("usage")
def test_the_csv_has_all_rows_and_no_formulas(browser: TestClient) -> None:
    response = browser.get("/usage.csv", params={"since": "90d"})
    rows = list(csv.DictReader(io.StringIO(response.text)))

    assert "attachment" in response.headers["content-disposition"]
    assert [row["pipeline"] for row in rows] == ["old", f"'{FORMULA}", "reviews"]
    assert (rows[-1]["succeeded"], rows[-1]["device_seconds"]) == ("900", "3600.0")
    assert browser.get("/usage.csv", params={"since": "yesterday-ish"}).status_code == 400


@pytest.mark.usefixtures("usage")
def test_the_csv_has_more_rows_than_a_report(browser: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_page, "LINES_PER_BLOCK", 3)
    monkeypatch.setattr(reports, "MAX_ROWS", 2)
    monkeypatch.setattr(reports, "PAGE_ROWS", 1)

    rows = csv.DictReader(io.StringIO(browser.get("/usage.csv?since=90d").text))

    assert [row["succeeded"] for row in rows] == ["7", "500", "900"]


def test_a_csv_that_the_database_can_not_begin_is_an_error(
    browser: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> Iterator[UsageRow]:
        raise Unreachable("the database does not answer")
        yield

    monkeypatch.setattr(reports, "iterate_usage", refuse)

    assert browser.get("/usage.csv").status_code == 503


@pytest.mark.usefixtures("usage")
def test_a_tenant_sees_its_usage_alone(browser: TestClient, database: Database) -> None:
    sign_in_as(browser, database, "other", Scope.READ)

    text = words(browser, "/usage?since=90d")

    assert "old 7" in text
    assert "reviews" not in text
    assert "By tenant" not in text
    assert len(browser.get("/usage.csv?since=90d").text.splitlines()) == 2
    addresses = ("/usage", "/usage.csv", "/events/usage")
    assert {browser.get(f"{address}?tenant=acme").status_code for address in addresses} == {404}
