"""The files of a tenant, and who may submit them."""

import pytest

from models.db import Database
from producer.batches import views
from producer.tenants.principal import Scope
from tests.factories.http_server import app_over
from tests.factories.page_clients import browser_over, csrf_token, sign_in_as
from tests.factories.submit_pages import CSV, batch_of, count, form_of, hidden, submit, uploaded


def test_the_files_of_others_do_not_exist(database: Database, database_url: str) -> None:
    app = app_over(database, database_url)
    with browser_over(app) as browser, browser_over(app) as others:
        sign_in_as(browser, database, "acme")
        sign_in_as(others, database, "beta")
        address = uploaded(browser).partition("?")[0]
        form = {**form_of(browser.get(address).text), "column.text": "review"}
        stolen = {**form, "csrf_token": csrf_token(others)}

        assert "reviews.csv" in browser.get("/submit/files").text
        assert "reviews.csv" not in others.get("/submit/files").text
        for path in (address, f"{address}/delete"):
            assert others.get(path).status_code == 404
            assert others.post(path, data=stolen).status_code == 404
            assert others.post(path, data=form).status_code == 403  # the token of another session
        assert others.post(f"{address}/check", data=stolen).status_code == 404

        batch = views.get_batch(database, batch_of(browser.post(address, data=form)))
        assert batch.tenant == "acme"


def test_a_key_that_only_reads_submits_nothing(database: Database, database_url: str) -> None:
    with browser_over(app_over(database, database_url)) as browser:
        sign_in_as(browser, database, "acme", Scope.READ)

        assert browser.get("/submit/files").status_code == 200
        assert browser.get("/submit").status_code == 403
        headers = {"x-csrf-token": hidden(browser.get("/submit/files").text, "csrf_token")}
        assert browser.post("/submit/files", files={"file": ("a.csv", CSV)}, headers=headers).status_code == 403
    assert count(database, "files") == 0


@pytest.mark.parametrize(("scopes", "is_led"), [((Scope.READ,), False), ((Scope.READ, Scope.SUBMIT), True)])
def test_only_who_may_submit_is_led_there(
    database: Database, database_url: str, scopes: tuple[Scope, ...], is_led: bool
) -> None:
    with browser_over(app_over(database, database_url)) as browser:
        sign_in_as(browser, database, "acme", *scopes)

        for address in ("/", "/batches", "/pipelines", "/usage", "/submit/files"):
            assert ('href="/submit"' in browser.get(address).text) == is_led


def test_the_operator_submits_for_the_tenant_of_the_file(database: Database, database_url: str) -> None:
    app = app_over(database, database_url)
    with browser_over(app) as browser, browser_over(app) as operator:
        sign_in_as(browser, database, "acme")
        sign_in_as(operator, database, None)

        response = submit(operator, uploaded(browser))

        assert views.get_batch(database, batch_of(response)).tenant == "acme"
