"""Where a webhook may call."""

import ipaddress

import pytest

from models.errors import UsageError
from producer.webhooks import webhook_address
from producer.webhooks.webhook_address import AddressPolicy


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
    assert webhook_address.check_webhook_url(url) == url


@pytest.mark.parametrize(
    ("url", "message"),
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
def test_nothing_else(url: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        webhook_address.check_webhook_url(url)
    assert "canary" not in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1",
        "127.255.255.254",
        "0.0.0.0",
        "0.1.2.3",
        "10.1.2.3",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "100.127.255.255",
        "192.0.2.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.9",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:10.0.0.1",
        "fe80::1",
        "fec0::1",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "2001:db8::1",
        "2002:7f00:1::1",
        "2002:a00:1::",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "4000::1",
    ],
)
def test_addresses_that_are_not_public(text: str) -> None:
    assert not webhook_address.is_public(ipaddress.ip_address(text))
    assert not AddressPolicy().allows("example.com", text)
    assert AddressPolicy.from_setting(["example.com"]).allows("EXAMPLE.com.", text)


@pytest.mark.parametrize(
    "text",
    ["1.1.1.1", "93.184.216.34", "100.128.0.1", "172.32.0.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"],
)
def test_addresses_that_are(text: str) -> None:
    assert AddressPolicy().allows("example.com", text)


def test_networks_that_are_allowed_are_so_in_every_spelling() -> None:
    reach = AddressPolicy.from_setting(["10.0.0.0/8", "fd00::/8", "[::1]", "192.168.1.7"])

    for text in ("10.9.9.9", "::ffff:10.9.9.9", "fd00::7", "::1", "192.168.1.7"):
        assert reach.allows("any.example", text)
    for text in ("11.0.0.0", "192.168.1.8", "127.0.0.1", "fe80::1%eth0", "169.254.169.254"):
        assert reach.allows("any.example", text) is (text == "11.0.0.0")


@pytest.mark.parametrize(
    ("url", "refused"),
    [
        ("https://127.0.0.1/", True),
        ("http://localhost:8080/", True),
        ("https://[::ffff:10.0.0.1]/", True),
        ("https://2130706433/", True),
        ("https://0x7f.1/", True),
        ("https://0177.0.0.1/", True),
        ("https://0/x", True),
        ("https://0x01010101/", False),
        ("https://1.1.1.1/", False),
        ("https://hooks.example.com/", False),
    ],
)
def test_an_address_that_says_by_itself_that_it_is_not_public(url: str, refused: bool) -> None:
    assert webhook_address.is_refused(url, AddressPolicy()) is refused
    assert not webhook_address.is_refused(
        url, AddressPolicy.from_setting(["localhost", "127.0.0.1", "10.0.0.0/8", "0.0.0.0"])
    )
