"""Celery peers: a separate worker, one message for each text, timed until the last row is inserted."""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg
from celery import Celery
from sqlalchemy import make_url

from benchmarks import THREADS, peer_environments
from tests.servers import Postgres, Valkey

CREATE_ANSWERS = """
CREATE TABLE answers (
    position integer PRIMARY KEY, label text NOT NULL, score double precision NOT NULL,
    written_at timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""
MAX_WAIT_SECONDS = 300.0
WARM_UP_TEXTS = 16
PROJECT_FOLDER = Path(__file__).resolve().parent.parent

TimedPublish = Callable[[Sequence[str]], float]


@contextmanager
def run_celery_worker(
    postgres: Postgres,
    valkey: Valkey,
    folder: Path,
    task: str,
    *,
    processes: int = 1,
    model: Path | None = None,
    flush_every: int = 0,
    threads: int = THREADS,
) -> Iterator[TimedPublish]:
    """Start a warm Celery worker for a task of `celery_tasks`; yields a function that sends texts.

    The function returns the seconds until the last row is inserted. With `flush_every`, the worker runs celery-batches
    in a separate environment.
    """
    name = f"queue_{uuid.uuid4().hex[:8]}"
    database = make_url(postgres.create_database(name)).set(drivername="postgresql").render_as_string(False)
    environment = {
        **os.environ,
        "BENCH_BROKER": valkey.url,
        "BENCH_DATABASE": database,
        "OMP_NUM_THREADS": str(threads),
        "BENCH_FLUSH_EVERY": str(flush_every),
        "BENCH_PREFETCH": str(4 * max(1, flush_every)),
        "BENCH_MODEL": str(model or ""),
        "PYTHONPATH": str(PROJECT_FOLDER),
        "TRANSFORMERS_VERBOSITY": "error",
    }
    python = peer_environments.celery_batches_python() if flush_every else Path(sys.executable)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(CREATE_ANSWERS)
        with (folder / f"{name}.log").open("wb") as log:
            worker = subprocess.Popen(
                [
                    python,
                    "-m",
                    "celery",
                    "-A",
                    "benchmarks.celery_tasks",
                    "worker",
                    "--queues",
                    name,
                    "--concurrency",
                    str(processes),
                    "--hostname",
                    name,
                    "--without-gossip",
                    "--without-mingle",
                    "--loglevel",
                    "WARNING",
                ],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        app = Celery("bench", broker=valkey.url, set_as_current=False)
        try:
            yield _publisher_for(app, connection, f"bench.{task}", name, worker)
        finally:
            app.close()
            worker.terminate()
            worker.wait(60)
    postgres.drop_database(name)


def _publisher_for(
    app: Celery, connection: psycopg.Connection, task: str, queue: str, worker: subprocess.Popen[bytes]
) -> TimedPublish:
    def publish(texts: Sequence[str]) -> float:
        connection.execute("TRUNCATE answers")
        started = time.time()
        with app.producer_pool.acquire(block=True) as producer:
            for position, text in enumerate(texts):
                app.send_task(task, args=[position, text], queue=queue, producer=producer, ignore_result=True)
        ended = _wait_for_last_row(connection, len(texts), started + MAX_WAIT_SECONDS, worker)
        return ended - started

    publish(["a text to warm up with"] * WARM_UP_TEXTS)
    return publish


def _wait_for_last_row(
    connection: psycopg.Connection, count: int, deadline: float, worker: subprocess.Popen[bytes]
) -> float:
    query = "SELECT count(*), extract(epoch FROM max(written_at)) FROM answers"
    while time.time() < deadline and worker.poll() is None:
        found = connection.execute(query).fetchone()
        if found and found[0] == count:
            return float(found[1])
        time.sleep(0.1)
    raise TimeoutError(f"the Celery worker did not answer {count} texts")
