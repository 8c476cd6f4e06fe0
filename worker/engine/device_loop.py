"""The device loop runs a claim's micro-batches in order, each within the current token budget.

On CUDA it launches the next micro-batch before it reads the one before, so the device computes while rows are collated
(decision 38).
"""

import math
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from models.processes.failpoints import failpoint
from worker.adapters.interface import ContinuousAdapter, Interrupted
from worker.adapters.rows import MicroBatch, Row
from worker.engine.claim_size import ClaimSizer
from worker.engine.forward_runner import ForwardRunner, LaunchedPass
from worker.engine.planning import MicroBatchPlanner
from worker.engine.token_budget import TokenBudgetTuner
from worker.engine.watchdog import Watchdog
from worker.failures import DeviceLost, is_device_lost, is_out_of_memory
from worker.leasing.leases import HeldLeases, Lease

if TYPE_CHECKING:
    from worker.loading.runtime import Runtime


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
        self._runner = ForwardRunner(runtime.adapter, token_budget, watchdog, self._handle_failure)
        self._in_flight: deque[LaunchedPass] = deque()
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
        started, answered_jobs = time.monotonic(), 0
        device_before, thread_before = self._runner.device_seconds, self._runner.thread_seconds
        try:
            for outputs in self._run_all(prefetched.planner):
                yield outputs
                answered_jobs += sum(1 + len(row.duplicates) for row, _ in outputs.rows if row.part_index == 0)
        except Interrupted:
            self._log.info("forward.aborted", reason="the process is stopping")
        device_seconds = self._runner.device_seconds - device_before
        thread_seconds = self._runner.thread_seconds - thread_before
        self._record_claim(prefetched, started, answered_jobs, device_seconds, thread_seconds)

    def _run_all(self, planner: MicroBatchPlanner) -> Iterator[RawOutputs]:
        """Run micro-batches until none is left or the process stops; what is in flight then is still collected."""
        while not self._stopping:
            budget_tokens = self._token_budget.next()
            if (micro_batch := planner.next(budget_tokens)) is None:
                break
            yield from self._run(planner, self._held_rows(micro_batch.rows), budget_tokens)
        yield from self._collect(max_in_flight=0)

    def _should_interrupt(self) -> bool:
        """The adapter calls this between two tokens, so the call has not hung."""
        self._watchdog.reset_timer()
        return time.monotonic() > self._abort_at

    def _held_rows(self, rows: Sequence[Row]) -> Sequence[Row]:
        """The rows without those whose slices were lost meanwhile."""
        leases = {id(lease): lease for lease in (row.job.lease for row in rows)}
        lost = {id(lease) for lease in self._held_leases.lost(leases.values())}
        if not lost:
            return rows
        is_held = self._held_leases.is_held
        return [
            row for row in rows if id(row.job.lease) not in lost or any(is_held(job.lease) for job in row.duplicates)
        ]

    def _run(self, planner: MicroBatchPlanner, rows: Sequence[Row], requested_tokens: int) -> Iterator[RawOutputs]:
        """Run the rows; in a continuous adapter more rows of the claim join as others finish."""
        if rows and isinstance(self._runtime.adapter, ContinuousAdapter):
            yield from self._run_continuous(self._runtime.adapter, planner, rows, requested_tokens)
        elif rows:
            launched = self._runner.launch(rows, requested_tokens)
            self._in_flight.append(launched)
            # Parts of a failed micro-batch run again, so what was launched before it is collected first.
            yield from self._collect(self._runner.passes_in_flight - 1 if launched.error is None else 0)

    def _collect(self, max_in_flight: int) -> Iterator[RawOutputs]:
        """Collect the oldest micro-batches, until at most `max_in_flight` are on the device."""
        while len(self._in_flight) > max_in_flight:
            device_before = self._runner.device_seconds
            yield self._raw_outputs(self._runner.collect(self._in_flight.popleft()), device_before)

    def _run_continuous(
        self, adapter: ContinuousAdapter, planner: MicroBatchPlanner, rows: Sequence[Row], requested_tokens: int
    ) -> Iterator[RawOutputs]:
        running = RunningMicroBatch(rows, partial(self._fetch, planner, rows[0], requested_tokens))
        generation, device_at_start = (
            adapter.generate(rows, running.fetch, self._max_rows),
            self._runner.device_seconds,
        )
        while running.rows:
            device_before, started = self._runner.device_seconds, time.monotonic()
            try:
                with self._watchdog.watch():
                    failpoint("mid_forward")
                    finished_rows = next(generation)
            except BaseException as error:
                # Finished rows keep their outputs; the others are bisected in micro-batches that no row joins.
                yield self._raw_outputs(self._runner.bisect(error, running.rows, requested_tokens), device_before)
                return
            self._runner.add_seconds(time.monotonic() - started)
            running.remove(finished_rows)
            yield self._raw_outputs(finished_rows, device_before)
        self._max_rows = min(2 * self._max_rows, adapter.max_rows)
        if not running.has_grown:  # a micro-batch that rows have joined says nothing about the budget
            self._runner.tune(requested_tokens, MicroBatch(tuple(rows)), self._runner.device_seconds - device_at_start)

    def _fetch(self, planner: MicroBatchPlanner, first_row: Row, requested_tokens: int, max_rows: int) -> list[Row]:
        while (
            not self._stopping
            and (micro_batch := planner.next_compatible(first_row, requested_tokens, max_rows)) is not None
        ):
            if rows := self._held_rows(micro_batch.rows):
                return list(rows)
        return []

    def _raw_outputs(self, rows: list[tuple[Row, Any]], device_before: float) -> RawOutputs:
        width = max(row.padded_length for row, _ in rows)
        return RawOutputs(width, rows, self._runner.device_seconds - device_before)

    def _handle_failure(self, error: BaseException, rows: Sequence[Row]) -> None:
        if is_device_lost(error):
            raise DeviceLost from error
        if isinstance(error, Exception) and is_out_of_memory(error):
            tokens = MicroBatch(tuple(rows)).padded_tokens
            self._token_budget.shrink(tokens)
            self._max_rows = max(1, len(rows) // 2)
            traceback.clear_frames(error.__traceback__)  # the frames hold the micro-batch's tensors
            self._runtime.release_memory()
            self._log.warning("device.out_of_memory", tokens=tokens, micro_batch_tokens=self._token_budget.tokens)

    def _record_claim(
        self,
        prefetched: PrefetchedRows,
        started: float,
        answered_jobs: int,
        device_seconds: float,
        thread_seconds: float,
    ) -> None:
        now = time.monotonic()
        self._claim_sizer.record(answered_jobs, now - started)
        # Work was waiting since the previous claim ended, so all time that the device was not busy is lost.
        seconds = max(now - max(self._previous_ended_at, prefetched.claim_requested_at), 1e-6)
        self._previous_ended_at = now
        self._log.info(
            "claim.processed",
            jobs=answered_jobs,
            seconds=round(now - started, 3),
            device_busy=round(min(device_seconds / seconds, 1.0), 3),
            device_thread_busy=round(min(thread_seconds / seconds, 1.0), 3),
            micro_batch_tokens=self._token_budget.tokens,
        )
