"""Redis and PostgreSQL that go away in the middle of the work, and come back."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from sqlalchemy import make_url

from models import schema
from tests.mill import PIPELINE, mill, texts
from tests.servers import Postgres, Valkey

JOBS = 3_000
SMALL = {"tokens_per_batch": "128", "slice_jobs": "256", "window_jobs": "512"}


def test_work_goes_on_while_redis_is_emptied_restarted_and_stopped(
    tmp_path: Path, database_url: str, own_valkey: Valkey
) -> None:
    with mill(tmp_path, database_url=database_url, redis_url=own_valkey.url, **SMALL) as ours:
        ours.start("worker", PIPELINE, "--devices", "cpu")
        ours.until_ready()
        batch = ours.client.submit(PIPELINE, texts(JOBS))
        ours.until_answered(batch.id, 200)

        own_valkey.flush()
        own_valkey.restart()
        own_valkey.pause()
        started = time.monotonic()
        second = ours.client.submit(PIPELINE, texts(300))
        answered_in = time.monotonic() - started
        second.wait(90)  # found in SQL, without a bell
        own_valkey.resume()
        batch.wait(90)
        third = ours.client.submit(PIPELINE, texts(300))
        third.wait(90)

        ours.check(batch.id, JOBS)
        ours.check(second.id, 300)
        ours.check(third.id, 300)
        assert second.warning is not None
        assert answered_in < 10, "the submit's answer must be bounded"
        assert third.warning is None


def test_a_postgresql_that_stops_at_once_costs_no_attempt(
    tmp_path: Path, own_postgres: Postgres, redis_url: str
) -> None:
    url = own_postgres.create_database("mill")
    schema.upgrade(url)
    with mill(tmp_path, database_url=url, redis_url=redis_url, **SMALL, lease_seconds="30") as ours:
        ours.start("worker", PIPELINE, "--devices", "cpu")
        ours.until_ready()
        batch = ours.client.submit(PIPELINE, texts(JOBS))
        ours.until_answered(batch.id, 200)

        own_postgres.stop("immediate")
        own_postgres.start()
        ours.until_answered(batch.id, 1_000)
        own_postgres.terminate_connections("mill")
        batch.wait(90)

        ours.check(batch.id, JOBS)
        attempts = ours.query("SELECT max(attempts) AS most FROM results WHERE batch_id = :id", id=batch.id)
        assert attempts[0].most == 1


def test_a_second_sqlite_writer_is_waited_for(tmp_path: Path, sqlite_url: str, redis_url: str) -> None:
    with mill(tmp_path, database_url=sqlite_url, redis_url=redis_url, **SMALL) as ours:
        ours.start("worker", PIPELINE, "--devices", "cpu")
        ours.until_ready()
        batch = ours.client.submit(PIPELINE, texts(JOBS))
        ours.until_answered(batch.id, 200)

        with closing(sqlite3.connect(make_url(sqlite_url).database, isolation_level=None, timeout=30)) as other:
            other.execute("BEGIN IMMEDIATE")
            time.sleep(5)  # the fault itself: the lock is held so long
            other.execute("ROLLBACK")
        batch.wait(90)

        ours.check(batch.id, JOBS)


def test_a_full_redis_stops_nobody(tmp_path: Path, database_url: str, own_valkey: Valkey) -> None:
    own_valkey.config_set("maxmemory-policy", "noeviction")
    own_valkey.config_set("maxmemory", "1")
    with mill(tmp_path, database_url=database_url, redis_url=own_valkey.url) as ours:
        ours.start("worker", PIPELINE, "--devices", "cpu")
        [worker] = ours.until_ready()

        batch = ours.client.submit(PIPELINE, texts(300))

        assert batch.warning is not None
        batch.wait(90)
        ours.check(batch.id, 300)
        assert ours.worker_pids() == [worker]  # it did not have to be started again
