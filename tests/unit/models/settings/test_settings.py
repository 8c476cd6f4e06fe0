import tempfile
from pathlib import Path

import pytest

from models.errors import SettingsError
from models.settings import Settings, config_file, unknown_variables
from models.settings.home_folder import MAX_SOCKET_PATH_BYTES


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class TestOrder:
    def test_flag_then_environment_then_file_then_default(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert Settings.load().slice_size == 1024
        (tmp_path / "batchmill.toml").write_text("slice_size = 2\nmax_claim_jobs = 20\n")
        assert (Settings.load().slice_size, Settings.load().max_claim_jobs) == (2, 20)
        monkeypatch.setenv("BATCHMILL_SLICE_SIZE", "3")
        assert (Settings.load().slice_size, Settings.load().max_claim_jobs) == (3, 20)
        assert Settings.load(slice_size=4).slice_size == 4
        assert Settings.load(slice_size=None).slice_size == 3

    def test_pipelines_come_from_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "batchmill.toml").write_text('[pipelines.mine]\ntask = "sentiment-analysis"\nmodel = "a/b"\n')

        assert Settings.load().pipelines == {"mine": {"task": "sentiment-analysis", "model": "a/b"}}


@pytest.mark.parametrize("source", ["environment", "file", "flag"])
def test_an_empty_log_file_is_standard_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    if source == "environment":
        monkeypatch.setenv("BATCHMILL_LOG_FILE", "")
    if source == "file":
        (tmp_path / "batchmill.toml").write_text('log_file = ""\n')

    assert Settings.load(log_file="" if source == "flag" else None).log_file_path is None


def test_the_log_file_s_variable_is_known() -> None:
    assert unknown_variables({"BATCHMILL_LOG_FILE": "up.log"}) == []


class TestLists:
    @pytest.mark.parametrize("said", ["s3,gs", "s3, gs", " s3 gs ", '["s3", "gs"]'])
    def test_in_the_environment_stand_between_commas(self, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
        monkeypatch.setenv("BATCHMILL_SOURCE_SCHEMES", said)
        monkeypatch.setenv("BATCHMILL_SOURCE_ROOTS", "/data,/more")

        assert Settings.load().source_schemes == ("s3", "gs")
        assert Settings.load().source_roots == (Path("/data"), Path("/more"))

    def test_in_the_file_are_toml_s(self, tmp_path: Path) -> None:
        (tmp_path / "batchmill.toml").write_text('source_roots = []\nwebhook_allowed_hosts = ["10.0.0.0/8", "hooks"]\n')

        assert Settings.load().source_roots == ()
        assert Settings.load().webhook_allowed_hosts == ("10.0.0.0/8", "hooks")

    def test_that_are_unset_allow_files_and_nothing_else(self) -> None:
        settings = Settings.load()

        assert (settings.source_roots, settings.source_schemes, settings.webhook_allowed_hosts) == (None, (), ())

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            ('webhook_allowed_hosts = ["10.0.0.0/33"]', "neither a host's name nor an address or a network"),
            ('webhook_allowed_hosts = ["http://host"]', "neither a host's name nor an address or a network"),
            ('webhook_allowed_hosts = ["host:80"]', "neither a host's name nor an address or a network"),
            ('serve_trusted_proxies = ["proxy.example"]', "'proxy.example' is neither an address nor a network"),
            ('serve_trusted_proxies = ["*"]', "'\\*' is neither an address nor a network"),
            ('source_roots = ["data"]', "'data' is no absolute path"),
            ("source_timeout_seconds = 0", "must be over 0"),
        ],
    )
    def test_with_something_else_in_them_are_refused(self, tmp_path: Path, line: str, reason: str) -> None:
        (tmp_path / "batchmill.toml").write_text(line)

        with pytest.raises(SettingsError, match=reason):
            Settings.load()


class TestConfigFile:
    def test_this_folders_then_the_homes(self, tmp_path: Path, batchmill_home: Path) -> None:
        assert config_file() is None
        batchmill_home.mkdir()
        (batchmill_home / "batchmill.toml").touch()
        assert config_file() == batchmill_home / "batchmill.toml"
        (tmp_path / "batchmill.toml").touch()
        assert config_file() == Path("batchmill.toml")

    def test_a_named_one_must_be_there(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "batchmill.toml").touch()
        named = tmp_path / "other.toml"
        monkeypatch.setenv("BATCHMILL_CONFIG", str(named))
        with pytest.raises(SettingsError, match="is not a file"):
            config_file()
        named.touch()
        assert config_file() == named


class TestErrors:
    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("slice_size = 0", "setting 'slice_size' must be at least 1"),
            ("no_such = 1", "setting 'no_such'"),
            ("slice_size = ", "batchmill.toml: it is no valid TOML"),
        ],
    )
    def test_each_wrong_setting_is_named(self, tmp_path: Path, content: str, words: str) -> None:
        (tmp_path / "batchmill.toml").write_text(content)

        with pytest.raises(SettingsError, match=words):
            Settings.load()


class TestUrls:
    def test_the_embedded_default_lies_in_the_home(self, batchmill_home: Path) -> None:
        settings = Settings.load()

        assert settings.database_is_embedded
        assert settings.resolved_database_url == f"sqlite:///{batchmill_home / 'batchmill.db'}"
        assert settings.broker_url == f"redis+socket://{settings.embedded_socket_path}"

    @pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
    def test_postgresql_gets_its_driver(self, scheme: str) -> None:
        settings = Settings.load(database_url=f"{scheme}://me@host/name")

        assert settings.resolved_database_url == "postgresql+psycopg://me@host/name"
        assert not settings.database_is_embedded

    def test_redis_sockets_are_spelled_for_kombu(self) -> None:
        assert Settings.load(redis_url="unix:///run/redis.sock").broker_url == "redis+socket:///run/redis.sock"
        assert Settings.load(redis_url="redis://host/1").broker_url == "redis://host/1"

    def test_a_socket_path_is_never_too_long(self, tmp_path: Path) -> None:
        deep = tmp_path / ("x" * 150)

        socket = Settings.load(home=deep).embedded_socket_path

        assert len(str(socket)) <= MAX_SOCKET_PATH_BYTES
        assert socket == Settings.load(home=deep).embedded_socket_path
        assert socket != Settings.load(home=tmp_path / ("y" * 150)).embedded_socket_path

    def test_nor_is_it_where_the_temporary_folder_is_deep_too(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * 150)))

        socket = Settings.load(home=tmp_path / ("y" * 150)).embedded_socket_path

        assert len(str(socket)) <= MAX_SOCKET_PATH_BYTES
