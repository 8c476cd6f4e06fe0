"""Read latency of a page of results and of a batch's status, through the calls behind `results` and `show`."""

import gc
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from batchmill import GC_THRESHOLDS
from models.db import Database
from producer.batches import views
from producer.results import pages
from producer.results.pages import PAGE_ROWS
from producer.results.result_row import ResultRow
from producer.workers import workers

LEASE_SECONDS = 30.0
READ_COUNT = 100
STATUS_READ = "status"


def measure_reads(database: Database, batch_id: str, jobs: int) -> dict[str, list[float]]:
    """Return seconds by kind of read; the kinds alternate, after one uncounted read each."""
    gc.set_threshold(*GC_THRESHOLDS)  # as in the command's process
    kinds = _reads_by_name(database, batch_id, jobs)
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(READ_COUNT + 1):
        for name, look in kinds.items():
            started = time.perf_counter()
            found = look()
            if number:
                seconds[name].append(time.perf_counter() - started)
            if name != STATUS_READ and len(found) != min(PAGE_ROWS, jobs):
                raise RuntimeError(f"a page of {len(found)} rows: {name}")
    return seconds


def percentile_ms(seconds: Sequence[float], quantile: float) -> float:
    """Return a percentile in milliseconds."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(len(ordered) * quantile))] * 1000


def _reads_by_name(database: Database, batch_id: str, jobs: int) -> dict[str, Callable[[], Any]]:
    last = max(0, jobs - PAGE_ROWS)
    kinds: dict[str, Callable[[], Any]] = {}
    for place, before in (("beginning", 0), ("middle", last // 2), ("end", last)):
        # `seq` counts from 1 and positions from 0; both cursors are those of the row before the page.
        kinds[f"seq, {place}"] = partial(_read_page_by_seq, database, batch_id, before)
        kinds[f"position, {place}"] = partial(pages.fetch_page_by_position, database, batch_id, before - 1)
    kinds[STATUS_READ] = lambda: (views.get_batch(database, batch_id), workers.list_workers(database, LEASE_SECONDS))
    return kinds


def _read_page_by_seq(database: Database, batch_id: str, after: int) -> list[ResultRow]:
    return next(pages.iter_pages(database, batch_id, after, PAGE_ROWS))
