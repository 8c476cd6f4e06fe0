"""Proxies: the address of a client is believed of those that the settings name, and of nobody else."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from models.db import Database
from producer.server.pages.access.guesses import MAX_OF_ADDRESS
from tests.factories.http_server import app_over, key_headers
from tests.factories.page_clients import BROWSER, Page

PROXY, OTHER_PROXY, CLIENT = "10.0.0.2", "10.0.0.3", "203.0.113.7"


@contextmanager
def browser_behind(database: Database, url: str, trusted: tuple[str, ...], peer: str = PROXY) -> Iterator[TestClient]:
    """Yield a browser whose connection comes from `peer`."""
    key_headers(database, None)
    app = app_over(database, url, serve_trusted_proxies=trusted)
    with TestClient(app, base_url="http://mill.example", headers=BROWSER, client=(peer, 1)) as browser:
        yield browser
    app.state.context.watch.close()


def refused_address(browser: TestClient, forwarded_for: str) -> str:
    """Send a wrong key, and return the address that the log has."""
    token = Page(browser.get("/login").text).csrf_token
    with capture_logs() as lines:
        browser.post("/login", data={"csrf_token": token, "key": "bm_no"}, headers={"x-forwarded-for": forwarded_for})
    [address] = [line["address"] for line in lines if line["event"] == "session.refused"]
    return str(address)


@pytest.fixture
def sqlite_database(sqlite_url: str) -> Iterator[Database]:
    with closing(Database(sqlite_url)) as database:
        yield database


def test_the_last_address_of_no_trusted_proxy_counts(sqlite_database: Database, sqlite_url: str) -> None:
    with browser_behind(sqlite_database, sqlite_url, (PROXY, "10.1.0.0/16")) as browser:
        for forwarded_for, address in (
            (CLIENT, CLIENT),
            (f"198.51.100.1, {CLIENT}, 10.1.2.3", CLIENT),
            (f"{CLIENT}, {OTHER_PROXY}", OTHER_PROXY),
            (f"{CLIENT}:4711", CLIENT),
            ("[2001:db8::1]:80", "2001:db8::1"),
            ("<script>", "<script>"),
            ("", PROXY),
        ):
            assert refused_address(browser, forwarded_for) == address


def test_nobody_else_is_believed(sqlite_database: Database, sqlite_url: str) -> None:
    for trusted in ((), (OTHER_PROXY,)):
        with browser_behind(sqlite_database, sqlite_url, trusted) as browser:
            assert refused_address(browser, CLIENT) == PROXY


def test_ipv4_in_the_form_of_ipv6_is_the_same_proxy(sqlite_database: Database, sqlite_url: str) -> None:
    with browser_behind(sqlite_database, sqlite_url, ("10.0.0.0/8",), f"::ffff:{PROXY}") as browser:
        assert refused_address(browser, CLIENT) == CLIENT


def test_clients_of_a_trusted_proxy_share_no_limit(sqlite_database: Database, sqlite_url: str) -> None:
    with browser_behind(sqlite_database, sqlite_url, (PROXY,)) as browser:
        token = Page(browser.get("/login").text).csrf_token

        def guess(address: str) -> int:
            fields = {"csrf_token": token, "key": "bm_no"}
            return browser.post("/login", data=fields, headers={"x-forwarded-for": address}).status_code

        statuses = [guess(CLIENT) for _ in range(MAX_OF_ADDRESS + 1)]

        assert (statuses[-2], statuses[-1]) == (401, 429)
        assert guess("203.0.113.8") == 401


def test_the_scheme_is_believed_of_a_trusted_proxy(sqlite_database: Database, sqlite_url: str) -> None:
    https = {"x-forwarded-proto": "https"}
    with browser_behind(sqlite_database, sqlite_url, (PROXY,)) as browser:
        assert "strict-transport-security" in browser.get("/login", headers=https).headers
        assert "strict-transport-security" not in browser.get("/login").headers
    with browser_behind(sqlite_database, sqlite_url, ()) as browser:
        assert "strict-transport-security" not in browser.get("/login", headers=https).headers
