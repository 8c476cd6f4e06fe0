"""The engine runs one loaded pipeline in three threads, joined by short queues: claim and tokenize → device → write.

In short:  leases = claims.claim(max_jobs);  for jobs in portions:  prefetched = plan(encode(jobs));
           for outputs in device_loop.run(prefetched):  commit_results(decode(outputs))

So the device computes while the next portion is read and the last one is written. At most two portions wait for the
device or are on it, beside the last rows of another in a running generation; computed outputs wait for the writer in
the output queue. Portions and queue are bounded in bytes, so a claim of long inputs makes many portions.
"""

import math
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import structlog

from models import tasks
from models.errors import DatabaseRefused, Unreachable
from worker.adapters.interface import Interrupted
from worker.adapters.rows import Row
from worker.engine import measurement
from worker.engine.claiming import SliceClaimer
from worker.engine.context import LoadedPipeline, WorkerContext
from worker.engine.device_loop import DeviceLoop
from worker.engine.output_guards import OutputGuards
from worker.engine.output_queue import OutputQueue
from worker.engine.portions import PrefetchedRows, RawOutputs
from worker.engine.preparing import preparation
from worker.engine.preparing.input_guards import InputGuards
from worker.engine.preparing.preparation import PreparedRows, RowPreparer
from worker.engine.writer import ResultWriter
from worker.guards.loaded_guards import LoadedGuards
from worker.leasing.claiming import claims
from worker.leasing.leases import Job, JobSize, Lease, SliceRange
from worker.leasing.retry import retry_while_unreachable
from worker.passes.planning import MicroBatchPlanner
from worker.passes.watchdog import Watchdog

log = structlog.get_logger(__name__)

MAX_PREFETCHED = 2


class Engine:
    """Works through one pipeline's backlog until it is stopped.

    on_idle: called when there is nothing to claim and no lease is held.
    """

    def __init__(
        self, context: WorkerContext, pipeline: LoadedPipeline, on_idle: Callable[[], None] = lambda: None
    ) -> None:
        self._context = context
        self._adapter = pipeline.runtime.adapter
        self._held_leases = context.held_leases
        self._on_idle = on_idle
        self._log = log.bind(pipeline=pipeline.claimant.pipeline)
        self._stopping = threading.Event()
        self._watchdog = Watchdog(
            pipeline.forward_timeout_seconds, partial(context.on_hang, pipeline.claimant.pipeline, "pipeline")
        )
        self._guards = self._load_guards(pipeline)
        self._claimer = SliceClaimer(context, pipeline, self._log)
        self._device_loop = DeviceLoop(
            pipeline.runtime,
            pipeline.token_budget,
            context.held_leases,
            pipeline.claim_sizer,
            self._watchdog,
            self._log,
            self._guards,
            partial(measurement.record_device_time, context.metrics, pipeline.claimant.pipeline),
        )
        max_chunk_bytes = self._guards.max_chunk_bytes(pipeline.token_budget.tokens)
        spec = tasks.find_spec(pipeline.claimant.task)
        input_screener = self._guards.screener("input", self._stopping.is_set)
        input_guards = InputGuards(input_screener, max_chunk_bytes, context.held_leases.is_held)
        output_guards = OutputGuards(
            self._guards.screener("output", self._device_loop.must_abort, spec.label_fields),
            len(pipeline.claimant.guards),
            context.settings.max_attempts,
            max_chunk_bytes,
        )
        self._writer = ResultWriter(context, pipeline, self._watchdog, output_guards, self._log)
        self._prefetch_bytes = round(context.settings.max_prepared_mb * 2**20)
        self._prefetch_permits = threading.Semaphore(MAX_PREFETCHED)
        self._prefetch_queue: queue.Queue[PrefetchedRows | None] = queue.Queue()
        self._looked_at: list[PrefetchedRows | None] = []  # taken from the queue, but not begun; at most one
        self._output_queue = OutputQueue(self._prefetch_bytes)
        self._preparer = RowPreparer(self._adapter, spec.is_random, self._watchdog, self._prefetch_bytes, input_guards)
        self._threads = [
            threading.Thread(target=self._run_guarded, args=(loop,), name=name)
            for name, loop in (("claim", self._claim_loop), ("device", self._forward_loop), ("write", self._write_loop))
        ]

    def _load_guards(self, pipeline: LoadedPipeline) -> LoadedGuards:
        runtimes = pipeline.runtime.guards
        timeouts = dict.fromkeys(runtimes, pipeline.forward_timeout_seconds) | dict(pipeline.guard_timeout_seconds)
        guards, definitions = pipeline.claimant.guards, pipeline.guard_definitions
        return LoadedGuards(guards, definitions, runtimes, timeouts, self._context.on_hang, self._log)

    def start(self) -> None:
        """Start the threads."""
        self._watchdog.start()
        self._guards.start()
        for thread in self._threads:
            thread.start()

    def stop(self, max_forward_seconds: float = math.inf) -> None:
        """Stop after the running micro-batch and its write; returns at once, and `join` releases the other slices.

        max_forward_seconds: abort a forward pass that takes longer, such as a long generation.
        """
        self._device_loop.stop(max_forward_seconds)
        self._stopping.set()
        self._context.wakeup_signal.notify()
        self._prefetch_permits.release()

    def join(self) -> list[Lease]:
        """Wait for the threads to end, and return the leases that were released."""
        for thread in self._threads:
            thread.join()
        self._watchdog.stop()
        self._guards.stop()
        return self._claimer.release_all()

    # ---- claim and tokenize

    def _claim_loop(self) -> None:
        try:
            while not self._stopping.is_set():
                self._prefetch_permits.acquire()
                if self._stopping.is_set() or not self._claim_once():
                    self._prefetch_permits.release()
                    self._context.wakeup_signal.wait(self._context.settings.poll_interval_seconds)
        finally:
            self._prefetch_queue.put(None)

    def _claim_once(self) -> bool:
        """Claim slices and prefetch their rows; False when there were none."""
        self._context.wakeup_signal.acknowledge()
        requested_at = time.monotonic()
        try:
            leases, sizes = self._claimer.claim()
        except Unreachable as error:
            seconds = self._context.settings.poll_interval_seconds
            self._log.warning("database.unreachable", operation="claim", error=str(error), retry_seconds=seconds)
            return False
        if not leases:
            if not self._held_leases.leases():
                self._on_idle()
            return False
        answered_leases = [lease for lease in leases if self._held_leases.unanswered_jobs(lease) == 0]
        if answered_leases:
            self._output_queue.put(answered_leases)  # the writer finishes their slices
        try:
            self._prefetch(leases, sizes, requested_at)
        except Interrupted:
            self._log.info("forward.aborted", reason="the process is stopping")
        return True

    def _prefetch(self, leases: list[Lease], job_sizes: Sequence[JobSize], claim_requested_at: float) -> None:
        """Queue the rows in portions; the caller holds the permit for the first, each further one needs another."""
        has_permit = True
        for prepared in self._prepare_rows(job_sizes):
            if not has_permit:
                self._prefetch_permits.acquire()
            if self._stopping.is_set():
                return
            planner = MicroBatchPlanner(prepared.rows, self._adapter.max_rows)
            prefetched = PrefetchedRows(leases, planner, claim_requested_at, prepared.guard_seconds)
            self._prefetch_queue.put(prefetched)
            has_permit, claim_requested_at = False, time.monotonic()
        if has_permit:
            self._prefetch_permits.release()

    def _prepare_rows(self, job_sizes: Sequence[JobSize]) -> Iterator[PreparedRows]:
        """Yield each portion that has rows; inputs are read portion by portion, so memory stays bounded."""
        for ranges in preparation.plan_reads(job_sizes, self._prefetch_bytes):
            held_ranges = [part for part in ranges if self._held_leases.is_held(part.lease)]
            if self._stopping.is_set() or not held_ranges:
                continue
            for prepared in self._preparer.prepare(self._read_inputs(held_ranges)):
                if prepared.rejected:
                    self._output_queue.put(RawOutputs(0, prepared.rejected))
                if prepared.rows:
                    yield prepared

    def _read_inputs(self, ranges: Sequence[SliceRange]) -> list[Job]:
        return retry_while_unreachable(lambda _is_retry: claims.read_inputs(self._context.claim_database, ranges))

    # ---- device

    def _forward_loop(self) -> None:
        try:
            while (prefetched := self._next_prefetched()) is not None:
                for outputs in self._device_loop.run(prefetched, self._take_next_prefetched):
                    self._output_queue.put(outputs)
                self._prefetch_permits.release()
            self._drain_device()
        finally:
            self._output_queue.put(None)

    def _next_prefetched(self) -> PrefetchedRows | None:
        """Wait for the next rows; if none are ready, what the device still computes is written first."""
        if self._looked_at:
            return self._looked_at.pop()
        if self._prefetch_queue.empty():
            self._drain_device()
        return self._prefetch_queue.get()

    def _take_next_prefetched(self, running_rows: Sequence[Row]) -> PrefetchedRows | None:
        """Return the next rows if they are ready and may begin beside running ones, all that is left of a portion.

        The portion before then gives its permit back.
        """
        if not self._looked_at:
            if self._prefetch_queue.empty():
                return None
            self._looked_at.append(self._prefetch_queue.get())
        [prefetched] = self._looked_at
        # A quarantined slice runs alone, so that a crash is its own.
        if prefetched is None or any(lease.is_quarantined for lease in prefetched.leases):
            return None
        running_bytes = sum(row.memory_bytes + sum(job.size_bytes for job in row.jobs) for row in running_rows)
        if running_bytes > self._prefetch_bytes:
            return None
        self._looked_at.clear()
        self._prefetch_permits.release()
        return prefetched

    def _drain_device(self) -> None:
        for outputs in self._device_loop.drain():
            self._output_queue.put(outputs)

    # ---- decode and write

    def _write_loop(self) -> None:
        while True:
            items = self._output_queue.get_all()
            try:
                self._writer.write([item for item in items if item is not None])
            except Interrupted:  # nothing of a chunk is written before all of its guards have read it
                self._log.info("forward.aborted", reason="the process is stopping")
            if not self._held_leases.leases():
                self._context.wakeup_signal.notify()  # a quarantined slice may have waited until no lease is held
            if None in items:
                return

    def _run_guarded(self, loop: Callable[[], None]) -> None:
        try:
            loop()
        except DatabaseRefused as error:
            self._log.error("database.refused", operation="engine", error_code=error.code, error=str(error))
            if self._context.on_refusal is None:
                self._context.on_fatal_error()
            else:
                self._context.on_refusal(error)
        except BaseException:
            self._log.exception("engine.crashed")
            self._context.on_fatal_error()
