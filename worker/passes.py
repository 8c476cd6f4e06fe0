"""Passes: a window's micro-batches go through the device one by one, each for the budget of the moment."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from worker.adapters.base import Interrupted
from worker.batching import Encoded, MicroBatch, Packing
from worker.bisection import isolate
from worker.budget import Budget, out_of_memory
from worker.claims import Lease
from worker.holdings import Holdings
from worker.pace import Pace

if TYPE_CHECKING:
    from worker.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Window:
    """What one claim took, tokenized and to be packed."""

    leases: list[Lease]
    packing: Packing
    claimed: float  # when it was asked for, by the monotonic clock


@dataclass(frozen=True, slots=True)
class Raw:
    """What came off the device for one micro-batch: a raw output or an exception for each row."""

    width: int
    rows: list[tuple[Encoded, Any]]
    seconds: float = 0.0  # that the device computed


class Passes:
    """Of the device's thread alone, but for `stop`."""

    def __init__(self, runtime: "Runtime", budget: Budget, holdings: Holdings, pace: Pace, log: Any) -> None:
        self._runtime = runtime
        self._budget = budget
        self._holdings = holdings
        self._pace = pace
        self._log = log
        self._busy_seconds = 0.0  # that the device computed
        self._ended = 0.0  # when the window before was done
        self._stopping = False
        self._stop_by = math.inf  # when a pass that is not done yet is given up, by the monotonic clock
        runtime.adapter.interrupt = lambda: time.monotonic() > self._stop_by

    def stop(self, patience_seconds: float) -> None:
        """Begin no further pass, and give up the one on the device if it takes longer than this."""
        self._stop_by = min(self._stop_by, time.monotonic() + patience_seconds)
        self._stopping = True

    def through(self, window: Window) -> Iterator[Raw]:
        """What each micro-batch came to, as it comes; rows of slices that were lost meanwhile are left out."""
        started, answered, busy = time.monotonic(), 0, self._busy_seconds
        while not self._stopping and (batch := window.packing.take(asked := self._budget.next())) is not None:
            rows = [row for row in batch.rows if any(self._holdings.holds(job.lease) for job in row.jobs)]
            if not rows:
                continue
            before = self._busy_seconds
            try:
                raw = isolate(partial(self._forward, asked), rows, through=(Interrupted,))
            except Interrupted:
                self._log.info("gave a pass up, to stop in time", rows=len(rows))
                break
            yield Raw(batch.width, raw, self._busy_seconds - before)
            answered += sum(len(row.jobs) for row in rows if row.part == 0)
        self._note(window, started, answered, self._busy_seconds - busy)

    def _forward(self, asked: int, rows: Sequence[Encoded]) -> list[Any]:
        batch, started = MicroBatch(tuple(rows)), time.monotonic()
        try:
            raw = self._runtime.adapter.forward(batch)
        except Exception as error:
            if out_of_memory(error):
                self._budget.shrink(batch.padded_tokens)
                self._runtime.release_memory()
                self._log.warning("the device ran out of memory", tokens=batch.padded_tokens, next=self._budget.tokens)
            raise
        seconds = time.monotonic() - started
        self._budget.record(asked, batch.padded_tokens, sum(row.length for row in rows), seconds)
        self._busy_seconds += seconds
        return raw

    def _note(self, window: Window, started: float, answered: int, busy: float) -> None:
        now = time.monotonic()
        self._pace.record(answered, now - started)
        # Where work was waiting, whatever the device did not compute since the window before is time lost.
        share = busy / max(now - max(self._ended, window.claimed), 1e-6)
        self._ended = now
        self._log.info(
            "window computed", jobs=answered, seconds=round(now - started, 3), device_busy=round(min(share, 1.0), 3),
            tokens_per_batch=self._budget.tokens,
        )  # fmt: skip
