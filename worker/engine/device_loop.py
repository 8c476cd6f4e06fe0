"""Passes: a window's micro-batches go through the device one by one, each for the budget of the moment."""

import math
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from models.failpoints import failpoint
from worker.adapters.interface import ContinuousAdapter, Interrupted
from worker.adapters.rows import MicroBatch, Row
from worker.engine.bisection import bisect_failed, isolate_failures
from worker.engine.claim_size import ClaimSizer
from worker.engine.planning import MicroBatchPlanner
from worker.engine.token_budget import TokenBudgetTuner
from worker.engine.watchdog import Watchdog
from worker.failures import DeviceLost, is_device_lost, is_out_of_memory
from worker.leasing.leases import HeldLeases, Lease

if TYPE_CHECKING:
    from worker.loading.runtime import Runtime

NOT_INPUT_ERRORS = (Interrupted, DeviceLost)


@dataclass(frozen=True, slots=True)
class PrefetchedRows:
    """What one claim took, tokenized and to be packed."""

    leases: list[Lease]
    planner: MicroBatchPlanner
    claim_requested_at: float  # when it was asked for, by the monotonic clock


@dataclass(frozen=True, slots=True)
class RawOutputs:
    """What came off the device for one micro-batch: a raw output or an exception for each row."""

    width: int
    rows: list[tuple[Row, Any]]
    device_seconds: float = 0.0  # that the device computed


class RunningMicroBatch:
    """The rows of a pass that others enter while it runs."""

    def __init__(self, first_rows: Sequence[Row], fetch_rows: Callable[[int], list[Row]]) -> None:
        self.rows = list(first_rows)
        self.has_grown = False  # whether others have entered
        self._fetch_rows = fetch_rows

    def fetch(self, max_rows: int) -> list[Row]:
        """At most so many that enter now."""
        rows = self._fetch_rows(max_rows)
        self.rows += rows
        self.has_grown = self.has_grown or bool(rows)
        return rows

    def remove(self, finished_rows: Sequence[tuple[Row, Any]]) -> None:
        """They have been answered."""
        gone = {id(row) for row, _ in finished_rows}
        self.rows = [row for row in self.rows if id(row) not in gone]


class DeviceLoop:
    """Of the device's thread alone, but for `stop`."""

    def __init__(
        self,
        runtime: "Runtime",
        token_budget: TokenBudgetTuner,
        held_leases: HeldLeases,
        claim_sizer: ClaimSizer,
        watchdog: Watchdog,
        log: Any,
    ) -> None:
        self._runtime = runtime
        self._watchdog = watchdog
        self._token_budget = token_budget
        self._held_leases = held_leases
        self._claim_sizer = claim_sizer
        self._log = log
        self._max_rows = runtime.adapter.max_rows  # at once, where rows come and go
        self._busy_seconds = 0.0  # that the device computed
        self._previous_ended_at = 0.0  # when the window before was done
        self._stopping = False
        self._abort_at = math.inf  # when a pass that is not done yet is given up, by the monotonic clock
        runtime.adapter.should_interrupt = self._should_interrupt

    def stop(self, max_forward_seconds: float) -> None:
        """Begin no further pass, and give up the one on the device if it takes longer than this."""
        self._abort_at = min(self._abort_at, time.monotonic() + max_forward_seconds)
        self._stopping = True

    def run(self, prefetched: PrefetchedRows) -> Iterator[RawOutputs]:
        """What each micro-batch came to, as it comes; rows of slices that were lost meanwhile are left out."""
        started, answered, busy = time.monotonic(), 0, self._busy_seconds
        try:
            while (
                not self._stopping
                and (batch := prefetched.planner.next(asked := self._token_budget.next())) is not None
            ):
                for raw in self._run(prefetched.planner, self._held_rows(batch), asked):
                    yield raw
                    answered += sum(len(row.jobs) for row, _ in raw.rows if row.part_index == 0)
        except Interrupted:
            self._log.info("gave a pass up, to stop in time")
        self._record_claim(prefetched, started, answered, self._busy_seconds - busy)

    def _should_interrupt(self) -> bool:
        """Asked between two tokens: whoever asks has not hung."""
        self._watchdog.reset_timer()
        return time.monotonic() > self._abort_at

    def _held_rows(self, micro_batch: MicroBatch | None) -> list[Row]:
        rows = micro_batch.rows if micro_batch else ()
        return [row for row in rows if any(self._held_leases.is_held(job.lease) for job in row.jobs)]

    def _run(self, planner: MicroBatchPlanner, rows: list[Row], requested_tokens: int) -> Iterator[RawOutputs]:
        """The rows' pass; where rows leave passes as they end, others of the window enter it."""
        if rows and isinstance(self._runtime.adapter, ContinuousAdapter):
            yield from self._run_continuous(self._runtime.adapter, planner, rows, requested_tokens)
        elif rows:
            before = self._busy_seconds
            yield self._raw_outputs(
                isolate_failures(partial(self._forward, requested_tokens), rows, reraise=NOT_INPUT_ERRORS), before
            )

    def _run_continuous(
        self, adapter: ContinuousAdapter, planner: MicroBatchPlanner, rows: list[Row], requested_tokens: int
    ) -> Iterator[RawOutputs]:
        running = RunningMicroBatch(rows, partial(self._fetch, planner, rows[0], requested_tokens))
        answers, began = adapter.generate(rows, running.fetch, self._max_rows), self._busy_seconds
        while running.rows:
            before, started = self._busy_seconds, time.monotonic()
            try:
                with self._watchdog.watch():
                    failpoint("mid_forward")
                    ended = next(answers)
            except BaseException as error:
                # What has come out is answered; the rest is gone through by halves, in passes that nobody enters.
                self._handle_failure(error, running.rows)
                yield self._raw_outputs(
                    bisect_failed(error, partial(self._forward, requested_tokens), running.rows, NOT_INPUT_ERRORS),
                    before,
                )
                return
            self._busy_seconds += time.monotonic() - started
            running.remove(ended)
            yield self._raw_outputs(ended, before)
        self._max_rows = min(2 * self._max_rows, adapter.max_rows)
        if not running.has_grown:  # otherwise its size was not that of the budget
            tokens = MicroBatch(tuple(rows)).padded_tokens
            self._token_budget.record(
                requested_tokens, tokens, sum(row.length for row in rows), self._busy_seconds - began
            )

    def _fetch(self, planner: MicroBatchPlanner, first_row: Row, requested_tokens: int, max_rows: int) -> list[Row]:
        while (
            not self._stopping and (batch := planner.next_compatible(first_row, requested_tokens, max_rows)) is not None
        ):
            if rows := self._held_rows(batch):
                return rows
        return []

    def _raw_outputs(self, rows: list[tuple[Row, Any]], seconds_before: float) -> RawOutputs:
        return RawOutputs(max(row.padded_length for row, _ in rows), rows, self._busy_seconds - seconds_before)

    def _forward(self, requested_tokens: int, rows: Sequence[Row]) -> list[Any]:
        batch, started = MicroBatch(tuple(rows)), time.monotonic()
        try:
            with self._watchdog.watch():
                failpoint("mid_forward")
                raw = self._runtime.adapter.forward(batch)
        except Exception as error:
            self._handle_failure(error, rows)
            raise
        seconds = time.monotonic() - started
        self._token_budget.record(requested_tokens, batch.padded_tokens, sum(row.length for row in rows), seconds)
        self._busy_seconds += seconds
        return raw

    def _handle_failure(self, error: BaseException, rows: Sequence[Row]) -> None:
        if is_device_lost(error):
            raise DeviceLost from error
        if isinstance(error, Exception) and is_out_of_memory(error):
            tokens = MicroBatch(tuple(rows)).padded_tokens
            self._token_budget.shrink(tokens)
            self._max_rows = max(1, len(rows) // 2)
            traceback.clear_frames(error.__traceback__)  # they hold the pass' tensors
            self._runtime.release_memory()
            self._log.warning("the device ran out of memory", tokens=tokens, next=self._token_budget.tokens)

    def _record_claim(
        self, prefetched: PrefetchedRows, started: float, answered_jobs: int, busy_seconds: float
    ) -> None:
        now = time.monotonic()
        self._claim_sizer.record(answered_jobs, now - started)
        # Where work was waiting, whatever the device did not compute since the window before is time lost.
        share = busy_seconds / max(now - max(self._previous_ended_at, prefetched.claim_requested_at), 1e-6)
        self._previous_ended_at = now
        self._log.info(
            "window computed",
            jobs=answered_jobs,
            seconds=round(now - started, 3),
            device_busy=round(min(share, 1.0), 3),
            tokens_per_batch=self._token_budget.tokens,
        )
