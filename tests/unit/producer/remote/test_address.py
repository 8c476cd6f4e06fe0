from pathlib import Path

import pytest

from batchmill import Client, UsageError
from producer.remote.address import ServerAddress, find_server

KEY = "bm_canary_key"
NONE = {"database_url": None, "redis_url": None, "home": None}


def find(url: str | None = None, api_key: str | None = None, *, insecure: bool = False) -> ServerAddress | None:
    return find_server({**NONE, "database_url": url}, api_key, insecure=insecure)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://batchmill.example", "https://batchmill.example"),
        ("https://batchmill.example:8443/team/", "https://batchmill.example:8443/team"),
        ("HTTP://127.0.0.1:8000/", "http://127.0.0.1:8000"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_a_url_of_http_is_a_server(url: str, address: str) -> None:
    server = find(url, KEY)

    assert server is not None
    assert (server.url, server.api_key) == (address, KEY)
    assert KEY not in repr(server)
    assert KEY not in repr(Client(url, api_key=KEY))


@pytest.mark.parametrize("url", [None, "sqlite:////tmp/a.db", "postgresql://host/db", "httpx://host"])
def test_everything_else_is_none(url: str | None) -> None:
    assert find(url) is None


@pytest.mark.parametrize(
    "url",
    ["https://", "https://host:99999", "https://ho st", "https://user:pw@host", "https://host/?a=1", "https://h/#a"],
)
def test_a_url_that_can_not_be_one_is_refused_without_a_word_of_it(url: str) -> None:
    with pytest.raises(UsageError) as error:
        Client(url)

    assert url.partition("://")[2] not in str(error.value) or url == "https://"


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("https://host/v1", "https://host"),
        ("https://host:8443/v1/", "https://host:8443"),
        ("https://host/team/api", "https://host/team"),
    ],
)
def test_the_url_of_openais_clients_has_too_much(
    url: str, server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BATCHMILL_HOME", str(tmp_path))
    monkeypatch.setenv("BATCHMILL_URL", url)

    for find_it in (lambda: Client(url), find):
        with pytest.raises(UsageError, match="which the client adds itself") as error:
            find_it()
        assert str(error.value).endswith(f"; write {server}")


def test_a_prefix_may_be_called_anything_else() -> None:
    server = find("https://host/v1.example/apis")

    assert server is not None
    assert server.url == "https://host/v1.example/apis"


@pytest.mark.parametrize("key", ["", "two words", "line\nbreak", "ключ"])
def test_a_key_that_is_none_is_refused_without_a_word_of_it(key: str) -> None:
    with pytest.raises(UsageError, match="API key") as error:
        Client("https://host", api_key=key)

    assert not key or key not in str(error.value)


def test_a_key_goes_to_another_machine_by_tls_only() -> None:
    with pytest.raises(UsageError, match="anybody on the way could read the API key"):
        Client("http://host.example", api_key=KEY)

    assert find("http://host.example") is not None
    assert find("http://host.example", KEY, insecure=True) is not None
    assert find("http://localhost:8000", KEY) is not None


def test_settings_of_a_database_do_not_go_with_a_server() -> None:
    with pytest.raises(UsageError, match="settings of a database"):
        Client("https://host", "redis://host/0")
    with pytest.raises(UsageError, match="an api_key is for a server"):
        Client("sqlite:////tmp/a.db", api_key=KEY)
    with pytest.raises(UsageError, match="an api_key is for a server"):
        _ = Client(api_key=KEY).settings


class TestEnvironment:
    @pytest.fixture(autouse=True)
    def server(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BATCHMILL_URL", "https://host.example")
        monkeypatch.setenv("BATCHMILL_API_KEY", KEY)

    def test_it_names_the_server_and_the_key(self) -> None:
        server = find()

        assert server is not None
        assert (server.url, server.api_key) == ("https://host.example", KEY)

    def test_arguments_win(self) -> None:
        server = find("https://other.example", "bm_other")

        assert server is not None
        assert (server.url, server.api_key) == ("https://other.example", "bm_other")
        assert find("sqlite:////tmp/a.db") is None

    def test_the_setting_of_a_database_wins(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BATCHMILL_DATABASE_URL", "sqlite:////tmp/a.db")

        assert find() is None

    def test_so_does_the_one_in_the_file(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "batchmill.toml").write_text('database_url = "sqlite:////tmp/a.db"\n')

        assert find() is None

    def test_another_scheme_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BATCHMILL_URL", "ftp://host.example")

        with pytest.raises(UsageError, match="BATCHMILL_URL must begin with https://"):
            find()
