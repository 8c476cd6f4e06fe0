"""A SQLite file that somebody else locks for seconds, or whose disk is full: writes wait, and nothing is half done."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from sqlalchemy import make_url

from tests.deployment import WAIT_TIMEOUT_SECONDS, wait_for
from tests.faults.fake_model import FAKE_PIPELINE, assert_outputs, fake_model_deployment, numbered_texts, to_jsonl

JOBS = 800
SMALL = {"max_claim_jobs": "64"}


def test_a_second_writer_is_waited_for(tmp_path: Path, sqlite_url: str, redis_url: str) -> None:
    texts = numbered_texts(JOBS)
    with fake_model_deployment(tmp_path, database_url=sqlite_url, redis_url=redis_url, **SMALL) as deployment:
        deployment.start_worker(FAKE_PIPELINE, FAKE_FORWARD_SECONDS="0.03")
        deployment.wait_for_workers()
        batch = deployment.client.submit(FAKE_PIPELINE, texts)
        deployment.wait_for_results(batch.id, 50)

        with closing(sqlite3.connect(make_url(sqlite_url).database, isolation_level=None, timeout=30)) as other:
            other.execute("BEGIN IMMEDIATE")
            time.sleep(2)  # the fault itself: the lock is held so long
            other.execute("ROLLBACK")
        batch.wait(WAIT_TIMEOUT_SECONDS)

        deployment.assert_completed(batch.id, JOBS)
        assert_outputs(deployment, batch.id, texts)


def test_a_full_disk_is_told_of_and_waited_for(tmp_path: Path, sqlite_url: str, redis_url: str) -> None:
    full, texts = tmp_path / "full", numbered_texts(JOBS)
    with fake_model_deployment(tmp_path, database_url=sqlite_url, redis_url=redis_url, **SMALL) as deployment:
        deployment.environment["FAKE_DISK_FULL"] = str(full)
        deployment.start_worker(FAKE_PIPELINE, FAKE_FORWARD_SECONDS="0.03")
        [worker] = deployment.wait_for_workers()
        batch = deployment.client.submit(FAKE_PIPELINE, texts)
        deployment.wait_for_results(batch.id, 50)

        full.touch()
        wait_for(lambda: "is full" in deployment.log, "the worker noticing")
        deployment.assert_consistent(batch.id)
        refused = deployment.run("submit", "-", "-p", FAKE_PIPELINE, stdin=to_jsonl(numbered_texts(20_000)))
        full.unlink()
        batch.wait(WAIT_TIMEOUT_SECONDS)

        deployment.assert_completed(batch.id, JOBS)
        assert_outputs(deployment, batch.id, texts)
        assert {row.attempts for row in deployment.query("SELECT attempts FROM results")} == {1}
        assert deployment.ready_worker_pids() == [worker]
        assert refused.returncode == 5
        assert b"is full; make room on its disk" in refused.stderr
        assert [row.id for row in deployment.query("SELECT id FROM batches")] == [batch.id], (
            "what was refused left nothing"
        )
        assert deployment.query("SELECT count(*) AS n FROM jobs")[0].n == JOBS
