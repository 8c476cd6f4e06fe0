"""Which URLs a setting may have; what is wrong is said without the URL."""

import pytest
from kombu import Connection

from models.errors import SettingsError
from models.privacy import urls
from models.settings import Settings

GOOD = [
    "redis://host",
    "redis://host/",
    "redis://host:6379/0",
    "redis://:canary@host:6379/15",
    "redis://u:ca%2Fna%23ry@h",
    "redis://[::1]:6379/0",
    "rediss://h:6380/0?ssl_cert_reqs=required&ssl_ca_certs=/ca.pem",
    "unix:///run/redis.sock",
    "redis+socket:///run/redis.sock?virtual_host=2",
    "redis://",
]

BAD = [
    "redis://h:canary/0",
    "redis://h:0/0",
    "redis://h:99999/0",
    "rediss://h/0?ssl_cert_reqs=canary",
    "redis://h/0?password=canary",
    "redis://h/canary",
    "redis://h/0/1",
    "redis://:cana/ry@h/0",
    "redis://:cana#ry@h/0",
    "redis://:cana?ry@h/0",
    "redis://:cana@ry@h/0",
    "redis://:[canary@h/0",
    "redis://:canary@h:port/0",
    "canary",
    "",
    "http://canary",
    "amqp://canary",
    "unix://",
    "unix:///run/redis.sock?password=canary",
    "redis://h/0 canary",
    "redis://h/0\ncanary",
    "redis://h/0#canary",
    "redis://h/²",
]

BAD_DATABASES = [
    "canary",
    "",
    "mysql://canary@h/db",
    "postgresql://u:canary@h:port/db",
    "postgresql://u:canary@h:port:1/db",
    "postgresql:/canary",
    "postgresql://u:cana@ry@h/db",
    "postgresql://u:cana@ry/x@h/db",
    "postgresql://u/canary@h/db",
    "postgresql://u:canary@h:99999/db",
    "postgresql://u:canary@h:0/db",
    "host=h password=canary",
    "postgresql://h/db?passwort=canary",
    "postgresql://h/db?port=canary",
    "postgresql://h/db;password=canary",
    "sqlite://u:canary@h/x",
    "sqlite:////a.db?key=canary",
    "postgresql://u:canary@h/db\n",
]


class TestRedis:
    @pytest.mark.parametrize("url", GOOD)
    def test_what_kombu_takes_is_taken(self, url: str) -> None:
        settings = Settings.load(redis_url=url)

        assert Connection(settings.broker_url).transport

    @pytest.mark.parametrize("url", BAD)
    def test_what_nobody_can_connect_by_is_named_without_the_url(self, url: str) -> None:
        with pytest.raises(SettingsError, match=r"^setting 'redis_url': ") as caught:
            Settings.load(redis_url=url)

        assert "canary" not in str(caught.value)
        assert "cana" not in str(caught.value)


class TestDatabase:
    @pytest.mark.parametrize("url", ["sqlite:////tmp/a.db", "postgres://u:p@h/db", "postgresql+psycopg://h:5432/db"])
    def test_what_batchmill_works_with_is_taken(self, url: str) -> None:
        assert Settings.load(database_url=url).database_url == url

    @pytest.mark.parametrize("url", BAD_DATABASES)
    def test_what_is_no_such_url_is_named_without_it(self, url: str) -> None:
        with pytest.raises(SettingsError, match=r"^setting 'database_url': ") as caught:
            Settings.load(database_url=url)

        assert "canary" not in str(caught.value)


class TestShown:
    """Host, port and database of whatever shape can be connected by; nothing of another."""

    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("postgresql://me:canary@host:5432/name", "postgresql://host:5432/name"),
            ("postgresql+psycopg://me:canary@host/name", "postgresql://host/name"),
            ("postgresql://u:can/ary@h/db", "postgresql://h/db"),
            ("postgresql://u:can?ary#:[@h:5/db", "postgresql://h:5/db"),
            ("postgresql://u:canary@[::1]:5/db", "postgresql://[::1]:5/db"),
            ("postgresql://u:canary@a,b/db", "postgresql://a,b/db"),
            ("postgresql://h/db?password=canary&sslpassword=canary&user=canary&port=5", "postgresql://h/db?port=5"),
            ("postgresql:///db?host=/run&password=canary&passfile=/canary", "postgresql:///db?host=%2Frun"),
            ("redis://:canary@host/0", "redis://host/0"),
            ("rediss://canary:canary@[::1]:6380/2?ssl_ca_certs=/canary", "rediss://[::1]:6380/2"),
            ("redis://:can%2Fary@", "redis://localhost"),
            ("unix://:canary@/run/redis.sock?virtual_host=2", "unix:///run/redis.sock"),
            ("redis+socket://:canary@/run/redis.sock", "unix:///run/redis.sock"),
            ("sqlite:////tmp/a.db?mode=ro", "sqlite:////tmp/a.db"),
        ],
    )
    def test_where_it_is_and_no_more(self, url: str, shown: str) -> None:
        assert urls.redact_url(url) == shown

    @pytest.mark.parametrize("url", [*BAD, *BAD_DATABASES])
    def test_what_can_not_be_read_is_not_shown(self, url: str) -> None:
        assert urls.redact_url(url) == urls.HIDDEN_URL
