"""A worker and nothing else: it starts a schedule's runs, answers them and ends them, on both databases."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from tests.deployment import wait_for
from tests.faults.fake_model import FAKE_PIPELINE, fake_model_deployment

COMPLETED = "SELECT scheduled_at, batch_id, summary FROM runs WHERE state = 'completed' ORDER BY scheduled_at"


def test_a_worker_does_it_all(tmp_path: Path, database_url: str, redis_url: str) -> None:
    rows = [{"id": str(number), "text": f"number {number}"} for number in range(40)]
    source = f"[sources.rows]\nurl = 'sqlite:///{tmp_path / 'rows.db'}'\nquery = 'SELECT id, text FROM rows'\n"
    with fake_model_deployment(
        tmp_path, database_url=database_url, redis_url=redis_url, simulated_clock="2026-10-25T00:59:50Z"
    ) as deployment:
        _fill(tmp_path / "rows.db", rows)
        with (tmp_path / "home" / "batchmill.toml").open("a") as config:
            config.write(source)
        made = deployment.invoke(
            "schedule",
            "create",
            "hourly",
            "--cron",
            "0 * * * *",
            "--tz",
            "Europe/Berlin",
            "--pipeline",
            FAKE_PIPELINE,
            "--sql",
            "rows",
            "--into",
            "answers",
            "--reuse",
        )
        assert made.returncode == 0, made.stderr
        clock = f"2026-10-25T00:59:50Z@{datetime.now(UTC).isoformat()}*5"
        deployment.start("worker", FAKE_PIPELINE, "--devices", "cpu", BATCHMILL_SIMULATED_CLOCK=clock)

        wait_for(lambda: len(deployment.query(COMPLETED)) >= 1, "a run that completed")

        [run] = deployment.query(COMPLETED)[:1]
        assert "2026-10-25 01:00" in str(run.scheduled_at)  # the second of the two hours from 02:00 on, in Berlin
        assert deployment.outputs(run.batch_id) == [{"text": row["text"], "length": len(row["text"])} for row in rows]
        assert len(deployment.query("SELECT id FROM answers")) == 40
        deployment.assert_completed(run.batch_id, 40)


def _fill(path: Path, rows: list[dict[str, str]]) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE rows (id TEXT, text TEXT)")
        connection.executemany("INSERT INTO rows VALUES (:id, :text)", rows)
