"""Passes: a window's micro-batches go through the device one by one, each for the budget of the moment."""

import math
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from models.failpoints import failpoint
from worker.adapters.interface import Flowing, Interrupted
from worker.adapters.rows import Encoded, MicroBatch
from worker.engine.bisection import apart, isolate
from worker.engine.claim_size import Pace
from worker.engine.planning import Packing
from worker.engine.token_budget import Budget
from worker.engine.watchdog import Watchdog
from worker.failures import DeviceBroken, breaks, out_of_memory
from worker.leasing.leases import Holdings, Lease

if TYPE_CHECKING:
    from worker.loading.runtime import Runtime

NOBODY_S_FAULT = (Interrupted, DeviceBroken)


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


class Running:
    """The rows of a pass that others enter while it runs."""

    def __init__(self, first: Sequence[Encoded], draw: Callable[[int], list[Encoded]]) -> None:
        self.rows = list(first)
        self.drew = False  # whether others have entered
        self._draw = draw

    def more(self, most: int) -> list[Encoded]:
        """At most so many that enter now."""
        rows = self._draw(most)
        self.rows += rows
        self.drew = self.drew or bool(rows)
        return rows

    def leave(self, ended: Sequence[tuple[Encoded, Any]]) -> None:
        """They have been answered."""
        gone = {id(row) for row, _ in ended}
        self.rows = [row for row in self.rows if id(row) not in gone]


class Passes:
    """Of the device's thread alone, but for `stop`."""

    def __init__(
        self, runtime: "Runtime", budget: Budget, holdings: Holdings, pace: Pace, watchdog: Watchdog, log: Any
    ) -> None:
        self._runtime = runtime
        self._watchdog = watchdog
        self._budget = budget
        self._holdings = holdings
        self._pace = pace
        self._log = log
        self._most_rows = runtime.adapter.most_rows  # at once, where rows come and go
        self._busy_seconds = 0.0  # that the device computed
        self._ended = 0.0  # when the window before was done
        self._stopping = False
        self._stop_by = math.inf  # when a pass that is not done yet is given up, by the monotonic clock
        runtime.adapter.interrupt = self._interrupted

    def stop(self, patience_seconds: float) -> None:
        """Begin no further pass, and give up the one on the device if it takes longer than this."""
        self._stop_by = min(self._stop_by, time.monotonic() + patience_seconds)
        self._stopping = True

    def through(self, window: Window) -> Iterator[Raw]:
        """What each micro-batch came to, as it comes; rows of slices that were lost meanwhile are left out."""
        started, answered, busy = time.monotonic(), 0, self._busy_seconds
        try:
            while not self._stopping and (batch := window.packing.take(asked := self._budget.next())) is not None:
                for raw in self._passed(window.packing, self._held(batch), asked):
                    yield raw
                    answered += sum(len(row.jobs) for row, _ in raw.rows if row.part == 0)
        except Interrupted:
            self._log.info("gave a pass up, to stop in time")
        self._note(window, started, answered, self._busy_seconds - busy)

    def _interrupted(self) -> bool:
        """Asked between two tokens: whoever asks has not hung."""
        self._watchdog.alive()
        return time.monotonic() > self._stop_by

    def _held(self, batch: MicroBatch | None) -> list[Encoded]:
        rows = batch.rows if batch else ()
        return [row for row in rows if any(self._holdings.holds(job.lease) for job in row.jobs)]

    def _passed(self, packing: Packing, rows: list[Encoded], asked: int) -> Iterator[Raw]:
        """The rows' pass; where rows leave passes as they end, others of the window enter it."""
        if rows and isinstance(self._runtime.adapter, Flowing):
            yield from self._flowing(self._runtime.adapter, packing, rows, asked)
        elif rows:
            before = self._busy_seconds
            yield self._raw(isolate(partial(self._forward, asked), rows, through=NOBODY_S_FAULT), before)

    def _flowing(self, adapter: Flowing, packing: Packing, rows: list[Encoded], asked: int) -> Iterator[Raw]:
        running = Running(rows, partial(self._drawn, packing, rows[0], asked))
        answers, began = adapter.flow(rows, running.more, self._most_rows), self._busy_seconds
        while running.rows:
            before, started = self._busy_seconds, time.monotonic()
            try:
                with self._watchdog.watching():
                    failpoint("mid_forward")
                    ended = next(answers)
            except BaseException as error:
                # What has come out is answered; the rest is gone through by halves, in passes that nobody enters.
                self._failed(error, running.rows)
                yield self._raw(apart(error, partial(self._forward, asked), running.rows, NOBODY_S_FAULT), before)
                return
            self._busy_seconds += time.monotonic() - started
            running.leave(ended)
            yield self._raw(ended, before)
        self._most_rows = min(2 * self._most_rows, adapter.most_rows)
        if not running.drew:  # otherwise its size was not that of the budget
            tokens = MicroBatch(tuple(rows)).padded_tokens
            self._budget.record(asked, tokens, sum(row.length for row in rows), self._busy_seconds - began)

    def _drawn(self, packing: Packing, like: Encoded, asked: int, most: int) -> list[Encoded]:
        while not self._stopping and (batch := packing.more(like, asked, most)) is not None:
            if rows := self._held(batch):
                return rows
        return []

    def _raw(self, rows: list[tuple[Encoded, Any]], before: float) -> Raw:
        return Raw(max(row.padded for row, _ in rows), rows, self._busy_seconds - before)

    def _forward(self, asked: int, rows: Sequence[Encoded]) -> list[Any]:
        batch, started = MicroBatch(tuple(rows)), time.monotonic()
        try:
            with self._watchdog.watching():
                failpoint("mid_forward")
                raw = self._runtime.adapter.forward(batch)
        except Exception as error:
            self._failed(error, rows)
            raise
        seconds = time.monotonic() - started
        self._budget.record(asked, batch.padded_tokens, sum(row.length for row in rows), seconds)
        self._busy_seconds += seconds
        return raw

    def _failed(self, error: BaseException, rows: Sequence[Encoded]) -> None:
        if breaks(error):
            raise DeviceBroken from error
        if isinstance(error, Exception) and out_of_memory(error):
            tokens = MicroBatch(tuple(rows)).padded_tokens
            self._budget.shrink(tokens)
            self._most_rows = max(1, len(rows) // 2)
            traceback.clear_frames(error.__traceback__)  # they hold the pass' tensors
            self._runtime.release_memory()
            self._log.warning("the device ran out of memory", tokens=tokens, next=self._budget.tokens)

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
