import pytest

from producer.server.requests.origins import find_refusal

APP = "https://app.example.com"


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "localhost", "[::1]:8000", None])
def test_hosts_of_this_machine_are_served(host: str | None) -> None:
    assert find_refusal(host, None, ()) is None


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[::1", "a@b:c"])
def test_other_hosts_are_refused(host: str) -> None:
    assert "127.0.0.1" in (find_refusal(host, None, ()) or "")


@pytest.mark.parametrize("origin", ["http://127.0.0.1:8000", APP])
def test_own_and_allowed_origins_are_served(origin: str) -> None:
    assert find_refusal("127.0.0.1:8000", origin, {APP}) is None


@pytest.mark.parametrize("origin", ["null", "http://evil.example", "http://127.0.0.1:9999", "http://localhost:8000"])
def test_other_origins_are_refused(origin: str) -> None:
    assert "other origins" in (find_refusal("127.0.0.1:8000", origin, {APP}) or "")
