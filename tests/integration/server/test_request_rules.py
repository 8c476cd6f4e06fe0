"""Rules for every request, over an application with routes of the test's own."""

from collections.abc import AsyncIterator, Iterator

import pytest
import structlog
from fastapi import Request
from pydantic import BaseModel
from starlette.responses import StreamingResponse
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from models.db import Database
from models.errors import Unreachable
from models.pipelines.catalogue import Catalogue
from models.settings import Settings
from producer.server.access import Reader
from producer.server.context import ServerContext
from producer.server.requests import bodies
from producer.server.requests.bodies import StreamedBody
from producer.tenants import keys
from producer.tenants.keys import KeyRequest
from producer.tenants.principal import Scope
from tests.factories.http_server import patient_app

SECRET = "canary-4711"


class Words(BaseModel):
    words: list[str]


def client_of(database: Database, **settings: object) -> TestClient:
    context = ServerContext(Settings.load(**settings), database, Catalogue({}))
    app = patient_app(context, checks_origins=True)

    @app.get("/trial/{name}")
    def trial(name: str, _principal: Reader) -> dict[str, str]:
        if name == "defect":
            raise ValueError(SECRET)
        return {"name": name}

    @app.get("/broken")
    async def break_off() -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"begin"
            raise Unreachable("the database is gone")

        return StreamingResponse(chunks())

    @app.post("/trial/words")
    def count_words(words: Words) -> int:
        return len(words.words)

    @app.post("/trial/stream")
    async def count_bytes(request: Request, _body: StreamedBody) -> int:
        return sum([len(chunk) async for chunk in request.stream()])

    @app.post("/trial/own-stream")
    async def count_own_bytes(request: Request, _principal: Reader, _body: StreamedBody) -> int:
        return sum([len(chunk) async for chunk in request.stream()])

    return TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)


@pytest.fixture
def client(database: Database) -> Iterator[TestClient]:
    with client_of(database) as client:
        yield client


class TestHeaders:
    def test_every_response_has_them(self, client: TestClient) -> None:
        for path in ("/trial/a", "/trial/defect", "/nowhere", "/healthz"):
            headers = client.get(path).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cache-control"] == "no-store"
            assert headers["x-request-id"].startswith("req_")
            assert "access-control-allow-origin" not in headers

    def test_no_two_requests_share_an_id(self, client: TestClient) -> None:
        assert len({client.get("/healthz").headers["x-request-id"] for _ in range(5)}) == 5


class TestDefects:
    def test_end_in_our_shape_without_their_message(self, client: TestClient) -> None:
        with capture_logs() as lines:
            response = client.get("/trial/defect")

        assert response.status_code == 500
        assert response.json()["error"]["code"] == "internal_error"
        assert SECRET not in response.text
        assert [line["event"] for line in lines] == ["request.failed", "request.handled"]
        assert lines[0]["request_id"] == response.headers["x-request-id"]


def test_a_response_that_breaks_off_is_no_defect(client: TestClient) -> None:
    with capture_logs() as lines:
        client.get("/broken")

    assert [line["event"] for line in lines] == ["request.broken_off", "request.handled"]
    assert lines[0]["error_code"] == "unreachable"


def test_the_log_has_the_route_and_no_value(client: TestClient) -> None:
    with capture_logs() as lines:
        client.get(f"/trial/{SECRET}?q={SECRET}", headers={"authorization": f"Bearer {SECRET}"})
        client.get(f"/{SECRET}")

    assert [(line["route"], line["http_status"]) for line in lines] == [("/trial/{name}", 200), (None, 404)]
    assert SECRET not in str(lines)
    assert structlog.get_config()


class TestOrigins:
    def test_a_page_under_another_name_reaches_nothing(self, client: TestClient) -> None:
        response = client.get("/trial/a", headers={"host": "evil.example"})

        assert (response.status_code, response.json()["error"]["code"]) == (403, "foreign_origin")
        assert response.headers["x-content-type-options"] == "nosniff"

    def test_a_page_of_another_origin_reaches_nothing(self, client: TestClient) -> None:
        assert client.post("/trial/words", headers={"origin": "http://evil.example"}).status_code == 403

    def test_with_keys_any_name_will_do(self, database: Database) -> None:
        key = keys.create_key(database, KeyRequest(None, (Scope.READ,))).text
        with client_of(database) as client:
            headers = {"host": "api.example.com", "origin": "https://x.example"}
            assert client.get("/trial/a", headers=headers).status_code == 401
            assert client.get("/trial/a", headers={**headers, "authorization": f"Bearer {key}"}).status_code == 200

    def test_only_named_origins_may_read(self, database: Database) -> None:
        with client_of(database, cors_origins=("https://app.example.com",)) as client:
            allowed = client.get("/trial/a", headers={"origin": "https://app.example.com"})
            refused = client.get("/trial/a", headers={"origin": "https://other.example.com"})
            asked = {"origin": "https://app.example.com", "access-control-request-method": "POST"}
            asked["access-control-request-headers"] = "authorization,x-stainless-lang,range"
            preflight = client.options("/trial/words", headers=asked)
            defect = client.get("/trial/defect", headers={"origin": "https://app.example.com"})

        assert allowed.headers["access-control-allow-origin"] == "https://app.example.com"
        assert refused.status_code == 403
        assert preflight.status_code == 200
        assert "x-stainless-lang" in preflight.headers["access-control-allow-headers"]
        assert (defect.status_code, defect.headers["access-control-allow-origin"]) == (500, "https://app.example.com")


class TestBodies:
    def test_a_large_body_is_refused(self, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bodies, "MAX_BODY_BYTES", 1000)

        whole = client.post("/trial/words", json={"words": ["a" * 1000]})
        chunked = client.post("/trial/words", content=(b"x" * 400 for _ in range(4)))

        for response in (whole, chunked):
            assert (response.status_code, response.json()["error"]["code"]) == (413, "source_too_large")
        assert client.post("/trial/words", json={"words": ["a"]}).json() == 1

    def test_a_stream_may_be_larger(self, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bodies, "MAX_BODY_BYTES", 1000)

        assert client.post("/trial/stream", content=b"x" * 5000).json() == 5000

    def test_few_streams_at_once(self, database: Database) -> None:
        with client_of(database, max_concurrent_uploads=1) as client:
            slots = client.app.state.upload_slots  # type: ignore[attr-defined]
            slots.take()
            refused = client.post("/trial/stream", content=b"x")
            slots.give_back()
            served = [client.post("/trial/stream", content=b"x").status_code for _ in range(3)]

        assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
        assert served == [200, 200, 200]

    def test_a_tenant_has_half_of_the_streams(self, database: Database) -> None:
        key = keys.create_key(database, KeyRequest("one", tuple(Scope))).text
        headers = {"authorization": f"Bearer {key}"}
        with client_of(database, max_concurrent_uploads=4) as client:
            slots = client.app.state.upload_slots  # type: ignore[attr-defined]
            slots.take("one")
            slots.take("other")
            served = client.post("/trial/own-stream", content=b"x", headers=headers)
            slots.take("one")
            refused = client.post("/trial/own-stream", content=b"x", headers=headers)

        assert (served.status_code, refused.status_code) == (200, 429)


def test_a_key_has_a_rate(database: Database) -> None:
    key = keys.create_key(database, KeyRequest(None, (Scope.READ,))).text
    with client_of(database, requests_per_minute=1) as client:
        headers = {"authorization": f"Bearer {key}"}
        first, second = (client.get("/trial/a", headers=headers) for _ in range(2))

    assert first.status_code == 200
    assert (second.status_code, second.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert 0 < int(second.headers["retry-after"]) <= 60


def test_a_large_body_without_a_key_is_refused_before_it_is_received(database: Database) -> None:
    key = keys.create_key(database, KeyRequest("acme", (Scope.READ,))).text

    with client_of(database) as client:
        large = b" " * 10_000
        assert client.post("/trial/words", content=large).status_code == 401
        forged = {"authorization": f"Bearer {key[:-4]}AAAA"}
        assert client.post("/trial/words", content=large, headers=forged).status_code == 401
        assert client.post("/trial/words", content=large, headers={"authorization": f"Bearer {key}"}).status_code == 400
