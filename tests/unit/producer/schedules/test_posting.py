"""One request: taken or not, and over in time."""

from contextlib import suppress
from http.server import BaseHTTPRequestHandler

import pytest

from producer.schedules.posting import NotTaken, post
from tests.receivers import receiver


def test_what_arrives() -> None:
    with receiver() as here:
        post(here.url, b'{"a": 1}', {"webhook-id": "msg_1"})

        [(headers, body)] = here.taken
    assert body == b'{"a": 1}'
    assert (headers["content-type"], headers["webhook-id"]) == ("application/json", "msg_1")


@pytest.mark.parametrize("status", [200, 201, 204])
def test_any_2xx_is_taken(status: int) -> None:
    with receiver() as here:
        here.answers = [status]
        post(here.url, b"{}", {})


@pytest.mark.parametrize("status", [301, 302, 307, 400, 404, 410, 500, 503])
def test_anything_else_is_not(status: int) -> None:
    with receiver() as here, receiver() as elsewhere:
        here.answers, here.location = [status], elsewhere.url
        with pytest.raises(NotTaken, match=f"^it answered {status}$"):
            post(here.url, b"{}", {})

        assert elsewhere.taken == [], "no redirect is followed"


def test_a_receiver_that_hangs() -> None:
    with receiver() as here:
        here.before_answer = lambda _handler: here.closing.wait(60)
        with pytest.raises(NotTaken, match="did not answer in time"):
            post(here.url, b"{}", {}, seconds=0.1)
        here.closing.set()


def test_a_receiver_that_trickles() -> None:
    def trickle(handler: BaseHTTPRequestHandler) -> None:
        with suppress(OSError):
            handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
            while not here.closing.wait(0.02):
                handler.wfile.write(b"x")

    with receiver() as here:
        here.before_answer = trickle
        with pytest.raises(NotTaken, match="did not answer in time") as refused:
            post(here.url, b"{}", {}, seconds=0.3)
        here.closing.set()

    assert "token" not in str(refused.value)


def test_nobody_there() -> None:
    with receiver() as here:
        url = here.url

    with pytest.raises(NotTaken, match=r"did not answer \(ConnectionRefusedError\)"):
        post(url, b"{}", {})


def test_a_certificate_that_nobody_knows_of() -> None:
    with receiver() as here, pytest.raises(NotTaken, match=r"did not answer \(SSL"):
        post(here.url.replace("http://", "https://"), b"{}", {})
