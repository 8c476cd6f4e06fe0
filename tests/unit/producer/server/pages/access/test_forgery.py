"""Actions of other sites and other sessions are refused."""

import pytest

from producer.server.pages.access.forgery import CSRF_HEADER, ForgedAction, check_origin, check_token, has_token_header
from tests.factories.page_requests import request_of

TOKEN = "a" * 64


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "same-origin", "origin": "https://pages.example", "host": "127.0.0.1:8000"},
        {"origin": "http://127.0.0.1:8000"},
        {"origin": "https://pages.example", "x-forwarded-host": "pages.example"},
    ],
)
def test_a_form_of_this_server_is_taken(headers: dict[str, str]) -> None:
    check_origin(request_of(headers))


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "origin": "http://127.0.0.1:8000"},
        {"sec-fetch-site": "anything"},
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:8001"},
        {"origin": "http://127.0.0.1:8000.evil.example"},
        {"origin": "null"},
        {"origin": "http://["},
        {"origin": ""},
    ],
)
def test_a_form_of_another_site_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ForgedAction, match="another site"):
        check_origin(request_of(headers))


@pytest.mark.parametrize("sent", [None, "", "b" * 64, TOKEN[:-1], TOKEN + "a", "é" * 64, 7])
def test_only_the_token_of_the_session_is_taken(sent: object) -> None:
    check_token(TOKEN, TOKEN)
    with pytest.raises(ForgedAction, match="earlier session"):
        check_token(TOKEN, sent)


def test_a_token_in_the_header_spares_the_body() -> None:
    assert has_token_header(request_of({CSRF_HEADER: TOKEN}), TOKEN)
    assert not has_token_header(request_of(), TOKEN)
    with pytest.raises(ForgedAction):
        has_token_header(request_of({CSRF_HEADER: "b" * 64}), TOKEN)
    with pytest.raises(ForgedAction):
        has_token_header(request_of({CSRF_HEADER: TOKEN, "sec-fetch-site": "cross-site"}), TOKEN)
