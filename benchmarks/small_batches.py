"""Many small batches: 10,000 batches of one job, on both databases.

Measures each claim of the backlog, and claims of a more urgent batch beside it, one slice at a time. Also measures the
time from the first claim to the last batch's end with a no-op model.
"""

import argparse
import logging
import math
import os
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import insert, text

from benchmarks import report
from benchmarks.noop_worker import load
from models import schema
from models.db import Database
from models.dialects.bulk_insert import insert_rows
from models.pipelines import builtin
from models.settings import Settings
from models.tables.batches import Batch
from tests.factories.batch_rows import BATCH_VALUES, PIPELINE, TASK, get_unanswered_jobs
from tests.servers import Postgres
from worker.engine.claim_size import ClaimSizer
from worker.engine.context import LoadedPipeline, WorkerContext
from worker.engine.engine import Engine
from worker.engine.wakeup import WakeupSignal
from worker.leasing import backlog
from worker.leasing.backlog import Backlog
from worker.leasing.claiming import claims
from worker.leasing.leases import Claimant, HeldLeases
from worker.loading import versions
from worker.passes.token_budget import TokenBudgetTuner

MODEL, REVISION = "no-op", "0"
MAX_CLAIM_JOBS, SLICE_JOBS = 4096, 1024
URGENT_SLICES = 1_000
MAX_CLAIMS, TARGET_CLAIM_MS, TARGET_URGENT_CLAIM_MS = 20, 100.0, 10.0
CLAIMANT = Claimant("worker-1", PIPELINE, TASK, MODEL, REVISION, 60.0)
COUNT_OPEN_BATCHES = "SELECT count(*) FROM batches WHERE status = 'in_progress'"


def main() -> int:
    """Print the table; returns 1 if claims are more, or slower, than their target."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.small_batches", description=__doc__)
    parser.add_argument("--batches", type=int, default=10_000)
    batches = parser.parse_args().batches
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    print(f"load before: {os.getloadavg()[0]:.1f}", flush=True)
    rows, met = [], True
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        postgres = stack.enter_context(Postgres())
        for name in ("PostgreSQL", "SQLite"):
            urls = (
                postgres.create_database(f"small_{part}") if name == "PostgreSQL" else f"sqlite:///{folder / part}.db"
                for part in ("claims", "urgent", "whole")
            )
            taken, inputs, waiting = _measure_claims(next(urls), batches)
            urgent = _measure_urgent_claims(next(urls), batches)
            whole = _measure_engine_run(next(urls), batches)
            rows.append(
                (
                    name,
                    f"{len(taken)}",
                    _format_percentile_ms(taken, 0.5),
                    _format_percentile_ms(taken, 1.0),
                    _format_percentile_ms(inputs, 0.5),
                    _format_percentile_ms(waiting, 0.5),
                    f"{_format_percentile_ms(urgent, 0.5)} / {_format_percentile_ms(urgent, 0.99)}",
                    f"{whole:.1f}",
                )
            )
            claim, beside = float(_format_percentile_ms(taken, 1.0)), float(_format_percentile_ms(urgent, 0.99))
            met = met and len(taken) <= MAX_CLAIMS and claim <= TARGET_CLAIM_MS and beside <= TARGET_URGENT_CLAIM_MS
    head = ("", "claims", "p50, ms", "max, ms", "inputs, ms", "waiting, ms", "urgent, p50 / p99", "to the end, s")
    report.print_table(f"{batches:,} batches of one job", head, rows)
    return 0 if met else 1


def _measure_claims(url: str, batches: int) -> tuple[list[float], list[float], list[float]]:
    """Return the seconds of each claim, of reading its inputs, and of listing the waiting pipelines."""
    database = _database_with_batches(url, batches)
    took: tuple[list[float], list[float], list[float]] = ([], [], [])
    while True:
        marks = [time.perf_counter()]
        leases = claims.claim(database, CLAIMANT, MAX_CLAIM_JOBS, SLICE_JOBS)
        marks.append(time.perf_counter())
        get_unanswered_jobs(database, leases)
        marks.append(time.perf_counter())
        backlog.select_claimable_work(database, {PIPELINE: ()})
        marks.append(time.perf_counter())
        if not leases:
            break
        for seconds, since, until in zip(took, marks[:-1], marks[1:], strict=True):
            seconds.append(until - since)
    database.close()
    return took


def _measure_urgent_claims(url: str, batches: int) -> list[float]:
    """Return the seconds of one-slice claims of an urgent batch, beside a backlog that is half claimed."""
    database = _database_with_batches(url, batches)
    held = 0
    while held < batches // 2 and (leases := claims.claim(database, CLAIMANT, MAX_CLAIM_JOBS, SLICE_JOBS)):
        held += len(leases)
    _insert_batches(database, "batch_urgent", range(1), URGENT_SLICES, priority=5)
    seconds = []
    for _ in range(URGENT_SLICES):
        started = time.perf_counter()
        [lease] = claims.claim(database, CLAIMANT, 1, 1)
        seconds.append(time.perf_counter() - started)
        assert lease.batch_id.startswith("batch_urgent")
    database.close()
    return seconds


def _measure_engine_run(url: str, batches: int) -> float:
    """Return the seconds from the engine's start to the last batch's end."""
    database = _database_with_batches(url, batches)
    runtime = load(builtin.BUILTIN_PIPELINES[0], "cpu")
    context = WorkerContext(
        worker_id=CLAIMANT.worker_id,
        device="cpu",
        settings=Settings.load(slice_size=SLICE_JOBS, poll_interval_seconds=0.5),
        database=database,
        claim_database=database,
        backlog=Backlog(database, {PIPELINE: ()}),
        wakeup_signal=WakeupSignal(),
        held_leases=HeldLeases(),
        on_fatal_error=lambda: os._exit(1),
        on_hang=lambda *_: os._exit(1),
    )
    pipeline = LoadedPipeline(
        runtime=runtime,
        claimant=CLAIMANT,
        version_id=versions.register_version(database, runtime.version),
        claim_sizer=ClaimSizer(10.0, MAX_CLAIM_JOBS),
        token_budget=TokenBudgetTuner(runtime.micro_batch_tokens, tunable=False),
        forward_timeout_seconds=600.0,
    )
    engine = Engine(context, pipeline)
    started = time.monotonic()
    engine.start()
    while _count_open_batches(database):
        threading.Event().wait(0.1)
    seconds = time.monotonic() - started
    engine.stop()
    engine.join()
    database.close()
    return seconds


def _count_open_batches(database: Database) -> int:
    with database.read() as connection:
        return int(connection.execute(text(COUNT_OPEN_BATCHES)).scalar_one())


def _database_with_batches(url: str, batches: int) -> Database:
    schema.upgrade(url)
    database = Database(url)
    _insert_batches(database, "batch", range(batches), 1)
    return database


def _insert_batches(database: Database, prefix: str, numbers: range, jobs: int, **columns: Any) -> None:
    ids = [f"{prefix}_{number:06}" for number in numbers]
    values = {**BATCH_VALUES, "model": MODEL, "revision": REVISION, "total": jobs, **columns}
    places = [(batch_id, place) for batch_id in ids for place in range(jobs)]
    with database.write() as connection:
        for some in (ids[start : start + 1_000] for start in range(0, len(ids), 1_000)):
            connection.execute(insert(Batch).values([{**values, "id": batch_id} for batch_id in some]))
        insert_rows(connection, "jobs", ("batch_id", "position", "input"), ((*at, '{"text": "a"}') for at in places))
        insert_rows(
            connection, "slices", ("batch_id", "start_position", "size", "state"), ((*at, 1, "queued") for at in places)
        )


def _format_percentile_ms(seconds: Sequence[float], quantile: float) -> str:
    ordered = sorted(seconds)
    return f"{ordered[max(0, math.ceil(len(ordered) * quantile) - 1)] * 1000:.1f}"


if __name__ == "__main__":
    sys.exit(main())
