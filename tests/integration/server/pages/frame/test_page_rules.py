"""Rules of all pages, over an application with pages of the test's own: headers, errors, HEAD and messages."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated

import pytest
from fastapi import FastAPI, Query, Request, Response
from starlette.responses import StreamingResponse
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from models.db import Database
from models.errors import IdempotencyConflict, NotFound, TooManyRequests, Unreachable, UsageError
from models.pipelines.catalogue import Catalogue
from models.settings import Settings
from producer.server.context import ServerContext
from producer.server.pages.access.visitor import ActionForm, PageAdmin, PageReader
from producer.server.pages.frame import static_files
from producer.server.pages.frame.headers import HEADERS
from producer.server.pages.frame.rendering import see_other
from producer.server.requests.bodies import MAX_BODY_BYTES
from producer.tenants.principal import Scope
from tests.factories.http_server import patient_app
from tests.factories.page_clients import BROWSER, PART, Page, browser_over, sign_in_as

HOSTILE = '<script>alert("1")</script><img src=x onerror=alert(1)>\u202e\x1b[31m'
ERRORS = {
    "usage": (UsageError(HOSTILE), 400),
    "missing": (NotFound(f"there is no batch {HOSTILE}"), 404),
    "conflict": (IdempotencyConflict("another request has this key"), 409),
    "busy": (TooManyRequests("too many", 7.2), 429),
    "unreachable": (Unreachable("postgresql://secret@host does not answer"), 503),
    "defect": (ValueError(HOSTILE), 500),
}

CHUNKS: list[bytes] = []  # that downloads have made


def app_with_trials(database: Database, **settings: object) -> FastAPI:
    context = ServerContext(Settings.load(**settings), database, Catalogue({}))
    app = patient_app(context, checks_origins=True)

    @app.get("/trial/{name}")
    def fail(name: str) -> None:
        raise ERRORS[name][0]

    @app.get("/count")
    def count(number: Annotated[int, Query()], _visitor: PageReader) -> Response:
        return Response(str(number))

    @app.post("/act")
    def act(request: Request, visitor: PageReader, form: ActionForm) -> Response:
        return see_other(request, visitor, "/batches", str(form["message"]), "warn")

    @app.get("/download")
    async def download() -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(5):
                CHUNKS.append(b"row")
                yield b"row"

        return StreamingResponse(chunks(), media_type="text/csv")

    @app.get("/admin")
    def administrate(_visitor: PageAdmin) -> None:
        return None

    return app


@pytest.fixture
def app(database: Database, tmp_path: Path) -> FastAPI:
    return app_with_trials(database, home=tmp_path)


@pytest.fixture
def browser(app: FastAPI) -> Iterator[TestClient]:
    with browser_over(app) as client:
        yield client


def assert_page_headers(response: Response) -> None:
    for name, value in HEADERS.items():
        if name != "cache-control":
            assert response.headers[name] == value, name
    assert response.headers["x-request-id"].startswith("req_")
    assert "strict-transport-security" not in response.headers


def assert_harmless(html: str) -> Page:
    page = Page(html)
    assert {script.get("src", "").partition("?")[0] for script in page.all("script")} <= {
        "/static/htmx-4.0.1.min.js",
        "/static/app.js",
    }
    assert all(not name.startswith("on") and name != "style" for _, fields in page.elements for name in fields)
    assert all(image["src"].startswith("/static/") for image in page.all("img"))
    return page


class TestErrors:
    @pytest.mark.parametrize("name", sorted(ERRORS))
    def test_are_pages(self, browser: TestClient, name: str) -> None:
        response = browser.get(f"/trial/{name}")

        page = assert_harmless(response.text)
        assert response.status_code == ERRORS[name][1]
        assert response.headers["content-type"] == "text/html; charset=utf-8"
        assert_page_headers(response)
        assert len(page.all("h1")) == 1
        assert "secret" not in response.text
        assert ("refresh" in response.headers) is (name == "unreachable")
        if name in ("usage", "missing"):
            assert HOSTILE.replace("\x1b", "\x1b") in page.text or "alert" in page.text
        if name == "busy":
            assert "Try again in 8" in page.text
        if name == "defect":
            assert "alert" not in page.text
            assert response.headers["x-request-id"] in page.text

    @pytest.mark.parametrize("name", sorted(ERRORS))
    def test_are_notices_where_htmx_asked_for_a_part(self, browser: TestClient, name: str) -> None:
        response = browser.get(f"/trial/{name}", headers=PART)

        page = assert_harmless(response.text)
        assert response.status_code == ERRORS[name][1]
        assert (response.headers["hx-retarget"], response.headers["hx-reswap"]) == ("#notices", "innerHTML")
        assert not page.all("html")
        assert [fields for _, fields in page.elements if fields.get("role") == "alert"]
        assert "refresh" not in response.headers

    def test_stay_in_the_dialog_that_asked(self, browser: TestClient) -> None:
        response = browser.get("/trial/missing", headers=PART | {"hx-target": "dialog#dialog"})

        assert "hx-retarget" not in response.headers

    def test_are_whole_pages_when_one_goes_back(self, browser: TestClient) -> None:
        headers = {"hx-request": "true", "hx-request-type": "full", "hx-history-restore-request": "true"}

        assert Page(browser.get("/trial/missing", headers=headers).text).all("html")

    def test_are_json_for_programs(self, browser: TestClient) -> None:
        for path in ("/trial/missing", "/nowhere"):
            response = browser.get(path, headers={"accept": "*/*"})
            assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")

    def test_of_the_api_are_json_for_everybody(self, browser: TestClient) -> None:
        for path in ("/api/batches/none", "/v1/batches/none", "/v1/", "/api/nowhere"):
            response = browser.get(path)
            assert response.status_code == 404, path
            assert response.json()["error"]["message"]
            assert "content-security-policy" not in response.headers

    def test_of_addresses_that_do_not_exist(self, browser: TestClient) -> None:
        browser.get("/")
        for path in ("/nowhere", "/batches/a/b/c/d", f"/{'x' * 1000}", "/apix", "/%3Cscript%3E"):
            page = assert_harmless(browser.get(path).text)
            assert "There is no page at this address" in page.text
            assert {"href": "/batches"} in [{"href": link["href"]} for link in page.all("a")]

    def test_of_methods_and_fields(self, browser: TestClient) -> None:
        wrong_method, wrong_field = browser.get("/act"), browser.get("/count?number=<script>")

        assert (wrong_method.status_code, wrong_method.headers["allow"]) == (405, "POST")
        assert "use the form" in assert_harmless(wrong_method.text).text
        assert wrong_field.status_code == 400
        assert "number" in assert_harmless(wrong_field.text).text

    def test_of_bodies_that_are_too_large(self, browser: TestClient) -> None:
        response = browser.post("/act", data={"message": "x" * MAX_BODY_BYTES})

        assert response.status_code == 413
        assert "Too large" in assert_harmless(response.text).text

    def test_link_back_to_the_page_before(self, browser: TestClient) -> None:
        links = Page(browser.post("/act", headers={"referer": "http://127.0.0.1:8000/batches/x"}).text).all("a")

        assert "/batches/x" in [link["href"] for link in links]

    def test_of_scopes(self, browser: TestClient, database: Database) -> None:
        sign_in_as(browser, database, "acme", Scope.READ)
        response = browser.get("/admin")

        page = assert_harmless(response.text)
        assert response.status_code == 403
        assert "lacks the scope admin" in page.text
        assert "acme" in page.text  # the menu stays


class TestHosts:
    def test_a_foreign_host_gets_a_page(self, browser: TestClient) -> None:
        response = browser.get("/", headers={"host": "evil.example"})

        assert response.status_code == 403
        assert "127.0.0.1" in assert_harmless(response.text).text
        assert_page_headers(response)

    def test_a_name_is_served_once_there_are_keys(self, browser: TestClient, database: Database) -> None:
        sign_in_as(browser, database, "acme")

        assert browser.get("/login", headers={"host": "batchmill.example"}).status_code == 200


class TestHeaders:
    @pytest.mark.parametrize("path", ["/", "/batches", "/login", "/nowhere", "/static/app.css", "/static/none"])
    def test_every_answer_has_them(self, browser: TestClient, path: str) -> None:
        assert_page_headers(browser.get(path))

    def test_pages_are_not_kept_and_files_are(self, browser: TestClient) -> None:
        assert browser.get("/").headers["cache-control"] == "no-store"
        assert browser.get("/nowhere").headers["cache-control"] == "no-store"
        assert "immutable" in browser.get(static_files.address("app.js")).headers["cache-control"]
        for path in ("/static/app.js", "/static/app.js?v=0123456789abcdef", "/favicon.ico"):
            assert browser.get(path).headers["cache-control"] == "public, max-age=86400"

    def test_over_tls_browsers_are_kept_there(self, app: FastAPI) -> None:
        with TestClient(app, base_url="https://127.0.0.1:8000", headers=BROWSER) as browser:
            response = browser.get("/")

        assert response.headers["strict-transport-security"].startswith("max-age=")
        assert response.headers["set-cookie"].startswith("__Host-batchmill_form_8000=")
        assert "secure" in response.headers["set-cookie"].lower()

    def test_head_has_the_headers_of_get_and_no_body(self, browser: TestClient) -> None:
        for path in ("/", "/batches", "/login", "/nowhere", "/static/app.css"):
            got, head = browser.get(path), browser.head(path)
            assert (head.status_code, head.content) == (got.status_code, b"")
            assert head.headers.get("content-type") == got.headers.get("content-type")

    def test_head_of_a_download_does_not_make_it(self, browser: TestClient) -> None:
        CHUNKS.clear()
        response = browser.head("/download")

        assert (response.status_code, response.content) == (200, b"")
        assert response.headers["content-type"].startswith("text/csv")
        assert len(CHUNKS) < 5

    def test_icon_and_robots(self, browser: TestClient) -> None:
        assert browser.get("/favicon.ico").headers["content-type"] == "image/svg+xml"
        assert "Disallow: /" in browser.get("/robots.txt").text


class TestMessages:
    def act(self, browser: TestClient, message: str, **headers: str) -> Response:
        token = Page(browser.get("/").text).csrf_token
        return browser.post("/act", data={"csrf_token": token, "message": message}, headers=headers)

    def test_are_shown_once(self, browser: TestClient) -> None:
        answer = self.act(browser, HOSTILE)
        with_message, without = browser.get(answer.headers["location"]), browser.get("/batches")

        assert (answer.status_code, answer.headers["location"]) == (303, "/batches")
        assert "alert(" in assert_harmless(with_message.text).text
        assert [fields for _, fields in Page(with_message.text).elements if fields.get("class") == "notice warn"]
        assert "alert(" not in without.text

    def test_wait_for_a_whole_page(self, browser: TestClient) -> None:
        answer = self.act(browser, "412 jobs wait again", **PART)
        part, page = browser.get("/trial/missing", headers=PART), browser.get("/batches")

        assert (answer.status_code, answer.headers["hx-redirect"]) == (200, "/batches")
        assert "412 jobs" not in part.text
        assert "412 jobs wait again" in page.text

    def test_of_another_session_are_not_shown(self, browser: TestClient) -> None:
        self.act(browser, "412 jobs wait again")
        browser.cookies.delete("batchmill_form_8000")

        assert "412 jobs" not in browser.get("/batches").text

    def test_actions_without_the_token_do_nothing(self, browser: TestClient) -> None:
        token = Page(browser.get("/").text).csrf_token
        fields = {"csrf_token": token, "message": "done"}
        for data, headers in (
            ({"message": "done"}, {}),
            ({**fields, "csrf_token": "0" * 64}, {}),
            ({**fields, "csrf_token": ""}, {}),
            (fields, {"sec-fetch-site": "cross-site"}),
            (fields, {"sec-fetch-site": "same-site"}),
            (fields, {"x-csrf-token": "0" * 64}),
        ):
            response = browser.post("/act", data=data, headers=headers)
            assert response.status_code == 403
            assert "repeat the action" in assert_harmless(response.text).text


def test_an_outage_has_a_page_with_its_style(app: FastAPI, browser: TestClient) -> None:
    app.state.database_watch.out_since = 1.0

    page, style, part = browser.get("/"), browser.get("/static/app.css"), browser.get("/", headers=PART)

    assert (page.status_code, part.status_code, style.status_code) == (503, 503, 200)
    assert int(page.headers["refresh"]) > 0
    assert int(page.headers["retry-after"]) > 0
    assert "refresh" not in part.headers
    assert "does not answer" in assert_harmless(page.text).text
    assert "/static/app.css" in page.text


def test_only_a_page_that_comes_again_says_so(app: FastAPI, browser: TestClient) -> None:
    app.state.database_watch.out_since = 1.0

    page, part, act = browser.get("/"), browser.get("/", headers=PART), browser.post("/act", data={"message": "x"})

    assert "tries again by itself" in page.text
    for answer in (part, act):
        assert answer.status_code == 503
        assert "refresh" not in answer.headers
        assert "tries again by itself" not in answer.text
        assert "Nothing was done. Try again in a few seconds." in answer.text


def test_routes_and_keys_are_in_the_log(browser: TestClient) -> None:
    with capture_logs() as lines:
        browser.get("/trial/missing?secret=1")

    [handled] = [line for line in lines if line["event"] == "request.handled"]
    assert (handled["route"], handled["http_status"]) == ("/trial/{name}", 404)
    assert "secret" not in str(lines)
