"""Where a webhook may call."""

import pytest

from models.errors import UsageError
from producer.schedules import address


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com/a/b?c=d",
        "https://10.0.0.1:8443/",
        "http://localhost:8080/x",
        "http://127.0.0.1/x",
        "http://127.8.8.8/x",
        "http://[::1]:9/x",
    ],
)
def test_https_anywhere_and_http_to_this_machine(url: str) -> None:
    assert address.checked(url) == url


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://example.com/x", "is not https"),
        ("http://localhost.example.com/x", "is not https"),
        ("http://0.0.0.0/x", "is not https"),
        ("ftp://example.com", "is not https"),
        ("file:///etc/passwd", "is not https"),
        ("https:///x", "is not https"),
        ("example.com", "is not https"),
        ("", "is not https"),
        ("https://me:canary@example.com/", "user or password"),
        ("https://me@example.com/", "user or password"),
        ("http://127.0.0.1@example.com/", "user or password"),
        ("https://example.com/a b", "blanks"),
        ("https://example.com/\r\nHost: x", "blanks"),
        ("https://ex\N{CYRILLIC SMALL LETTER A}mple.com/", "not ASCII"),
        ("https://example.com:99999/", "is no URL"),
        ("https://[::1/", "is no URL"),
        ("https://example.com/" + "a" * 2000, "longer than 2000"),
    ],
)
def test_nothing_else(url: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as raised:
        address.checked(url)
    assert "canary" not in str(raised.value)
