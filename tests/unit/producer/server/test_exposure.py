import pytest

from models.errors import UsageError
from producer.server.process.exposure import Exposure, check_exposure, is_loopback

LOOPBACK = ["127.0.0.1", "127.8.9.10", "::1", "[::1]", "::ffff:127.0.0.1", "localhost", "LOCALHOST.", "a.localhost"]
PUBLIC = [
    "0.0.0.0",
    "::",
    "10.0.0.1",
    "::ffff:10.0.0.1",
    "example.com",
    "localhost.example.com",
    "127.0.0.1.nip.io",
    "",
]


@pytest.mark.parametrize("host", LOOPBACK)
def test_names_of_this_machine(host: str) -> None:
    assert is_loopback(host)

    check_exposure(Exposure(host, has_keys=False, has_tls=False, is_behind_proxy=False))


@pytest.mark.parametrize("host", PUBLIC)
def test_without_keys_nobody_else_is_served(host: str) -> None:
    assert not is_loopback(host)

    with pytest.raises(UsageError, match="batchmill keys create"):
        check_exposure(Exposure(host, has_keys=False, has_tls=True, is_behind_proxy=True))


def test_keys_cross_the_network_encrypted_only() -> None:
    with pytest.raises(UsageError, match="--tls-cert and --tls-key, or --insecure"):
        check_exposure(Exposure("0.0.0.0", has_keys=True, has_tls=False, is_behind_proxy=False))

    check_exposure(Exposure("0.0.0.0", has_keys=True, has_tls=True, is_behind_proxy=False))
    check_exposure(Exposure("0.0.0.0", has_keys=True, has_tls=False, is_behind_proxy=True))
