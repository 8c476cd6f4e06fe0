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
from worker.failures import DeviceLost, is_device_lost, is_out_of_memory, mark_transient
from worker.leasing.leases import HeldLeases, Lease
from worker.passes.forward_runner import ForwardRunner, LaunchedPass, SpentSeconds
from worker.passes.planning import MicroBatchPlanner
from worker.passes.token_budget import TokenBudgetTuner
from worker.passes.watchdog import Watchdog

if TYPE_CHECKING:
    from worker.loading.runtime import Runtime

# Portions from which rows enter one run of a continuous adapter. At the end of a run the free memory is read again.
MAX_PORTIONS_PER_RUN = 16


@dataclass(frozen=True, slots=True)
class PrefetchedRows:
    """Tokenized rows of one claim, ready to be planned into micro-batches."""

    leases: list[Lease]
    planner: MicroBatchPlanner
    claim_requested_at: float  # by the monotonic clock


@dataclass(frozen=True, slots=True)
class RawOutputs:
    """The outputs of one micro-batch: a raw output or an exception for each row.

    device_seconds: the time that the device took, by its own clock where it has one.
    thread_seconds: the time that the device thread took.
    """

    width: int
    rows: list[tuple[Row, Any]]
    device_seconds: float = 0.0
    thread_seconds: float = 0.0


@dataclass(slots=True)
class Portion:
    """The progress of one claim's rows through the device.

    planner: the rows that have not been launched.
    claim_requested_at, started_at: by the monotonic clock.
    is_launched: whether no further micro-batch of it will be launched.
    in_flight: its micro-batches on the device.
    """

    planner: MicroBatchPlanner
    claim_requested_at: float
    started_at: float
    is_launched: bool = False
    in_flight: int = 0
    answered_jobs: int = 0
    device_seconds: float = 0.0
    thread_seconds: float = 0.0

    def add(self, outputs: RawOutputs) -> None:
        """Count the outputs of one micro-batch."""
        self.answered_jobs += sum(1 + len(row.duplicates) for row, _ in outputs.rows if row.part_index == 0)
        self.device_seconds += outputs.device_seconds
        self.thread_seconds += outputs.thread_seconds


# Returns the next portion if it is there and may begin while rows of the portion before still run.
TakeNext = Callable[[Sequence[Row]], PrefetchedRows | None]


class RunningMicroBatch:
    """A micro-batch that rows join and leave while it runs."""

    def __init__(self, first_rows: Sequence[Row], fetch_rows: Callable[["RunningMicroBatch", int], list[Row]]) -> None:
        self.rows = list(first_rows)
        self.has_grown = False  # whether rows have joined it
        self.portions = 1  # that its rows came from
        self._fetch_rows = fetch_rows

    def fetch(self, max_rows: int) -> list[Row]:
        """Add up to `max_rows` rows, and return them."""
        rows = self._fetch_rows(self, max_rows)
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
        adapter = runtime.adapter
        self._continuous_adapter = adapter if isinstance(adapter, ContinuousAdapter) else None
        self._max_rows = adapter.max_rows  # at once, in a continuous adapter
        is_cpu = runtime.device is not None and runtime.device.type == "cpu"
        self._runner = ForwardRunner(adapter, token_budget, watchdog, self._handle_failure, is_cpu=is_cpu)
        self._in_flight: deque[tuple[Portion, LaunchedPass]] = deque()
        self._previous_ended_at = 0.0  # when the previous claim was done
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

    def _begin(self, prefetched: PrefetchedRows) -> None:
        self._portion = Portion(prefetched.planner, prefetched.claim_requested_at, time.monotonic())

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
            before, started = self._runner.spent, time.monotonic()
            try:
                with self._watchdog.watch():
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
        return RawOutputs(width, rows, spent.device, spent.thread)

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

    def _record(self, portion: Portion) -> None:
        now = time.monotonic()
        self._claim_sizer.record(portion.answered_jobs, now - portion.started_at)
        # Work was waiting since the previous claim ended, so all time that the device was not busy is lost.
        seconds = max(now - max(self._previous_ended_at, portion.claim_requested_at), 1e-6)
        self._previous_ended_at = now
        self._log.info(
            "claim.processed",
            jobs=portion.answered_jobs,
            seconds=round(now - portion.started_at, 3),
            device_busy=round(min(portion.device_seconds / seconds, 1.0), 3),
            device_thread_busy=round(min(portion.thread_seconds / seconds, 1.0), 3),
            micro_batch_tokens=self._token_budget.tokens,
        )
