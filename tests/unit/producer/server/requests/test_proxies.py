"""Trusted proxies, as the layer for their headers takes them."""

from producer.server.requests.proxies import networks_of


def test_ipv4_is_there_in_both_forms() -> None:
    assert networks_of(["127.0.0.1", "10.1.2.3/8"]) == [
        "127.0.0.1/32",
        "::ffff:127.0.0.1/128",
        "10.0.0.0/8",
        "::ffff:10.0.0.0/104",
    ]


def test_ipv6_stays_as_it_is() -> None:
    assert networks_of(["2001:db8::/32", "::1"]) == ["2001:db8::/32", "::1/128"]
