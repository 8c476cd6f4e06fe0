"""Look-ups: how long a page of results and a batch's status take, by the calls behind `results` and `show`."""

import gc
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from batchmill import COLLECTION
from models.db import Database
from producer.batches import views, workers
from producer.results import pages
from producer.results.pages import PAGE_ROWS, ResultRow

LEASE_SECONDS = 30.0
LOOKS = 100
STATUS = "status"


def measured(database: Database, batch_id: str, jobs: int) -> dict[str, list[float]]:
    """Seconds of each look by what was looked up; the kinds take turns, after one look each that is not counted."""
    gc.set_threshold(*COLLECTION)  # as in a process of the command
    kinds = _kinds(database, batch_id, jobs)
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(LOOKS + 1):
        for name, look in kinds.items():
            started = time.perf_counter()
            found = look()
            if number:
                seconds[name].append(time.perf_counter() - started)
            if name != STATUS and len(found) != min(PAGE_ROWS, jobs):
                raise RuntimeError(f"a page of {len(found)} rows: {name}")
    return seconds


def percentile(seconds: Sequence[float], share: float) -> float:
    """In milliseconds."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000


def _kinds(database: Database, batch_id: str, jobs: int) -> dict[str, Callable[[], Any]]:
    last = max(0, jobs - PAGE_ROWS)
    kinds: dict[str, Callable[[], Any]] = {}
    for place, before in (("beginning", 0), ("middle", last // 2), ("end", last)):
        # `seq` counts from 1 and positions from 0; both cursors are of the row before the page.
        kinds[f"seq, {place}"] = partial(_landed, database, batch_id, before)
        kinds[f"position, {place}"] = partial(pages.page_by_position, database, batch_id, before - 1)
    kinds[STATUS] = lambda: (views.get(database, batch_id), workers.listed(database, LEASE_SECONDS))
    return kinds


def _landed(database: Database, batch_id: str, after: int) -> list[ResultRow]:
    return next(pages.pages_as_landed(database, batch_id, after, PAGE_ROWS))
