"""The device loop runs a claim's micro-batches one by one, each within the current token budget."""

import math
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from models.processes.failpoints import failpoint
from worker.adapters.interface import ContinuousAdapter, Interrupted
from worker.adapters.rows import MicroBatch, Row
from worker.engine.bisection import bisect_failed, isolate_failures
from worker.engine.claim_size import ClaimSizer
from worker.engine.planning import MicroBatchPlanner
from worker.engine.token_budget import TokenBudgetTuner
from worker.engine.watchdog import Watchdog
from worker.failures import DeviceLost, is_device_lost, is_out_of_memory, mark_transient
from worker.leasing.leases import HeldLeases, Lease

if TYPE_CHECKING:
    from worker.loading.runtime import Runtime

NOT_INPUT_ERRORS = (Interrupted, DeviceLost)


@dataclass(frozen=True, slots=True)
class PrefetchedRows:
    """Tokenized rows of one claim, ready to be planned into micro-batches."""

    leases: list[Lease]
    planner: MicroBatchPlanner
    claim_requested_at: float  # by the monotonic clock


@dataclass(frozen=True, slots=True)
class RawOutputs:
    """The outputs of one micro-batch: a raw output or an exception for each row."""

    width: int
    rows: list[tuple[Row, Any]]
    device_seconds: float = 0.0


class RunningMicroBatch:
    """A micro-batch that rows join and leave while it runs."""

    def __init__(self, first_rows: Sequence[Row], fetch_rows: Callable[[int], list[Row]]) -> None:
        self.rows = list(first_rows)
        self.has_grown = False  # whether rows have joined it
        self._fetch_rows = fetch_rows

    def fetch(self, max_rows: int) -> list[Row]:
        """Add up to `max_rows` rows, and return them."""
        rows = self._fetch_rows(max_rows)
        self.rows += rows
        self.has_grown = self.has_grown or bool(rows)
        return rows

    def remove(self, finished_rows: Sequence[tuple[Row, Any]]) -> None:
        """Remove the rows that have their outputs."""
        finished_ids = {id(row) for row, _ in finished_rows}
        self.rows = [row for row in self.rows if id(row) not in finished_ids]


class DeviceLoop:
    """Runs the model; used by the device thread alone, except for `stop`."""

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
        self._max_rows = runtime.adapter.max_rows  # at once, in a continuous adapter
        self._busy_seconds = 0.0
        self._previous_ended_at = 0.0  # when the previous claim was done
        self._stopping = False
        self._abort_at = math.inf  # when to abort a running forward pass, by the monotonic clock
        runtime.adapter.should_interrupt = self._should_interrupt

    def stop(self, max_forward_seconds: float) -> None:
        """Start no further forward pass, and abort the running one after `max_forward_seconds`."""
        self._abort_at = min(self._abort_at, time.monotonic() + max_forward_seconds)
        self._stopping = True

    def run(self, prefetched: PrefetchedRows) -> Iterator[RawOutputs]:
        """Yield the outputs of each micro-batch, without the rows of slices that were lost meanwhile."""
        started, answered_jobs, busy_before = time.monotonic(), 0, self._busy_seconds
        try:
            while not self._stopping:
                budget_tokens = self._token_budget.next()
                if (micro_batch := prefetched.planner.next(budget_tokens)) is None:
                    break
                for outputs in self._run(prefetched.planner, self._held_rows(micro_batch), budget_tokens):
                    yield outputs
                    answered_jobs += sum(len(row.jobs) for row, _ in outputs.rows if row.part_index == 0)
        except Interrupted:
            self._log.info("forward.aborted", reason="the process is stopping")
        self._record_claim(prefetched, started, answered_jobs, self._busy_seconds - busy_before)

    def _should_interrupt(self) -> bool:
        """The adapter calls this between two tokens, so the call has not hung."""
        self._watchdog.reset_timer()
        return time.monotonic() > self._abort_at

    def _held_rows(self, micro_batch: MicroBatch | None) -> list[Row]:
        rows = micro_batch.rows if micro_batch else ()
        return [row for row in rows if any(self._held_leases.is_held(job.lease) for job in row.jobs)]

    def _run(self, planner: MicroBatchPlanner, rows: list[Row], requested_tokens: int) -> Iterator[RawOutputs]:
        """Run the rows; in a continuous adapter more rows of the claim join as others finish."""
        if rows and isinstance(self._runtime.adapter, ContinuousAdapter):
            yield from self._run_continuous(self._runtime.adapter, planner, rows, requested_tokens)
        elif rows:
            busy_before = self._busy_seconds
            forward = partial(self._forward, requested_tokens)
            yield self._raw_outputs(isolate_failures(forward, rows, reraise=NOT_INPUT_ERRORS), busy_before)

    def _run_continuous(
        self, adapter: ContinuousAdapter, planner: MicroBatchPlanner, rows: list[Row], requested_tokens: int
    ) -> Iterator[RawOutputs]:
        running = RunningMicroBatch(rows, partial(self._fetch, planner, rows[0], requested_tokens))
        generation, busy_at_start = adapter.generate(rows, running.fetch, self._max_rows), self._busy_seconds
        while running.rows:
            busy_before, started = self._busy_seconds, time.monotonic()
            try:
                with self._watchdog.watch():
                    failpoint("mid_forward")
                    finished_rows = next(generation)
            except BaseException as error:
                # Finished rows keep their outputs; the others are bisected in micro-batches that no row joins.
                self._handle_failure(error, running.rows)
                forward = partial(self._forward, requested_tokens)
                yield self._raw_outputs(
                    bisect_failed(error, forward, running.rows, reraise=NOT_INPUT_ERRORS), busy_before
                )
                return
            self._busy_seconds += time.monotonic() - started
            running.remove(finished_rows)
            yield self._raw_outputs(finished_rows, busy_before)
        self._max_rows = min(2 * self._max_rows, adapter.max_rows)
        if not running.has_grown:  # a micro-batch that rows have joined says nothing about the budget
            self._record_forward(requested_tokens, rows, self._busy_seconds - busy_at_start)

    def _fetch(self, planner: MicroBatchPlanner, first_row: Row, requested_tokens: int, max_rows: int) -> list[Row]:
        while (
            not self._stopping
            and (micro_batch := planner.next_compatible(first_row, requested_tokens, max_rows)) is not None
        ):
            if rows := self._held_rows(micro_batch):
                return rows
        return []

    def _raw_outputs(self, rows: list[tuple[Row, Any]], busy_before: float) -> RawOutputs:
        return RawOutputs(max(row.padded_length for row, _ in rows), rows, self._busy_seconds - busy_before)

    def _forward(self, requested_tokens: int, rows: Sequence[Row]) -> list[Any]:
        micro_batch, started = MicroBatch(tuple(rows)), time.monotonic()
        try:
            with self._watchdog.watch():
                failpoint("mid_forward")
                outputs = self._runtime.adapter.forward(micro_batch)
        except Exception as error:
            self._handle_failure(error, rows)
            raise
        seconds = time.monotonic() - started
        self._record_forward(requested_tokens, rows, seconds)
        self._busy_seconds += seconds
        return outputs

    def _record_forward(self, requested_tokens: int, rows: Sequence[Row], seconds: float) -> None:
        padded_tokens = MicroBatch(tuple(rows)).padded_tokens
        self._token_budget.record(requested_tokens, padded_tokens, sum(row.length for row in rows), seconds)

    def _handle_failure(self, error: BaseException, rows: Sequence[Row]) -> None:
        if is_device_lost(error):
            raise DeviceLost from error
        if isinstance(error, Exception) and is_out_of_memory(error):
            if self._runtime.is_memory_taken_by_others(error):  # asked before the memory is released
                mark_transient(error)
            tokens = MicroBatch(tuple(rows)).padded_tokens
            self._token_budget.shrink(tokens)
            self._max_rows = max(1, len(rows) // 2)
            traceback.clear_frames(error.__traceback__)  # the frames hold the micro-batch's tensors
            self._runtime.release_memory()
            self._log.warning("device.out_of_memory", tokens=tokens, micro_batch_tokens=self._token_budget.tokens)

    def _record_claim(
        self, prefetched: PrefetchedRows, started: float, answered_jobs: int, busy_seconds: float
    ) -> None:
        now = time.monotonic()
        self._claim_sizer.record(answered_jobs, now - started)
        # Work was waiting since the previous claim ended, so all time that the device was not busy is lost.
        busy_share = busy_seconds / max(now - max(self._previous_ended_at, prefetched.claim_requested_at), 1e-6)
        self._previous_ended_at = now
        self._log.info(
            "claim.processed",
            jobs=answered_jobs,
            seconds=round(now - started, 3),
            device_busy=round(min(busy_share, 1.0), 3),
            micro_batch_tokens=self._token_budget.tokens,
        )
