"""A SQLite file that somebody else locks for seconds, or whose disk is full: writes wait, and nothing is half done."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from sqlalchemy import make_url

from tests.faults.toys import TOY, check_outputs, json_lines, numbered, toy_mill
from tests.mill import until

JOBS = 800
SMALL = {"window_jobs": "64"}


def test_a_second_writer_is_waited_for(tmp_path: Path, sqlite_url: str, redis_url: str) -> None:
    texts = numbered(JOBS)
    with toy_mill(tmp_path, database_url=sqlite_url, redis_url=redis_url, **SMALL) as ours:
        ours.start("worker", TOY, TOY_PASS_SECONDS="0.03")
        ours.until_ready()
        batch = ours.client.submit(TOY, texts)
        ours.until_answered(batch.id, 50)

        with closing(sqlite3.connect(make_url(sqlite_url).database, isolation_level=None, timeout=30)) as other:
            other.execute("BEGIN IMMEDIATE")
            time.sleep(5)  # the fault itself: the lock is held so long
            other.execute("ROLLBACK")
        batch.wait(90)

        ours.check(batch.id, JOBS)
        check_outputs(ours, batch.id, texts)


def test_a_full_disk_is_told_of_and_waited_for(tmp_path: Path, sqlite_url: str, redis_url: str) -> None:
    full, texts = tmp_path / "full", numbered(JOBS)
    with toy_mill(tmp_path, database_url=sqlite_url, redis_url=redis_url, **SMALL) as ours:
        ours.environment["TOY_DISK_FULL"] = str(full)
        ours.start("worker", TOY, TOY_PASS_SECONDS="0.03")
        [worker] = ours.until_ready()
        batch = ours.client.submit(TOY, texts)
        ours.until_answered(batch.id, 50)

        full.touch()
        until(lambda: "is full" in ours.log, "the worker noticing")
        ours.audit(batch.id)
        refused = ours.run("submit", "-", "-p", TOY, stdin=json_lines(numbered(20_000)))
        full.unlink()
        batch.wait(90)

        ours.check(batch.id, JOBS)
        check_outputs(ours, batch.id, texts)
        assert {row.attempts for row in ours.query("SELECT attempts FROM results")} == {1}
        assert ours.worker_pids() == [worker]
        assert refused.returncode == 5
        assert b"is full; make room on its disk" in refused.stderr
        assert [row.id for row in ours.query("SELECT id FROM batches")] == [batch.id], "what was refused left nothing"
        assert ours.query("SELECT count(*) AS n FROM jobs")[0].n == JOBS
