"""Cookies are named by port, and are secure where the browser came over TLS."""

import pytest
from fastapi import Response

from producer.server.pages.access.cookies import Cookies
from tests.factories.page_requests import request_of


@pytest.mark.parametrize(
    ("headers", "scheme", "name"),
    [
        ({"host": "127.0.0.1:8000"}, "http", "batchmill_session_8000"),
        ({"host": "localhost:8001"}, "http", "batchmill_session_8001"),
        ({"host": "pages.example"}, "http", "batchmill_session_80"),
        ({"host": "pages.example"}, "https", "__Host-batchmill_session_443"),
        ({"host": "pages.example:8443"}, "https", "__Host-batchmill_session_8443"),
        ({"host": "pages.example", "x-forwarded-proto": "https, http"}, "http", "__Host-batchmill_session_443"),
        ({"host": "pages.example", "x-forwarded-proto": "http"}, "http", "batchmill_session_80"),
        ({"host": "a:b:c"}, "http", "batchmill_session_8000"),
    ],
)
def test_names(headers: dict[str, str], scheme: str, name: str) -> None:
    assert Cookies.of(request_of(headers, scheme)).session == name


@pytest.mark.parametrize("is_secure", [False, True])
def test_attributes(is_secure: bool) -> None:
    response = Response()
    cookies = Cookies(8000, is_secure=is_secure)

    cookies.set(response, cookies.session, "token")
    cookies.delete(response, cookies.message)

    for line in response.headers.getlist("set-cookie"):
        attributes = {part.strip().lower() for part in line.split(";")}
        assert {"httponly", "path=/", "samesite=strict"} <= attributes
        assert ("secure" in attributes) is is_secure
        assert not any(attribute.startswith("domain") for attribute in attributes)
