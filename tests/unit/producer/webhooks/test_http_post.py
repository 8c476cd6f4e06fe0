"""One request: taken or not, and over in time."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from producer.webhooks import http_post
from producer.webhooks.http_post import DeliveryFailed
from producer.webhooks.webhook_address import AddressPolicy
from tests.webhook_server import run_webhook_server

HERE = AddressPolicy.from_setting(["127.0.0.1"])
post = partial(http_post.post, address_policy=HERE)


def test_what_arrives() -> None:
    with run_webhook_server() as here:
        post(here.url, b'{"a": 1}', {"webhook-id": "msg_1"})

        [(headers, body)] = here.requests
    assert body == b'{"a": 1}'
    assert (headers["content-type"], headers["webhook-id"]) == ("application/json", "msg_1")


@pytest.mark.parametrize("status", [200, 201, 204])
def test_any_2xx_is_taken(status: int) -> None:
    with run_webhook_server() as here:
        here.status_codes = [status]
        post(here.url, b"{}", {})


@pytest.mark.parametrize("status", [301, 302, 307, 400, 404, 410, 500, 503])
def test_anything_else_is_not(status: int) -> None:
    with run_webhook_server() as here, run_webhook_server() as elsewhere:
        here.status_codes, here.redirect_location = [status], elsewhere.url
        with pytest.raises(DeliveryFailed, match=f"^it answered {status}$"):
            post(here.url, b"{}", {})

        assert elsewhere.requests == [], "no redirect is followed"


def test_a_receiver_that_hangs() -> None:
    with run_webhook_server() as here:
        here.before_response = lambda _handler: here.is_closing.wait(60)
        with pytest.raises(DeliveryFailed, match="did not answer in time"):
            post(here.url, b"{}", {}, timeout_seconds=0.1)
        here.is_closing.set()


def test_a_receiver_that_trickles() -> None:
    def trickle(handler: BaseHTTPRequestHandler) -> None:
        with suppress(OSError):
            handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
            while not here.is_closing.wait(0.02):
                handler.wfile.write(b"x")

    with run_webhook_server() as here:
        here.before_response = trickle
        with pytest.raises(DeliveryFailed, match="did not answer in time") as refused:
            post(here.url, b"{}", {}, timeout_seconds=0.3)
        here.is_closing.set()

    assert "token" not in str(refused.value)


def test_nobody_there() -> None:
    with run_webhook_server() as here:
        url = here.url

    with pytest.raises(DeliveryFailed, match=r"did not answer \(ConnectionRefusedError\)"):
        post(url, b"{}", {})


def test_a_certificate_that_nobody_knows_of() -> None:
    with run_webhook_server() as here, pytest.raises(DeliveryFailed, match=r"did not answer \(SSL"):
        post(here.url.replace("http://", "https://"), b"{}", {})


LOOPBACKS = [
    "127.0.0.1",
    "LocalHost",
    "2130706433",
    "0x7f.1",
    "0177.0.0.1",
    "127.1",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "0.0.0.0",
    "[::1]",
    "[::]",
]


@pytest.mark.parametrize("host", LOOPBACKS)
def test_this_machine_is_out_of_reach_unless_it_is_allowed(host: str) -> None:
    with run_webhook_server() as here:
        url = here.url.replace("127.0.0.1", host)
        with pytest.raises(
            DeliveryFailed, match="no public address; where that is meant, name the host in webhook_allowed"
        ):
            http_post.post(url, b"{}", {})

        assert here.requests == []


@pytest.mark.parametrize("allowed", ["127.0.0.1", "127.0.0.0/8", "LocalHost", "localhost.", "0.0.0.0/0"])
def test_what_is_allowed_is_reached(allowed: str) -> None:
    with run_webhook_server() as here:
        http_post.post(
            here.url.replace("127.0.0.1", "localhost"),
            b"{}",
            {},
            address_policy=AddressPolicy.from_setting([allowed, "::1"]),
        )

        assert len(here.requests) == 1


@contextmanager
def names_lead_to(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> Iterator[list[str]]:
    """A resolver that gives these addresses, one answer after the other."""
    calls: list[str] = []

    def look_up(host: str, port: int, **_: Any) -> list[Any]:
        calls.append(host)
        addresses = answers[min(len(calls), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield calls


def test_a_name_is_looked_up_once_and_its_address_asked_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is public when it is looked at, and private when it is connected to."""
    with run_webhook_server() as here, names_lead_to(monkeypatch, ["127.0.0.2"], ["127.0.0.1"]) as calls:
        with pytest.raises(DeliveryFailed, match="did not answer"):
            http_post.post(
                here.url.replace("127.0.0.1", "rebinds.example"),
                b"{}",
                {},
                address_policy=AddressPolicy.from_setting(["127.0.0.2/32"]),
            )

        assert (here.requests, calls) == ([], ["rebinds.example"])


def test_of_several_addresses_only_those_in_reach_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    with run_webhook_server() as here, names_lead_to(monkeypatch, ["10.0.0.1", "169.254.169.254", "127.0.0.1"]):
        url = here.url.replace("127.0.0.1", "several.example")
        post(url, b"{}", {}, timeout_seconds=60)

        [(headers, _)] = here.requests
    assert headers["host"].startswith("several.example:")


def test_a_name_that_is_looked_up_for_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait(60) and [])
    began = time.monotonic()

    with pytest.raises(DeliveryFailed, match="did not answer in time"):
        http_post.post("https://slow.example/", b"{}", {}, timeout_seconds=0.2)
    over.set()

    assert time.monotonic() - began < 50  # the lookup takes a minute


@pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 64 + ".example", "x..example"])
def test_a_name_that_leads_nowhere(host: str) -> None:
    with pytest.raises(DeliveryFailed, match="did not answer"):
        http_post.post(f"https://{host}/", b"{}", {}, timeout_seconds=5)
