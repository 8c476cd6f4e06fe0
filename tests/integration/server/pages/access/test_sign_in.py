"""Signing in and out, with a client that behaves like a browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from models.db import Database
from producer.server.pages.access.guesses import MAX_OF_ADDRESS, GuessLimit
from producer.server.requests.rates import RateLimit
from producer.tenants import keys
from producer.tenants.keys import KeyRequest, NewKey
from producer.tenants.principal import Scope
from tests.factories.http_server import app_over
from tests.factories.page_clients import BROWSER, PART, Page, browser_over, csrf_token, sign_in
from tests.servers import WAIT_TIMEOUT_SECONDS

COOKIE, FORM_COOKIE = "batchmill_session_8000", "batchmill_form_8000"
WRONG_KEYS = ("", "   ", "bm_0123456789abcdef_" + "x" * 43, "<script>alert(1)</script>", "é" * 150)


@pytest.fixture
def key(database: Database) -> NewKey:
    return keys.create_key(database, KeyRequest("acme", tuple(Scope)))


@pytest.fixture
def app(database: Database, database_url: str, tmp_path: Path) -> FastAPI:
    app = app_over(database, database_url, home=tmp_path)
    app.state.guess_limit = GuessLimit(lambda: 0.0)  # however long a busy machine takes, no window ends
    return app


@pytest.fixture
def browser(app: FastAPI, key: NewKey) -> Iterator[TestClient]:
    with browser_over(app) as client:
        yield client


def with_session(token: str) -> dict[str, str]:
    return {"cookie": f"{COOKIE}={token}"}


def form_token(browser: TestClient) -> str:
    return Page(browser.get("/login").text).csrf_token


class TestWithoutASession:
    def test_a_page_leads_to_the_form_and_back(self, browser: TestClient, key: NewKey) -> None:
        sent_away = browser.get("/batches?status=failed")
        address = sent_away.headers["location"]
        token = Page(browser.get(address).text).csrf_token
        answer = browser.post(address, data={"csrf_token": token, "key": f" {key.text}\n"})

        assert (sent_away.status_code, address) == (303, "/login?next=%2Fbatches%3Fstatus%3Dfailed")
        assert (answer.status_code, answer.headers["location"]) == (303, "/batches?status=failed")
        assert browser.get("/batches?status=failed").status_code == 200

    @pytest.mark.parametrize("address", ["//evil.example", "https://evil.example", "/\\evil.example", "/\t/evil"])
    def test_nobody_is_led_elsewhere(self, browser: TestClient, key: NewKey, address: str) -> None:
        assert sign_in(browser, key.text, address).headers["location"] == "/"

    def test_a_part_lets_htmx_load_the_form(self, browser: TestClient) -> None:
        current = {"hx-current-url": "http://127.0.0.1:8000/batches?after=1"}
        answer = browser.get("/batches", headers=PART | current)

        assert answer.status_code == 401
        assert answer.headers["hx-redirect"] == "/login?next=%2Fbatches%3Fafter%3D1"

    def test_an_action_leads_to_the_form_and_back_to_its_page(self, browser: TestClient) -> None:
        answer = browser.post("/logout", headers={"referer": "http://127.0.0.1:8000/batches/x"})

        assert answer.headers["location"] == "/login?next=%2Fbatches%2Fx"

    def test_a_link_elsewhere_is_loaded_again_with_the_cookie(self, browser: TestClient, key: NewKey) -> None:
        """Given a link in a chat: browsers send no cookie that is for this site alone."""
        sign_in(browser, key.text)
        session = browser.cookies[COOKIE]
        browser.cookies.clear()

        for path in ("/batches?status=failed", "/login"):
            answer = browser.get(path, headers={"sec-fetch-site": "cross-site"})
            assert (answer.status_code, answer.headers["refresh"]) == (200, f"0; url={path}")
            assert "set-cookie" not in answer.headers  # which would end the session

        assert browser.get("/batches", headers=with_session(session)).status_code == 200

    def test_a_link_elsewhere_over_plain_http_leads_through_the_form(self, browser: TestClient, key: NewKey) -> None:
        """Given a host to which browsers send no Sec-Fetch-Site, so that nobody knows where a link is."""
        del browser.headers["sec-fetch-site"]
        sign_in(browser, key.text)
        session = browser.cookies[COOKIE]
        browser.cookies.clear()

        linked = browser.get("/batches?status=failed")
        form = "/login?next=%2Fbatches%3Fstatus%3Dfailed"
        typed = browser.get(form)
        again = browser.get(form, headers=with_session(session))
        own = browser.get("/batches", headers={"referer": "http://127.0.0.1:8000/"})

        assert (linked.status_code, linked.headers["refresh"]) == (200, f"0; url={form}")
        assert "set-cookie" not in linked.headers
        assert typed.status_code == 200  # who has no cookies is not sent round for ever
        assert COOKIE not in typed.headers["set-cookie"]
        assert again.headers["location"] == "/batches?status=failed"
        assert (own.status_code, own.headers["location"]) == (303, "/login?next=%2Fbatches")

    def test_an_action_says_that_nothing_was_done(self, browser: TestClient) -> None:
        sent_away = browser.post("/batches/x/cancel", headers={"referer": "http://127.0.0.1:8000/batches/x"})
        forged = browser.post("/batches/x/cancel", headers={"sec-fetch-site": "cross-site"})

        assert "Nothing was done" in Page(browser.get(sent_away.headers["location"]).text).text
        assert (forged.status_code, "another site" in Page(forged.text).text) == (403, True)
        assert "set-cookie" not in forged.headers

    def test_a_program_gets_an_error_to_read(self, browser: TestClient) -> None:
        answer = browser.get("/batches", headers={"accept": "*/*"})

        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")

    def test_a_large_body_is_refused_before_it_is_read(self, app: FastAPI, browser: TestClient) -> None:
        read = []

        def body() -> Iterator[bytes]:
            read.append(1)
            yield b"x" * 100_000

        answer = browser.post("/submit/files", content=body(), headers={"content-type": "multipart/form-data"})

        assert (answer.status_code, answer.headers["location"]) == (303, "/login")


class TestTheForm:
    def test_explains_where_keys_come_from_and_can_be_filled_in(self, browser: TestClient) -> None:
        page = Page(browser.get("/login").text)

        [field] = [field for field in page.all("input") if field.get("name") == "key"]
        assert (field["type"], field["autocomplete"], field["id"]) == ("password", "current-password", "key")
        assert {"for": "key"} in page.all("label")
        assert "batchmill keys create" in page.text
        assert not [fields for _, fields in page.elements if "data-live-pulse" in fields]  # which would end in a 401

    @pytest.mark.parametrize(
        "wrong", ["", "   ", f"bm_0123456789abcdef_{'x' * 43}", "<script>alert(1)</script>", "é" * 150]
    )
    def test_a_wrong_key_is_explained_beside_the_field_and_never_repeated(
        self, browser: TestClient, wrong: str
    ) -> None:
        answer = sign_in(browser, wrong, "/batches")

        page = Page(answer.text)
        [field] = [field for field in page.all("input") if field.get("name") == "key"]
        assert answer.status_code == 401
        assert (field["aria-invalid"], field["aria-describedby"]) == ("true", "key-error")
        assert any(attributes.get("id") == "key-error" for _, attributes in page.elements)
        assert "value" not in field
        assert not wrong.strip() or wrong not in page.text
        assert any(form.get("action") == "/login?next=%2Fbatches" for form in page.all("form"))

    def test_a_key_that_may_not_read_is_explained(self, browser: TestClient, database: Database) -> None:
        answer = sign_in(browser, keys.create_key(database, KeyRequest("acme", (Scope.SUBMIT,))).text)

        assert answer.status_code == 403
        assert "lacks the scope read" in Page(answer.text).text

    def test_a_revoked_key_is_explained(self, browser: TestClient, database: Database, key: NewKey) -> None:
        keys.revoke_key(database, key.view.id)

        assert "was revoked" in Page(sign_in(browser, key.text).text).text

    def test_guesses_are_limited(self, browser: TestClient, key: NewKey) -> None:
        token = form_token(browser)
        answers = [
            browser.post("/login", data={"csrf_token": token, "key": "bm_wrong"}) for _ in range(MAX_OF_ADDRESS + 1)
        ]
        right = browser.post("/login", data={"csrf_token": token, "key": key.text})

        assert {answer.status_code for answer in answers[:-1]} == {401}
        assert answers[-1].status_code == 429
        assert 0 < int(answers[-1].headers["retry-after"]) <= 60
        assert "too many wrong keys" in Page(answers[-1].text).text.lower()
        assert right.status_code == 303  # somebody else behind the same proxy

    def test_a_forged_one_signs_nobody_in(self, browser: TestClient, key: NewKey) -> None:
        token = form_token(browser)
        for fields, headers in (
            ({"key": key.text}, {}),
            ({"key": key.text, "csrf_token": "0" * 64}, {}),
            ({"key": key.text, "csrf_token": token}, {"sec-fetch-site": "cross-site"}),
        ):
            answer = browser.post("/login", data=fields, headers=headers)
            assert answer.status_code == 403
            assert "set-cookie" not in answer.headers
            assert browser.get("/").status_code == 303

    def test_one_of_another_site_ends_no_session(self, browser: TestClient, key: NewKey) -> None:
        """Given a browser, which sends no cookies with such a form, and takes those of the answer."""
        for headers in ({"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "", "origin": "http://evil.example"}):
            answer = browser.post("/login", data={"key": key.text}, headers=headers)
            assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)

    def test_a_browser_without_cookies_is_asked_for_them(self, browser: TestClient, key: NewKey) -> None:
        answer = browser.post("/login", data={"key": key.text, "csrf_token": "0" * 64})

        assert answer.status_code == 400
        assert "allow cookies" in Page(answer.text).text


class TestASession:
    def test_has_a_new_token_that_only_its_browser_has(self, browser: TestClient, key: NewKey) -> None:
        form_token(browser)
        before = browser.cookies[FORM_COOKIE]
        answer = sign_in(browser, key.text)

        assert browser.cookies[COOKIE] != before
        attributes = answer.headers["set-cookie"].lower()
        assert "httponly" in attributes
        assert "samesite=strict" in attributes
        assert "path=/" in attributes
        assert browser.cookies[COOKIE] not in browser.get("/").text

    def test_a_token_from_before_is_no_session(self, browser: TestClient, key: NewKey) -> None:
        browser.cookies.set(COOKIE, "fixed-by-somebody-else", domain="127.0.0.1")
        sign_in(browser, key.text)

        assert browser.get("/").status_code == 200
        assert browser.cookies[COOKIE] != "fixed-by-somebody-else"
        browser.cookies.clear()
        assert browser.get("/", headers=with_session("fixed-by-somebody-else")).status_code == 303

    def test_shows_whose_it_is(self, browser: TestClient, key: NewKey) -> None:
        sign_in(browser, key.text)

        text = " ".join(Page(browser.get("/").text).text.split())
        assert "acme may admin, read, submit" in text
        assert "Sign out" in text

    @pytest.mark.parametrize(
        ("tenant", "scopes", "has", "has_not"),
        [
            ("acme", (Scope.READ,), {"/batches"}, {"/workers", "/doctor", "/keys"}),
            ("acme", tuple(Scope), {"/batches"}, {"/workers", "/doctor", "/keys"}),
            (None, (Scope.READ,), {"/usage"}, {"/workers", "/doctor", "/keys"}),
            (None, tuple(Scope), {"/workers", "/doctor", "/keys"}, set()),
        ],
    )
    def test_has_a_menu_of_the_pages_that_open(
        self,
        browser: TestClient,
        database: Database,
        tenant: str | None,
        scopes: tuple[Scope, ...],
        has: set[str],
        has_not: set[str],
    ) -> None:
        sign_in(browser, keys.create_key(database, KeyRequest(tenant, scopes)).text)

        links = {link["href"] for link in Page(browser.get("/").text).all("a")}
        assert has <= links
        assert not has_not & links
        assert all(browser.get(path).status_code == 200 for path in has)
        assert all(browser.get(path).status_code == 403 for path in has_not)

    def test_signing_in_again_ends_the_session_before(self, browser: TestClient, key: NewKey) -> None:
        token = form_token(browser)
        sign_in(browser, key.text)
        first = browser.cookies[COOKIE]
        browser.post("/login", data={"csrf_token": token, "key": key.text})

        assert browser.cookies[COOKIE] != first
        assert browser.get("/").status_code == 200
        browser.cookies.clear()
        assert browser.get("/", headers=with_session(first)).status_code == 303

    def test_who_has_one_needs_no_form(self, browser: TestClient, key: NewKey) -> None:
        sign_in(browser, key.text)

        answer = browser.get("/login?next=/batches")
        assert (answer.status_code, answer.headers["location"]) == (303, "/batches")

    def test_ends_when_its_user_signs_out(self, browser: TestClient, key: NewKey) -> None:
        sign_in(browser, key.text)
        token, session = csrf_token(browser), browser.cookies[COOKIE]

        assert browser.post("/logout").status_code == 403
        assert browser.post("/logout", data={"csrf_token": "0" * 64}).status_code == 403
        assert browser.get("/").status_code == 200
        answer = browser.post("/logout", data={"csrf_token": token})

        assert (answer.status_code, answer.headers["location"]) == (303, "/login")
        assert COOKIE not in browser.cookies
        assert browser.get("/", headers=with_session(session)).status_code == 303

    def test_ends_with_its_key(self, app: FastAPI, browser: TestClient, database: Database, key: NewKey) -> None:
        sign_in(browser, key.text)
        assert browser.get("/").status_code == 200

        keys.revoke_key(database, key.view.id)
        app.state.context.authenticator._sessions._remembered.clear()  # five seconds later

        assert browser.get("/").headers["location"] == "/login"

    def test_opens_no_api(self, browser: TestClient, key: NewKey) -> None:
        sign_in(browser, key.text)
        session = browser.cookies[COOKIE]

        for path in ("/api/batches", "/v1/batches"):
            assert browser.get(path).status_code == 401
            assert browser.get(path, headers={"authorization": f"Bearer {session}"}).status_code == 401

    def test_a_key_opens_no_page(self, browser: TestClient, key: NewKey) -> None:
        assert browser.get("/batches", headers={"authorization": f"Bearer {key.text}"}).status_code == 303

    def test_costs_no_query_within_seconds(
        self, browser: TestClient, key: NewKey, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("producer.tenants.authentication.REMEMBER_SECONDS", WAIT_TIMEOUT_SECONDS)
        sign_in(browser, key.text)
        browser.get("/")
        monkeypatch.setattr("producer.tenants.sessions.verify_session", None)

        assert browser.get("/").status_code == 200

    def test_counts_as_its_key(self, database: Database, database_url: str, tmp_path: Path, key: NewKey) -> None:
        app = app_over(database, database_url, home=tmp_path)
        app.state.rate_limit = RateLimit(1, lambda: 0.0)  # one may come at once, and no other ever
        with browser_over(app) as browser:
            sign_in(browser, key.text)
            answers = [browser.get("/") for _ in range(3)]

        assert [answer.status_code for answer in answers][:1] == [200]
        assert answers[-1].status_code == 429
        assert int(answers[-1].headers["retry-after"]) > 0
        assert "requests a minute" in Page(answers[-1].text).text

    def test_is_logged_without_its_token_and_its_key(self, browser: TestClient, key: NewKey) -> None:
        with capture_logs() as lines:
            sign_in(browser, "bm_wrong")
            sign_in(browser, key.text)
            browser.post("/logout", data={"csrf_token": csrf_token(browser)})

        events = [line["event"] for line in lines if line["event"].startswith("session.")]
        assert events == ["session.refused", "session.started", "session.ended"]
        assert key.text not in str(lines)
        assert key.text[20:] not in str(lines)
        assert {line.get("key_id") for line in lines} == {None, key.view.id}


class TestWithoutKeys:
    def test_everybody_is_the_operator(self, app: FastAPI) -> None:
        with browser_over(app) as browser:
            page = Page(browser.get("/").text)
            again = browser.get("/")
            answer = browser.get("/login?next=/batches")

        assert "No API keys" in page.text
        assert FORM_COOKIE in browser.cookies
        assert "set-cookie" not in again.headers  # one cookie, so that forms in other tabs stay valid
        assert (answer.status_code, answer.headers["location"]) == (303, "/batches")

    def test_an_error_changes_no_cookie(self, app: FastAPI) -> None:
        """Otherwise a link or a form of another site would end the forms of all tabs."""
        with browser_over(app) as browser:
            answers = [
                browser.get("/nope"),
                browser.post("/submit/example", headers={"sec-fetch-site": "cross-site"}),
                browser.post("/submit/example", headers={"sec-fetch-site": "cross-site"} | PART),
                browser.get("/batches", headers={"sec-fetch-site": "cross-site"}),
            ]

        assert [answer.status_code for answer in answers] == [404, 403, 403, 200]
        assert not [answer for answer in answers if "set-cookie" in answer.headers]

    def test_the_first_key_closes_the_pages(self, app: FastAPI, database: Database) -> None:
        with browser_over(app) as browser:
            assert browser.get("/").status_code == 200
            keys.create_key(database, KeyRequest("acme", tuple(Scope)))
            app.state.context.authenticator._open_until = 0.0  # five seconds later
            assert browser.get("/", headers=BROWSER).status_code == 303
