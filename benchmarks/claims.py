"""Claims at scale: a million queued jobs in 50 batches, while a long transaction keeps every dead row.

Only slices are inserted, because a claim reads no job. A commit can also write a result for each of a slice's jobs.
Latency is that of `claims.claim` for one slice.
"""

import argparse
import math
import multiprocessing
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from typing import Any

import psycopg
from sqlalchemy import insert, make_url, text

from benchmarks import report
from models import schema
from models.db import Database
from models.dialects.bulk_insert import insert_rows
from models.lifecycle import wakeups
from models.settings import Settings
from models.states import JobOutcome
from models.tables.batches import Batch
from tests.factories.batch_rows import BATCH_VALUES, MODEL, PIPELINE, REVISION, TASK
from tests.servers import Postgres, Valkey
from worker.leasing import backlog, commit
from worker.leasing.claiming import claims
from worker.leasing.job_results import BatchCommit, JobResult
from worker.leasing.leases import Claimant, Lease
from worker.maintenance import tasks
from worker.maintenance.loop import MaintenanceLoop
from worker.maintenance.tasks import MaintenanceTask

BATCH_COUNT, SLICE_JOBS = 50, 1024
CLAIMANT_COUNT = 32
LEASE_SECONDS = 30.0
OUTPUT = '{"label": "POSITIVE", "score": 0.998}'
TARGET_CLAIM_MS, TARGET_RESEND_SECONDS = 10.0, 60.0

SELECT_WAIT_EVENTS = """
SELECT coalesce(wait_event_type || ': ' || wait_event, 'running') FROM pg_stat_activity
WHERE datname = %s AND application_name = 'batchmill' AND state = 'active' AND pid <> pg_backend_pid()
"""
WAIT_SAMPLE_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class ClaimMeasurement:
    """Seconds of each claim, total seconds, and the wait events of PostgreSQL sessions meanwhile."""

    claim_seconds: list[float]
    total_seconds: float
    slices: int
    wait_events: Counter[str]

    def table_row(self, name: str) -> tuple[str, ...]:
        """Format the row of the table."""
        sampled = max(1, sum(self.wait_events.values()))
        locks = sum(count for wait, count in self.wait_events.items() if wait.startswith("Lock: "))
        return (
            name,
            _format_percentile_ms(self.claim_seconds, 0.5),
            _format_percentile_ms(self.claim_seconds, 0.99),
            _format_percentile_ms(self.claim_seconds, 1.0),
            f"{self.slices / self.total_seconds:,.0f}",
            f"{locks / sampled:.1%}",
        )


def main() -> int:
    """Print the tables; returns 1 if a claim or resending wakeups misses its target."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.claims", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1_000_000)
    options = parser.parse_args()
    print(f"load before: {os.getloadavg()[0]:.1f}", flush=True)
    with Postgres() as postgres, Valkey() as valkey:
        quiet = _measure_claims(postgres, options.jobs, claimants=1, results_per_slice=0)
        alone = _measure_claims(postgres, options.jobs, claimants=1, results_per_slice=SLICE_JOBS)
        bare = _measure_claims(postgres, options.jobs, claimants=CLAIMANT_COUNT, results_per_slice=0)
        many = _measure_claims(postgres, options.jobs, claimants=CLAIMANT_COUNT, results_per_slice=SLICE_JOBS)
        resend_seconds = _seconds_to_resend_wakeups(postgres, valkey, options.jobs)
    head = ("claim, renew, close", "claim p50, ms", "p99, ms", "max, ms", "slices/s", "waits for a lock")
    title = (
        f"Claims: {options.jobs:,} jobs queued in {BATCH_COUNT} batches, slices of {SLICE_JOBS:,}, a transaction open"
    )
    report.print_table(
        title,
        head,
        [
            quiet.table_row("1 claimant, no results"),
            alone.table_row(f"1 claimant, {SLICE_JOBS:,} results each"),
            bare.table_row(f"{CLAIMANT_COUNT} claimants, no results"),
            many.table_row(f"{CLAIMANT_COUNT} claimants, {SLICE_JOBS:,} results each"),
        ],
    )
    for name, ran in ((f"{CLAIMANT_COUNT} claimants, no results", bare), (f"{CLAIMANT_COUNT} with results", many)):
        shares = (
            f"{wait} {count / sum(ran.wait_events.values()):.0%}" for wait, count in ran.wait_events.most_common(5)
        )
        print(f"Sessions at work, {name}: {', '.join(shares)}")
    claim = float(_format_percentile_ms(quiet.claim_seconds, 0.99))
    report.print_table(
        "",
        ("figure", "target", "measured", "met"),
        [
            ("claim by one, p99", f"{TARGET_CLAIM_MS} ms", f"{claim} ms", "yes" if claim <= TARGET_CLAIM_MS else "no"),
            (
                "all wakeups resent after FLUSHALL",
                f"{TARGET_RESEND_SECONDS} s",
                f"{resend_seconds:.1f} s",
                "yes" if resend_seconds <= TARGET_RESEND_SECONDS else "no",
            ),
        ],
    )
    return 0 if claim <= TARGET_CLAIM_MS and resend_seconds <= TARGET_RESEND_SECONDS else 1


def _measure_claims(postgres: Postgres, jobs: int, *, claimants: int, results_per_slice: int) -> ClaimMeasurement:
    with _database_with_queued_jobs(postgres, jobs) as url, _long_transaction(url), _sample_wait_events(url) as waits:
        context = multiprocessing.get_context("fork")
        barrier, told = context.Barrier(claimants + 1), context.SimpleQueue()
        workers = [
            context.Process(target=_claim_all, args=(url, f"worker-{number}", results_per_slice, barrier, told))
            for number in range(claimants)
        ]
        for worker in workers:
            worker.start()
        barrier.wait()
        started = time.monotonic()
        seconds = [taken for _ in workers for taken in told.get()]
        wall = time.monotonic() - started
        for worker in workers:
            worker.join()
    return ClaimMeasurement(seconds, wall, BATCH_COUNT * math.ceil(jobs // BATCH_COUNT / SLICE_JOBS), waits)


def _claim_all(url: str, worker_id: str, results_per_slice: int, barrier: Barrier, seconds_queue: Any) -> None:
    database = Database(url)
    who = Claimant(worker_id, PIPELINE, TASK, MODEL, REVISION, LEASE_SECONDS)
    seconds: list[float] = []
    try:
        backlog.select_claimable_work(database, {PIPELINE: ()})  # opens the connection
        barrier.wait()
        while backlog.select_claimable_work(database, {PIPELINE: ()}):
            started = time.perf_counter()
            leases = claims.claim(database, who, SLICE_JOBS, SLICE_JOBS)
            if leases:
                seconds.append(time.perf_counter() - started)
                with database.write() as connection:
                    claims.renew(connection, database.sql, leases, LEASE_SECONDS)
                _commit_leases(database, leases, results_per_slice)
    finally:
        seconds_queue.put(seconds)
        database.close()


def _commit_leases(database: Database, leases: Sequence[Lease], results_per_slice: int) -> None:
    for lease in leases:  # a batch's last slice is shorter, and arrives with another
        places = range(lease.start_position, lease.start_position + min(results_per_slice, lease.size))
        written = [JobResult(lease, place, JobOutcome.SUCCEEDED, OUTPUT) for place in places]
        with database.write() as connection:
            commit.commit_results(connection, BatchCommit([lease], written, {lease.slice_id}))


@contextmanager
def _database_with_queued_jobs(postgres: Postgres, jobs: int) -> Iterator[str]:
    """Yield the URL of a database with this many queued jobs, of which only the slices exist."""
    url = postgres.create_database("claims")
    schema.upgrade(url)
    database = Database(url)
    each = jobs // BATCH_COUNT
    ids = [f"batch_{number:03}" for number in range(BATCH_COUNT)]
    values = {**BATCH_VALUES, "total": each}
    with database.write() as connection:
        connection.execute(insert(Batch).values([{**values, "id": batch_id} for batch_id in ids]))
        connection.execute(text("UPDATE batches SET in_progress_at = now() - interval '1 minute'"))
        insert_rows(
            connection,
            "slices",
            ("batch_id", "start_position", "size", "state"),
            (
                (batch_id, first, min(SLICE_JOBS, each - first), "queued")
                for batch_id in ids
                for first in range(0, each, SLICE_JOBS)
            ),
        )
    database.close()
    yield url
    postgres.drop_database("claims")


@contextmanager
def _long_transaction(url: str) -> Iterator[None]:
    """Hold a transaction open, so that vacuum can remove no dead row."""
    with psycopg.connect(_libpq_url(url)) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT count(*) FROM slices")
        yield
        connection.rollback()


@contextmanager
def _sample_wait_events(url: str) -> Iterator[Counter[str]]:
    """Sample the wait events of active sessions at intervals."""
    waits: Counter[str] = Counter()
    stop = threading.Event()

    def look() -> None:
        with psycopg.connect(_libpq_url(url), autocommit=True, application_name="sampler") as connection:
            while not stop.wait(WAIT_SAMPLE_SECONDS):
                waits.update(row[0] for row in connection.execute(SELECT_WAIT_EVENTS, ("claims",)))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield waits
    finally:
        stop.set()
        thread.join()


def _seconds_to_resend_wakeups(postgres: Postgres, valkey: Valkey, jobs: int) -> float:
    """Return the seconds from FLUSHALL until every slice has a wakeup, at the default maintenance interval."""
    with _database_with_queued_jobs(postgres, jobs) as url:
        settings = Settings.load(database_url=url, redis_url=valkey.url)
        database = Database(url)
        with database.read() as connection:
            slice_count = connection.execute(text("SELECT count(*) FROM slices")).scalar_one()
        wakeups.send_wakeups(settings, PIPELINE, slice_count)
        wakeup_tasks: list[MaintenanceTask] = [
            task for task in tasks.default_tasks(database, settings) if task.name == "wakeups"
        ]
        looking = MaintenanceLoop(database, wakeup_tasks, "benchmark", reclaim_grace_seconds=0.0)
        looking.start()
        valkey.flush()
        started = time.monotonic()
        while wakeups.queue_depths(settings, [PIPELINE])[PIPELINE] < min(slice_count, wakeups.MAX_WAKEUPS):
            time.sleep(0.05)
        seconds = time.monotonic() - started
        looking.stop()
        database.close()
    return seconds


def _libpq_url(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def _format_percentile_ms(seconds: Sequence[float], quantile: float) -> str:
    ordered = sorted(seconds)
    return f"{ordered[min(len(ordered) - 1, int(len(ordered) * quantile))] * 1000:.1f}"


if __name__ == "__main__":
    sys.exit(main())
