"""The doctor looks at real servers, and says what is wrong with them."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

import batchmill
from models.db import Database
from models.errors import Unreachable
from models.lifecycle import wakeups
from models.settings import Settings
from producer.schedules import registry
from producer.schedules.definition import ScheduleDefinition
from tests import fake_worker
from tests.factories import consistent_batch
from tests.factories.consistent_batch import BATCH_ID, execute_all
from tests.factories.schedules import insert_run
from tests.servers import Valkey

ROOT = Path(__file__).parents[3]
NOBODY = "redis://127.0.0.1:1/0"


@pytest.fixture
def database(database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Database:
    monkeypatch.setenv("BATCHMILL_REDIS_URL", redis_url)
    return database


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(batchmill.cli, ["doctor", *arguments])


@pytest.mark.parametrize("name", ["REDIS_URL", "DATABASE_URL"])
def test_a_setting_that_can_not_be_used_is_a_finding(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"BATCHMILL_{name}", "redis://:cana/ry@host/0")

    result = invoke("--json")

    [finding] = json.loads(result.stdout)["findings"]
    assert (result.exit_code, finding["level"], finding["what"]) == (1, "problem", "settings")
    assert f"'{name.lower()}'" in finding["message"]
    assert "cana" not in result.output


def test_so_is_a_source_that_can_not_be_read(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = {"shop": {"url": "postgresql://u:canary@h:port/x", "query": "SELECT 1"}, "none": {"url": 5}}
    monkeypatch.setenv("BATCHMILL_SOURCES", json.dumps(sources))

    warnings = [message for level, message in about("settings", run_doctor()) if level == "warning"]

    assert [message.partition("]")[0] for message in warnings] == ["[sources.shop", "[sources.none"]
    assert "canary" not in str(warnings)


def run_doctor(code: int = 0) -> list[dict[str, Any]]:
    result = invoke("--json")
    assert result.exit_code == code, result.output
    document = json.loads(result.stdout)
    assert (document["object"], document["healthy"]) == ("doctor", code == 0)
    return list(document["findings"])


def about(what: str, findings: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(finding["level"], finding["message"]) for finding in findings if finding["what"] == what]


class TestHealthy:
    def test_everything_there_and_nothing_to_do(self, database: Database, database_url: str) -> None:
        findings = run_doctor()

        assert {finding["level"] for finding in findings} == {"ok"}
        [(_, message)] = about("database", findings)
        kind = "SQLite 3." if database_url.startswith("sqlite") else "PostgreSQL 1"
        assert message.startswith(kind)
        assert "clock" not in message
        [(_, message)] = about("redis", findings)
        assert message.startswith(("Valkey ", "Redis "))
        assert about("workers", findings) == [("ok", "0 alive")]
        assert about("work", findings) == [("ok", "nothing waits")]

    def test_lines_say_what_was_looked_at(self, database: Database) -> None:
        lines = invoke().stdout.splitlines()
        role = ["role"] if database.engine.dialect.name == "postgresql" else []

        assert [line.split()[:2] for line in lines] == [
            ["ok", what]
            for what in ("version", "settings", "limits", "disk", "redis", "database", *role, "workers", "work")
        ]

    def test_settings_are_told_with_their_source(
        self, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = tmp_path / "mine.toml"
        file.write_text(
            "lease_seconds = 60\nheartbeat_seconds = 50\nwebhook_secret = 'canary'\n"
            "[sources.shop]\nurl = 'postgresql://me:canary@shop/shop'\nquery = 'SELECT 1 AS text'\n"
        )
        monkeypatch.setenv("BATCHMILL_CONFIG", str(file))
        monkeypatch.setenv("BATCHMILL_SLICE_SIZE", "7")
        monkeypatch.setenv("BATCHMILL_DATABASE_URL", database.url.replace("postgres@", "postgres:canary@"))

        settings, warning = about("settings", run_doctor())

        assert settings[1].startswith(f"{file}; ")
        assert f"lease_seconds=60.0 ({file})" in settings[1]
        assert "slice_size=7 (environment)" in settings[1]
        assert "canary" not in settings[1]
        assert warning == ("warning", "one late heartbeat is enough to lose a lease of 60 s")


class TestWork:
    def test_wakeups_and_slices_without_a_worker(self, database: Database) -> None:
        consistent_batch.insert_batch_in_progress(database)
        wakeups.send_wakeups(Settings.load(), "p", 3)

        findings = run_doctor(1)

        assert about("work", findings) == [("problem", "p: slices: 2 queued, 1 leased; wakeups: 3; workers: 0")]

    def test_somebody_there(self, database: Database) -> None:
        consistent_batch.insert_batch_in_progress(database)
        execute_all(
            database,
            "UPDATE slices SET available_at = '2999-01-01 00:00:00' WHERE id = 6",
            "UPDATE slices SET lease_expires_at = '2026-01-01 00:00:00' WHERE id = 3",
        )
        fake_worker.register_worker(database, "p")
        execute_all(database, "UPDATE workers SET revision = 'r'")
        fake_worker.register_worker(database, "p", heartbeat_age_seconds=1000.0)

        findings = run_doctor()

        assert about("work", findings) == [
            ("warning", "p: slices: 1 queued, 1 leased, 1 waiting for retry, 1 lease expired; wakeups: 0; workers: 1")
        ]
        assert about("workers", findings) == [
            ("ok", "1 alive on cpu, for p"),
            ("warning", "the last heartbeat of process 7 on here (cpu) was 17 min ago"),
        ]

    def test_batches_that_are_stuck(self, database: Database) -> None:
        consistent_batch.insert_batch_in_progress(database)
        consistent_batch.begin_termination(database)
        assert about("batches", run_doctor()) == []

        execute_all(database, "UPDATE slices SET done_at = '2020-01-01 00:00:00'")
        [(level, message)] = about("batches", run_doctor())
        assert level == "warning"
        assert message.startswith(f"{BATCH_ID} is cancelling without progress for ")

        execute_all(database, "UPDATE batches SET status = 'validating', terminating_as = NULL")
        assert about("batches", run_doctor()) == []
        execute_all(database, "UPDATE batches SET holder_heartbeat_at = '2020-01-01 00:00:00'")
        assert [level for level, _ in about("batches", run_doctor())] == ["warning"]

    def test_the_batch_of_a_run_that_waits_for_its_source_is_not_stuck(self, database: Database) -> None:
        consistent_batch.insert_batch_in_progress(database)
        execute_all(database, "UPDATE batches SET status = 'validating', holder_heartbeat_at = '2020-01-01 00:00:00'")
        assert len(about("batches", run_doctor())) == 1

        definition = ScheduleDefinition.from_fields("nightly", {"pipeline": "p", "cron": "@daily", "sql": "x"})
        registry.create(database, definition, datetime.now(UTC))
        insert_run(database, "nightly", datetime.now(UTC), state="waiting", batch_id=BATCH_ID)

        assert about("batches", run_doctor()) == []

    def test_maintenance(self, database: Database) -> None:
        moments = "'2999-01-01 00:00:00', '2026-01-01 00:00:00', '2026-01-01 00:00:00'"
        columns = "name, next_run_at, last_run_at, last_effect_at, last_effect"
        execute_all(
            database,
            f"INSERT INTO maintenance_tasks ({columns}) VALUES ('wakeups', {moments}, 'wakeups resent')",
            "INSERT INTO maintenance_tasks (name, next_run_at) VALUES ('reclaim', '2026-01-01 00:00:00')",
        )

        reclaim, wakeups = about("maintenance", run_doctor())

        assert wakeups[0] == "ok"
        assert wakeups[1].endswith(" ago: wakeups resent")
        assert reclaim[0] == "warning"
        assert reclaim[1].startswith("reclaim never ran; overdue by ")


class TestUnreachable:
    def test_redis_away_is_exit_5_and_the_rest_is_looked_at(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        consistent_batch.insert_batch_in_progress(database)
        monkeypatch.setenv("BATCHMILL_REDIS_URL", "redis://me:canary@127.0.0.1:1/0")

        findings = run_doctor(5)

        [(level, message)] = about("redis", findings)
        assert level == "problem"
        assert "canary" not in message
        assert about("work", findings) == [("problem", "p: slices: 2 queued, 1 leased; workers: 0")]

    def test_the_embedded_one_away_says_how_to_start_it(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("BATCHMILL_REDIS_URL")

        [finding] = [finding for finding in run_doctor(0) if finding["what"] == "redis"]

        assert finding["level"] == "warning"
        assert "batchmill up" in finding["advice"]

    def test_a_database_away_is_exit_5(self, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BATCHMILL_REDIS_URL", redis_url)
        monkeypatch.setenv("BATCHMILL_DATABASE_URL", "postgresql://me:canary@127.0.0.1:1/x")

        findings = run_doctor(5)

        assert [level for level, _ in about("redis", findings)] == ["ok"]
        [(level, message)] = about("database", findings)
        assert level == "problem"
        assert "does not answer" in message
        assert "canary" not in json.dumps(findings)


class TestBroker:
    def test_depth_and_facts(self, redis_url: str) -> None:
        settings = Settings.load(redis_url=redis_url)
        wakeups.send_wakeups(settings, "a", 2)

        assert wakeups.queue_depths(settings, ["a", "b"]) == {"a": 2, "b": 0}
        facts = wakeups.server_info(settings)
        assert facts.kind in ("Valkey", "Redis")
        assert facts.used_memory_bytes > 0

    def test_what_it_was_told_to_keep(self, own_valkey: Valkey) -> None:
        own_valkey.config_set("maxmemory", 50_000_000)
        own_valkey.config_set("maxmemory-policy", "allkeys-lru")

        facts = wakeups.server_info(Settings.load(redis_url=own_valkey.url))

        assert (facts.kind, facts.max_memory_bytes, facts.eviction_policy) == ("Valkey", 50_000_000, "allkeys-lru")

    @pytest.mark.parametrize("ask", [lambda settings: wakeups.queue_depths(settings, ["a"]), wakeups.server_info])
    def test_nobody_there_is_unreachable(self, ask: Any) -> None:
        with pytest.raises(Unreachable, match="does not answer"):
            ask(Settings.load(redis_url=NOBODY, redis_timeout_seconds=0.5))

    def test_one_that_hangs_is_unreachable(self, own_valkey: Valkey) -> None:
        settings = Settings.load(redis_url=own_valkey.url, redis_timeout_seconds=0.2)
        own_valkey.pause()

        with pytest.raises(Unreachable, match="does not answer"):
            wakeups.server_info(settings)


def test_it_never_imports_torch() -> None:
    script = (
        "import sys; from click.testing import CliRunner; import batchmill; "
        "result = CliRunner().invoke(batchmill.cli, ['doctor']); print(result.exit_code, 'torch' in sys.modules)"
    )

    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)

    assert result.stdout.split() == ["0", "False"]


class TestSchedules:
    def test_that_nobody_looks_after(self, database: Database) -> None:
        said = {"pipeline": "sample-sentiment-analysis", "cron": "0 2 * * *", "sql": "tickets"}
        long_ago = datetime(2026, 3, 1, tzinfo=UTC)
        registry.create(database, ScheduleDefinition.from_fields("nightly", said), long_ago)

        assert about("schedules", run_doctor(1)) == [("problem", "nightly is overdue since Sun 2026-03-01 02:00 UTC")]

    def test_that_an_older_version_made_otherwise(self, database: Database) -> None:
        registry.create(
            database,
            ScheduleDefinition.from_fields("old", {"pipeline": "p", "cron": "@daily", "sql": "x"}),
            datetime.now(UTC),
        )
        with database.write() as connection:
            connection.execute(text("UPDATE schedules SET definition = '{}'"))

        [(level, message)] = about("schedules", run_doctor(1))
        assert level == "problem"
        assert message.startswith("schedule 'old': pipeline is missing; this version can't read it")
