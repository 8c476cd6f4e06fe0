"""Requests to a server that fails, is slow to start, or is none of Batchmill's."""

import tempfile
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from models.errors import (
    BatchmillError,
    InvalidRows,
    NotFound,
    TooManyJobs,
    TooManyRequests,
    Unauthorized,
    UnknownPipeline,
    Unreachable,
    UsageError,
)
from producer.remote.address import ServerAddress
from producer.remote.batch import RemoteBatch
from producer.remote.errors import AnswerLost
from producer.remote.exports import Download
from producer.remote.http import ServerHttp
from producer.remote.retrying import REPEAT_UNSENT

KEY = "bm_canary_key"
Handler = Callable[[httpx2.Request], httpx2.Response]


def error(status: int, code: str | None, message: str = "a sentence", **headers: str) -> httpx2.Response:
    document = {"error": {"message": message, "type": "server_error", "param": None, "code": code}}
    return httpx2.Response(
        status, json=document, headers={name.replace("_", "-"): text for name, text in headers.items()}
    )


class Server:
    """Answers each request with the next of its answers, and the last one again and again."""

    def __init__(self, *answers: httpx2.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx2.Request] = []
        self.pauses: list[float] = []
        address = ServerAddress("https://batchmill.example", KEY)
        self.now = 0.0
        self.http = ServerHttp(address, clock=self, transport=httpx2.MockTransport(self._answer))

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float, /) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


OK = httpx2.Response(200, json={"id": "batch_1"})


@pytest.mark.parametrize(
    ("response", "kind", "code"),
    [
        (error(404, "not_found"), NotFound, "not_found"),
        (error(401, "invalid_api_key"), Unauthorized, "invalid_api_key"),
        (error(400, "unknown_pipeline"), UnknownPipeline, "unknown_pipeline"),
        (error(400, "invalid_request"), UsageError, "invalid_request"),
        (error(413, "of_a_later_version"), UsageError, "of_a_later_version"),
        (error(500, "internal_error"), BatchmillError, "internal_error"),
        (error(418, None), BatchmillError, "internal_error"),
    ],
)
def test_errors_have_the_class_of_their_code(response: httpx2.Response, kind: type[BatchmillError], code: str) -> None:
    server = Server(response)

    with pytest.raises(kind, match=r"^a sentence$") as raised:
        server.http.get("/api/batches")

    assert (type(raised.value), raised.value.code, len(server.requests)) == (kind, code, 1)


def test_invalid_rows_are_listed() -> None:
    text = "x was refused; mend these rows first:\n  line 2: text is empty\n  line 3: text is empty"

    with pytest.raises(InvalidRows) as raised:
        Server(error(400, "invalid_rows", text)).http.get("/api/batches")

    assert raised.value.problems == ("line 2: text is empty", "line 3: text is empty")


@pytest.mark.parametrize(
    "response",
    [
        httpx2.Response(502, html="<html>Bad Gateway</html>"),
        httpx2.Response(404, text="nothing here"),
        httpx2.Response(200, html="<html>Please log in</html>"),
        httpx2.Response(500, json={"detail": "of another framework"}),
        httpx2.Response(400, json={"error": "text"}),
    ],
)
def test_an_answer_of_something_else_is_named(response: httpx2.Response) -> None:
    server = Server(response)

    with pytest.raises(Unreachable, match=r"https://batchmill.example answered \d+ .* not as Batchmill does"):
        server.http.get("/api/batches")


def test_a_redirect_is_not_followed_with_the_key() -> None:
    server = Server(httpx2.Response(301, headers={"location": "http://elsewhere.example"}))

    with pytest.raises(Unreachable, match="sends clients to another address"):
        server.http.get("/api/batches")

    assert {request.url.host for request in server.requests} == {"batchmill.example"}


@pytest.mark.parametrize(
    "failure",
    [
        httpx2.ConnectError("refused"),
        httpx2.ReadError("reset"),
        httpx2.RemoteProtocolError("cut"),
        httpx2.ReadTimeout("slow"),
        error(503, "unreachable"),
        error(429, "rate_limit_exceeded"),
        httpx2.Response(502, text="starting"),
    ],
)
def test_what_time_mends_is_tried_again(failure: httpx2.Response | Exception) -> None:
    server = Server(failure, failure, OK)

    assert server.http.get("/api/batches/batch_1") == {"id": "batch_1"}

    assert len(server.pauses) == 2
    assert 0 < server.pauses[0] <= 1.0


def test_the_server_says_when_to_come_again() -> None:
    server = Server(error(429, "rate_limit_exceeded", retry_after="7"), OK)

    server.http.get("/api/batches")

    assert server.pauses == [7.0]


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (error(429, "rate_limit_exceeded", retry_after="600"), TooManyRequests),
        (error(429, "too_many_unanswered_jobs", retry_after="1"), TooManyJobs),
        (error(503, "schema_mismatch"), Unreachable),
        (httpx2.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate"), Unreachable),
    ],
)
def test_what_takes_long_or_for_ever_is_raised_at_once(
    failure: httpx2.Response | Exception, kind: type[BatchmillError]
) -> None:
    server = Server(failure)

    with pytest.raises(kind) as raised:
        server.http.get("/api/batches")

    assert server.pauses == []
    if isinstance(raised.value, TooManyRequests):
        assert raised.value.retry_after_seconds in (1.0, 600.0)


def test_tries_end() -> None:
    server = Server(httpx2.ConnectError("refused"))

    with pytest.raises(Unreachable, match=r"https://batchmill.example does not answer \(refused\)"):
        server.http.get("/api/batches")

    assert 20 < server.now <= 70
    assert len(server.requests) < 30


def test_an_export_without_a_byte_is_tried_for_as_long_as_others() -> None:
    server = Server(httpx2.ReadError("reset"))

    with pytest.raises(Unreachable), tempfile.TemporaryFile() as file:
        Download(server.http, "/api/batches/batch_1", 0, ()).write(file, "jsonl")

    assert server.now > 20


def test_a_request_that_is_no_http_is_not_repeated() -> None:
    server = Server(httpx2.LocalProtocolError(f"Illegal header value {KEY}"))

    with pytest.raises(UsageError, match="can't be sent") as raised:
        server.http.get("/api/batches")

    assert KEY not in str(raised.value)


def test_a_deletion_that_goes_on_is_awaited_and_not_sent_again() -> None:
    later = httpx2.Response(202, json={"id": "batch_1", "deleted": False})
    server = Server(later, error(404, "not_found"))

    RemoteBatch(server.http, "batch_1").delete(cancel=False)

    assert [request.method for request in server.requests] == ["DELETE", "GET"]


def test_an_act_that_may_have_been_done_is_not_repeated() -> None:
    server = Server(httpx2.ReadError("reset"))

    with pytest.raises(AnswerLost, match="was lost"):
        server.http.request("POST", "/api/batches/batch_1/retry", policy=REPEAT_UNSENT)

    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "answer", [httpx2.ConnectError("refused"), error(401, "invalid_api_key"), httpx2.Response(200, text="?")]
)
def test_no_message_has_the_key(answer: Any) -> None:
    server = Server(answer)

    with pytest.raises(BatchmillError) as raised:
        server.http.get("/api/batches")

    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in f"{raised.value!r} {raised.value} {server.http!r} {vars(raised.value)}"
