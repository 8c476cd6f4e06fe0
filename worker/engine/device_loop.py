"""The device loop runs a claim's micro-batches in order, each within the current token budget.

On CUDA it launches the next micro-batch before it reads the one before, so the device computes while rows are collated
(decision 38).
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from models.processes.failpoints import failpoint
from worker.adapters.interface import ContinuousAdapter, Interrupted
from worker.adapters.rows import MicroBatch, Row
from worker.engine.claim_size import ClaimSizer
from worker.engine.portions import Portion, PrefetchedRows, RawOutputs, RunningMicroBatch
from worker.guards.loaded_guards import LoadedGuards
from worker.leasing.leases import HeldLeases
from worker.passes import memory_failures
from worker.passes.device_lock import NO_TURNS
from worker.passes.forward_runner import ForwardRunner, LaunchedPass, SpentSeconds
from worker.passes.token_budget import TokenBudgetTuner
from worker.passes.watchdog import Watchdog

if TYPE_CHECKING:
    from worker.loading.runtime import Runtime

# Portions from which rows enter one run of a continuous adapter. At the end of a run the free memory is read again.
MAX_PORTIONS_PER_RUN = 16


# Returns the next portion if it is there and may begin while rows of the portion before still run.
TakeNext = Callable[[Sequence[Row]], PrefetchedRows | None]


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
        guards: LoadedGuards | None = None,
        measure: Callable[[float, float], None] = lambda _model_seconds, _guard_seconds: None,
    ) -> None:
        """Prepare the loop.

        measure: called with the device's seconds for each micro-batch, and with those of guards after each portion
        """
        self._measure = measure
        self._runtime = runtime
        self._guards = guards
        self._turns = NO_TURNS if guards is None else guards.turns
        self._watchdog = watchdog
        self._token_budget = token_budget
        self._held_leases = held_leases
        self._claim_sizer = claim_sizer
        self._log = log
        adapter = runtime.adapter
        self._continuous_adapter = adapter if isinstance(adapter, ContinuousAdapter) else None
        self._max_rows = adapter.max_rows  # at once, in a continuous adapter
        is_cpu = runtime.device is not None and runtime.device.type == "cpu"
        self._runner = ForwardRunner(
            adapter, token_budget, watchdog, self._handle_failure, is_cpu=is_cpu, turns=self._turns
        )
        self._in_flight: deque[tuple[Portion, LaunchedPass]] = deque()
        self._previous_ended_at = 0.0  # when the previous claim was done
        self._guard_seconds = 0.0  # of the device, until then
        self._stopping = False
        self._abort_at = math.inf  # when to abort a running forward pass, by the monotonic clock
        adapter.should_interrupt = self._should_interrupt

    def stop(self, max_forward_seconds: float) -> None:
        """Start no further forward pass, and abort the running one after `max_forward_seconds`."""
        self._abort_at = min(self._abort_at, time.monotonic() + max_forward_seconds)
        self._stopping = True

    def run(self, prefetched: PrefetchedRows, take_next: TakeNext = lambda _running_rows: None) -> Iterator[RawOutputs]:
        """Yield the outputs of each micro-batch, without the rows of slices that were lost meanwhile.

        The last micro-batch may stay on the device until the next call, or until `drain`. In a continuous adapter, rows
        of the next portion enter as the last rows of the one before leave; the portion is then taken and run as well.
        """
        self._begin(prefetched)
        try:
            while not self._stopping:
                budget_tokens = self._token_budget.next()
                if (micro_batch := self._portion.planner.next(budget_tokens)) is None:
                    break
                rows = self._held_rows(micro_batch.rows)
                yield from self._run(rows, budget_tokens, take_next)
        except Interrupted:
            self._log.info("forward.aborted", reason="the process is stopping")
        portion = self._portion
        portion.is_launched = True
        if portion.in_flight == 0:
            self._record(portion)

    def drain(self) -> Iterator[RawOutputs]:
        """Yield the outputs of all micro-batches that are on the device."""
        return self._collect(max_in_flight=0)

    def must_abort(self) -> bool:
        """Whether the worker stops and the time that it has for running passes is over."""
        return time.monotonic() > self._abort_at

    def _should_interrupt(self) -> bool:
        """The adapter calls this between two tokens, so the call has not hung."""
        self._watchdog.reset_timer()
        return self.must_abort()

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

    def _begin(self, prefetched: PrefetchedRows) -> None:
        self._portion = Portion(
            prefetched.planner, prefetched.claim_requested_at, time.monotonic(), prefetched.guard_seconds
        )

    def _run(self, rows: Sequence[Row], requested_tokens: int, take_next: TakeNext) -> Iterator[RawOutputs]:
        """Run the rows; in a continuous adapter more rows join as others finish."""
        if rows and self._continuous_adapter is not None:
            fetch = partial(self._fetch, rows[0], requested_tokens, take_next)
            running = RunningMicroBatch(rows, fetch)
            for outputs in self._run_continuous(self._continuous_adapter, running, requested_tokens):
                self._portion.add(outputs)
                yield outputs
        elif rows:
            launched = self._runner.launch(rows, requested_tokens)
            self._in_flight.append((self._portion, launched))
            self._portion.in_flight += 1
            # Parts of a failed micro-batch run again, so what was launched before it is collected first.
            yield from self._collect(self._runner.passes_in_flight - 1 if launched.error is None else 0)

    def _collect(self, max_in_flight: int) -> Iterator[RawOutputs]:
        """Collect the oldest micro-batches, until at most `max_in_flight` are on the device."""
        while len(self._in_flight) > max_in_flight:
            portion, launched = self._in_flight.popleft()
            before = self._runner.spent
            outputs = self._raw_outputs(self._runner.collect(launched), before)
            portion.in_flight -= 1
            portion.add(outputs)
            if portion.is_launched and portion.in_flight == 0:
                self._record(portion)
            yield outputs

    def _run_continuous(
        self, adapter: ContinuousAdapter, running: RunningMicroBatch, requested_tokens: int
    ) -> Iterator[RawOutputs]:
        rows = tuple(running.rows)
        generation, at_start = adapter.generate(rows, running.fetch, self._max_rows), self._runner.spent
        while running.rows:
            before = self._runner.spent
            try:
                with self._turns, self._watchdog.watch():
                    started = time.monotonic()
                    failpoint("mid_forward")
                    finished_rows = next(generation)
            except BaseException as error:
                # Finished rows keep their outputs; the others are bisected in micro-batches that no row joins.
                yield self._raw_outputs(self._runner.bisect(error, running.rows, requested_tokens), before)
                return
            self._runner.add_seconds(time.monotonic() - started)
            running.remove(finished_rows)
            yield self._raw_outputs(finished_rows, before)
        self._max_rows = min(2 * self._max_rows, adapter.max_rows)
        if not running.has_grown:  # a micro-batch that rows have joined says nothing about the budget
            self._runner.tune(requested_tokens, MicroBatch(rows), self._runner.spent.since(at_start).device)

    def _fetch(
        self, first_row: Row, requested_tokens: int, take_next: TakeNext, running: RunningMicroBatch, max_rows: int
    ) -> list[Row]:
        """Return rows that may share a pass with `first_row`, in the order in which they would run anyway."""
        while not self._stopping:
            micro_batch = self._portion.planner.next_compatible(first_row, requested_tokens, max_rows)
            if micro_batch is None and not self._take_next_portion(running, take_next):
                break
            if micro_batch is not None and (rows := self._held_rows(micro_batch.rows)):
                return list(rows)
        return []

    def _take_next_portion(self, running: RunningMicroBatch, take_next: TakeNext) -> bool:
        """Begin the next portion while the last rows of this one run; False if that is impossible.

        Rows with other parameters wait for no rows that were claimed after them: none is taken from a portion before
        all rows of the portion before it run.
        """
        # After a lack of memory a run ends with its portion, so that the next may have more rows.
        is_small = self._max_rows < self._runtime.adapter.max_rows
        if self._portion.planner.has_rows or is_small or running.portions >= MAX_PORTIONS_PER_RUN:
            return False
        prefetched = take_next(running.rows)
        if prefetched is None:
            return False
        running.portions += 1
        if self._portion.answered_jobs:
            self._record(self._portion)  # the answers of its last rows count for the next one
            self._begin(prefetched)
        else:
            self._portion.planner = prefetched.planner  # time without answers says nothing: both count as one
        return True

    def _raw_outputs(self, rows: list[tuple[Row, Any]], before: SpentSeconds) -> RawOutputs:
        width, spent = max(row.padded_length for row, _ in rows), self._runner.spent.since(before)
        self._measure(spent.device, 0.0)
        return RawOutputs(width, rows, spent.device, spent.thread)

    def _handle_failure(self, error: BaseException, rows: Sequence[Row]) -> None:
        if memory_failures.shrink_if_out_of_memory(error, rows, self._runtime, self._token_budget, self._log):
            self._max_rows = max(1, len(rows) // 2)

    def _record(self, portion: Portion) -> None:
        now = time.monotonic()
        seconds = now - portion.started_at
        # Guards read one portion while the device is busy with another, so the slower of both sets the pace.
        self._claim_sizer.record(portion.answered_jobs, max(seconds, portion.guard_seconds))
        # Work was waiting since the previous claim ended, so all time that the device was not busy is lost.
        elapsed = max(now - max(self._previous_ended_at, portion.claim_requested_at), 1e-6)
        self._previous_ended_at = now
        guard_seconds = self._take_guard_seconds()
        self._measure(0.0, guard_seconds)
        self._log.info(
            "claim.processed",
            jobs=portion.answered_jobs,
            seconds=round(seconds, 3),
            guard_seconds=round(guard_seconds, 3),
            device_busy=round(min((portion.device_seconds + guard_seconds) / elapsed, 1.0), 3),
            device_thread_busy=round(min(portion.thread_seconds / elapsed, 1.0), 3),
            micro_batch_tokens=self._token_budget.tokens,
        )

    def _take_guard_seconds(self) -> float:
        """The device's time for guards since the last call."""
        if self._guards is None:
            return 0.0
        before, self._guard_seconds = self._guard_seconds, self._guards.device_seconds
        return self._guard_seconds - before
