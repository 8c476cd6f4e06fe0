"""Browsers for tests: clients that accept pages, sign in with a key, and send forms with their token."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from typing import Any

from fastapi import FastAPI
from httpx2 import Response
from starlette.testclient import TestClient

from models.db import Database
from producer.server.native.batches import long_acts
from producer.tenants import keys
from producer.tenants.keys import KeyRequest
from producer.tenants.principal import Scope
from tests.servers import wait_until

ADDRESS = "http://127.0.0.1:8000"
BROWSER = {"accept": "text/html,application/xhtml+xml", "sec-fetch-site": "same-origin"}
PART = {"hx-request": "true", "hx-request-type": "partial"}


class Page(HTMLParser):
    """A page as a browser sees it: its elements with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        """The attributes of all elements of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def csrf_token(self) -> str:
        """The token of the page's forms."""
        return next(meta["content"] for meta in self.all("meta") if meta.get("name") == "csrf-token")


@contextmanager
def browser_over(app: FastAPI, **options: Any) -> Iterator[TestClient]:
    """Yield a browser without a session that follows no redirects by itself."""
    with TestClient(
        app, base_url=ADDRESS, headers=BROWSER, follow_redirects=False, raise_server_exceptions=False, **options
    ) as client:
        yield client
        wait_until(lambda: not long_acts._tasks, "acts that went on after their response to end")
    app.state.context.watch.close()


def sign_in(client: TestClient, key_text: str, next_address: str = "/") -> Response:
    """Fill in the form for signing in, and return the answer."""
    form = client.get("/login", params={"next": next_address})
    fields = {"csrf_token": Page(form.text).csrf_token, "key": key_text}
    return client.post("/login", params={"next": next_address}, data=fields)


def sign_in_as(client: TestClient, database: Database, tenant: str | None, *scopes: Scope) -> str:
    """Create a key, sign in with it, and return the token that actions carry."""
    key = keys.create_key(database, KeyRequest(tenant, scopes or tuple(Scope)))
    app: Any = client.app
    app.state.context.authenticator._open_until = 0.0  # the first key closes the server seconds later
    assert sign_in(client, key.text).status_code == 303
    return csrf_token(client)


def csrf_token(client: TestClient) -> str:
    """The token of the session."""
    return Page(client.get("/").text).csrf_token


SCRIPTS = re.compile(r"/static/[\w.-]+\.js\?v=\w+")
ADDRESSES = ("href", "src", "action", "hx-get", "hx-post", "hx-push-url", "formaction", "xlink:href")


def assert_harmless(html: str) -> Page:
    """Return a page after a check that no element or attribute of it could run or load something foreign."""
    page = Page(html)
    for tag, fields in page.elements:
        assert tag not in ("style", "iframe", "object", "embed", "base"), tag
        assert tag != "script" or SCRIPTS.fullmatch(fields.get("src", "")), fields
        assert tag != "img" or fields["src"].startswith("/static/"), fields
        for name, value in fields.items():
            assert not name.startswith(("on", "hx-on", "data-hx-on")), (tag, name)
            assert name != "style", tag
            if name in ADDRESSES and value:
                assert re.match(r"/(?!/)|\?|#|true$|https://|$", value), (tag, name, value)
            assert not value.strip().lower().startswith(("javascript:", "js:")), (tag, name)
    return page
