"""The page of API keys: what it shows, and how a key is revoked."""

from starlette.testclient import TestClient

from models.db import Database
from producer.tenants import keys
from producer.tenants.keys import KeyRequest
from producer.tenants.principal import Scope
from tests.factories.hostile import SCRIPT, assert_shown_as_text
from tests.factories.page_clients import PART, Page, sign_in_as


def test_without_keys_the_page_says_how_to_make_one(browser: TestClient) -> None:
    assert "batchmill keys create --tenant NAME" in browser.get("/keys").text


def test_keys_are_listed_without_their_secrets(browser: TestClient, database: Database) -> None:
    new_key = keys.create_key(database, KeyRequest("acme", (Scope.READ,), f'{SCRIPT} "quoted"'))
    sign_in_as(browser, database, None, *Scope)

    html = browser.get("/keys").text

    assert new_key.view.id in html
    assert new_key.text.rsplit("_", 1)[1] not in html
    assert_shown_as_text(html)
    assert_shown_as_text(browser.get(f"/keys/{new_key.view.id}/revoke").text)
    assert html.count("<code>") == 2
    assert browser.get("/keys?tenant=acme").text.count("<code>") == 1
    assert "No key fits" in browser.get("/keys?state=revoked").text


def test_a_key_is_revoked_after_a_confirmation(browser: TestClient, database: Database) -> None:
    view = keys.create_key(database, KeyRequest("acme", (Scope.READ,))).view
    token = sign_in_as(browser, database, None, *Scope)
    address = f"/keys/{view.id}/revoke"

    assert "acme" in browser.get(address).text
    assert "<html" not in browser.get(address, headers=PART).text
    assert browser.post(address).status_code == 403
    assert [key.state for key in keys.list_keys(database, "acme")] == ["active"]

    assert browser.post(address, data={"csrf_token": token}).headers["location"] == "/keys"

    assert [key.state for key in keys.list_keys(database, "acme")] == ["revoked"]
    assert f"The key {view.id} is revoked." in Page(browser.get("/keys").text).text
    assert browser.get("/keys/unknown/revoke").status_code == 404


def test_keys_are_for_operators(browser: TestClient, database: Database) -> None:
    view = keys.create_key(database, KeyRequest("acme", (Scope.READ,))).view
    token = sign_in_as(browser, database, "acme", *Scope)

    assert browser.get("/keys").status_code == 403
    assert browser.post(f"/keys/{view.id}/revoke", data={"csrf_token": token}).status_code == 403
    assert [key.state for key in keys.list_keys(database, "acme")] == ["active", "active"]
