"""Actions of other sites and other sessions are refused."""

import pytest

from producer.server.pages.access.forgery import (
    CSRF_HEADER,
    ForgedAction,
    check_origin,
    check_token,
    has_token_header,
    is_from_page_of_ours,
    make_token,
)
from tests.factories.page_requests import request_of

SECRET = b"s" * 32
TOKEN = make_token(SECRET)
OF_ANOTHER = make_token(b"o" * 32)


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


@pytest.mark.parametrize(
    "sent", [None, "", OF_ANOTHER, TOKEN[:-2], TOKEN + "aa", TOKEN[:64], "é" * 128, 7], ids=range(8)
)
def test_only_the_token_of_the_session_is_taken(sent: object) -> None:
    check_token(SECRET, TOKEN)
    with pytest.raises(ForgedAction, match="earlier session"):
        check_token(SECRET, sent)


def test_each_page_has_another_token() -> None:
    """So that the length of compressed pages tells nothing about it."""
    assert make_token(SECRET)[:64] != TOKEN[:64]
    assert make_token(SECRET)[64:] != TOKEN[64:]
    assert SECRET.hex() not in TOKEN


@pytest.mark.parametrize(
    ("referer", "is_ours"),
    [(None, False), ("http://127.0.0.1:8000/batches", True), ("http://127.0.0.1:8001/", False), ("http://[", False)],
)
def test_a_page_of_ours_is_known_by_its_address(referer: str | None, is_ours: bool) -> None:
    headers = {"host": "127.0.0.1:8000"} | ({"referer": referer} if referer else {})
    assert is_from_page_of_ours(request_of(headers)) == is_ours


def test_a_token_in_the_header_spares_the_body() -> None:
    assert has_token_header(request_of({CSRF_HEADER: TOKEN}), SECRET)
    assert not has_token_header(request_of(), SECRET)
    with pytest.raises(ForgedAction):
        has_token_header(request_of({CSRF_HEADER: OF_ANOTHER}), SECRET)
    with pytest.raises(ForgedAction):
        has_token_header(request_of({CSRF_HEADER: TOKEN, "sec-fetch-site": "cross-site"}), SECRET)
