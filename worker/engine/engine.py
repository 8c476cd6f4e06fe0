"""The engine runs one loaded pipeline in three threads, joined by short queues: claim and tokenize → device → write.

In short:  leases = claims.claim(max_jobs);  for jobs in portions:  prefetched = plan(encode(jobs));
           for outputs in device_loop.run(prefetched):  commit_results(decode(outputs))

So the device computes while the next portion is read and the last one is written. At most two portions wait for the
device or are on it; computed outputs wait for the writer in the output queue. Portions and queue are bounded in bytes,
so a claim of long inputs makes many portions.
"""

import math
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import structlog

from models import tasks
from models.db import Database
from models.errors import DatabaseRefused, Unreachable
from models.failpoints import failpoint
from models.pipelines import redaction
from worker.adapters.rows import Row
from worker.engine import preparation
from worker.engine.claim_size import ClaimSizer
from worker.engine.device_loop import DeviceLoop, PrefetchedRows, RawOutputs
from worker.engine.output_queue import OutputQueue
from worker.engine.planning import MicroBatchPlanner
from worker.engine.preparation import RowPreparer
from worker.engine.token_budget import TokenBudgetTuner
from worker.engine.wakeup import WakeupSignal
from worker.engine.watchdog import Watchdog
from worker.engine.writer import Backoff, ResultWriter, no_backoff
from worker.leasing import claims, quarantine_turns
from worker.leasing.database_refusal import OnRefusal
from worker.leasing.leases import Claimant, HeldLeases, Job, JobSize, Lease, SliceRange
from worker.leasing.quarantine_turns import QuarantineShare, Turn
from worker.leasing.retry import retry_while_unreachable

if TYPE_CHECKING:  # the engine itself runs without torch
    from worker.loading.runtime import Runtime

log = structlog.get_logger(__name__)

MAX_PREFETCHED = 2
PREFETCH_BYTES = 8 * 2**20
MAX_BATCHES_LOGGED = 16  # of one claim by id; of a claim with more, only the counts


class Engine:
    """Works through one pipeline's backlog until it is stopped.

    claim_database: a second connection, so that claims and writes don't wait for each other; None = the first.
    version_id: the `model_versions` row that results name.
    linger_seconds: how long a small claim waits for more work while the device is busy.
    max_attempts: the limit for batches without one.
    on_fatal_error: called when a thread crashed.
    on_idle: called when there is nothing to claim and no lease is held.
    on_refusal: called when the database refuses a statement; None = `on_fatal_error`.
    """

    def __init__(
        self,
        database: Database,
        runtime: "Runtime",
        claimant: Claimant,
        wakeup: WakeupSignal,
        held_leases: HeldLeases,
        claim_sizer: ClaimSizer,
        *,
        version_id: int,
        slice_size: int,
        poll_interval_seconds: float,
        linger_seconds: float = 0.0,
        prefetch_bytes: int = PREFETCH_BYTES,
        token_budget: TokenBudgetTuner | None = None,
        max_attempts: int = 3,
        backoff: Backoff = no_backoff,
        watchdog: Watchdog | None = None,
        on_fatal_error: Callable[[], None],
        on_idle: Callable[[], None] = lambda: None,
        on_refusal: OnRefusal | None = None,
        claim_database: Database | None = None,
    ) -> None:
        self._database = database
        self._claim_database = claim_database or database
        self._runtime = runtime
        self._claimant = claimant
        self._task_spec = tasks.find_spec(claimant.task)
        self._log = log.bind(pipeline=claimant.pipeline)
        self._wakeup = wakeup
        self._held_leases = held_leases
        self._claim_sizer = claim_sizer
        self._slice_size = slice_size
        self._poll_interval_seconds = poll_interval_seconds
        self._linger_seconds = linger_seconds
        self._on_fatal_error = on_fatal_error
        self._on_refusal = on_refusal
        self._on_idle = on_idle
        self._quarantine_share = QuarantineShare()
        self._claim_in_doubt = False  # the connection broke during a claim, which may have been committed
        self._stopping = threading.Event()
        token_budget = token_budget or TokenBudgetTuner(runtime.micro_batch_tokens, tunable=False)
        self._watchdog = watchdog or Watchdog(math.inf, on_fatal_error)
        self._device_loop = DeviceLoop(runtime, token_budget, held_leases, claim_sizer, self._watchdog, self._log)
        self._prefetch_permits = threading.Semaphore(MAX_PREFETCHED)
        self._writer = ResultWriter(
            database,
            runtime.adapter,
            held_leases,
            version_id=version_id,
            max_attempts=max_attempts,
            backoff=backoff,
            watchdog=self._watchdog,
            log=self._log,
        )
        self._prefetch_queue: queue.Queue[PrefetchedRows | None] = queue.Queue()
        self._prefetch_bytes = prefetch_bytes
        self._output_queue = OutputQueue(prefetch_bytes)
        self._preparer = RowPreparer(runtime.adapter, self._task_spec.is_random, self._watchdog, prefetch_bytes)
        self._threads = [
            threading.Thread(target=self._run_guarded, args=(loop,), name=name)
            for name, loop in (("claim", self._claim_loop), ("device", self._forward_loop), ("write", self._write_loop))
        ]

    def start(self) -> None:
        """Start the threads."""
        self._watchdog.start()
        for thread in self._threads:
            thread.start()

    def stop(self, max_forward_seconds: float = math.inf) -> None:
        """Stop after the running micro-batch and its write; returns at once, and `join` releases the other slices.

        max_forward_seconds: abort a forward pass that takes longer, such as a long generation.
        """
        self._device_loop.stop(max_forward_seconds)
        self._stopping.set()
        self._wakeup.notify()
        self._prefetch_permits.release()

    def join(self) -> list[Lease]:
        """Wait for the threads to end, and return the leases that were released."""
        for thread in self._threads:
            thread.join()
        self._watchdog.stop()
        return self._release_leases()

    # ---- claim and tokenize

    def _claim_loop(self) -> None:
        try:
            while not self._stopping.is_set():
                self._prefetch_permits.acquire()
                if self._stopping.is_set() or not self._claim_once():
                    self._prefetch_permits.release()
                    self._wakeup.wait(self._poll_interval_seconds)
        finally:
            self._prefetch_queue.put(None)

    def _claim_once(self) -> bool:
        """Claim slices and prefetch their rows; False when there were none."""
        self._wakeup.acknowledge()
        requested_at = time.monotonic()
        failpoint("before_claim")
        try:
            leases = self._claim_slices()
        except Unreachable as error:
            self._log.warning(
                "database.unreachable", operation="claim", error=str(error), retry_seconds=self._poll_interval_seconds
            )
            self._claim_in_doubt = True
            return False
        if not leases:
            if not self._held_leases.leases():
                self._on_idle()
            return False
        failpoint("after_claim")
        self._held_leases.add(leases, ())  # from here on the heartbeat renews them
        sizes = retry_while_unreachable(lambda _is_retry: claims.unanswered_job_sizes(self._claim_database, leases))
        self._held_leases.add(leases, sizes)
        self._log_claim(leases, sizes)
        answered_leases = [lease for lease in leases if self._held_leases.unanswered_jobs(lease) == 0]
        if answered_leases:
            self._output_queue.put(answered_leases)  # the writer finishes their slices
        self._prefetch(leases, sizes, requested_at)
        return True

    def _prefetch(self, leases: list[Lease], job_sizes: Sequence[JobSize], claim_requested_at: float) -> None:
        """Queue the rows in portions; the caller holds the permit for the first, each further one needs another."""
        has_permit = True
        for rows in self._prepare_rows(job_sizes):
            if not has_permit:
                self._prefetch_permits.acquire()
            if self._stopping.is_set():
                return
            planner = MicroBatchPlanner(rows, self._runtime.adapter.max_rows)
            self._prefetch_queue.put(PrefetchedRows(leases, planner, claim_requested_at))
            has_permit, claim_requested_at = False, time.monotonic()
        if has_permit:
            self._prefetch_permits.release()

    def _prepare_rows(self, job_sizes: Sequence[JobSize]) -> Iterator[list[Row]]:
        """Yield the rows of each portion; inputs are read portion by portion, so memory stays bounded."""
        for ranges in preparation.plan_reads(job_sizes, self._prefetch_bytes):
            held_ranges = [part for part in ranges if self._held_leases.is_held(part.lease)]
            if self._stopping.is_set() or not held_ranges:
                continue
            for prepared in self._preparer.prepare(self._read_inputs(held_ranges)):
                if prepared.rejected:
                    self._output_queue.put(RawOutputs(0, prepared.rejected))
                if prepared.rows:
                    yield prepared.rows

    def _read_inputs(self, ranges: Sequence[SliceRange]) -> list[Job]:
        return retry_while_unreachable(lambda _is_retry: claims.read_inputs(self._claim_database, ranges))

    def _claim_slices(self) -> list[Lease]:
        held = self._held_leases.leases()
        if self._claim_in_doubt:
            with self._claim_database.write() as connection:
                claims.release_unknown_claims(connection, self._claimant.worker_id, held)
            self._claim_in_doubt = False
        if any(lease.is_quarantined for lease in held):
            return []  # a crash over it must not count against other slices
        quarantined = claims.next_quarantined(self._claim_database, self._claimant)
        turn, self._quarantine_share = quarantine_turns.decide_turn(
            self._quarantine_share, quarantined, time.monotonic(), has_leases=bool(held)
        )
        if turn is Turn.QUARANTINED:
            return claims.claim(self._claim_database, self._claimant, 1, self._slice_size, from_quarantine=True)
        return self._claim_ordinary(bool(held)) if turn is Turn.ORDINARY else []

    def _claim_ordinary(self, is_busy: bool) -> list[Lease]:
        max_jobs = self._claim_sizer.jobs_to_claim()
        claim = partial(claims.claim, self._claim_database, self._claimant, slice_size=self._slice_size)
        leases = claim(max_jobs)
        claimed_jobs = sum(lease.size for lease in leases)
        if leases and is_busy and claimed_jobs < max_jobs and self._linger_seconds:
            # The device is busy anyway, so jobs that arrive meanwhile may share a micro-batch.
            self._wakeup.wait(self._linger_seconds)
            self._wakeup.acknowledge()
            try:
                leases += claim(max_jobs - claimed_jobs)
            except Unreachable as error:
                self._log.warning("database.unreachable", operation="claim", error=str(error))
                self._claim_in_doubt = True  # the first claim is valid all the same
        return leases

    # ---- device

    def _forward_loop(self) -> None:
        try:
            while (prefetched := self._prefetch_queue.get()) is not None:
                for outputs in self._device_loop.run(prefetched):
                    self._output_queue.put(outputs)
                self._prefetch_permits.release()
        finally:
            self._output_queue.put(None)

    # ---- decode and write

    def _write_loop(self) -> None:
        while True:
            items = self._output_queue.get_all()
            self._writer.write([item for item in items if item is not None])
            if not self._held_leases.leases():
                self._wakeup.notify()  # a quarantined slice may have waited until no lease is held
            if None in items:
                return

    def _release_leases(self) -> list[Lease]:
        held = self._held_leases.leases()
        if not held and not self._claim_in_doubt:
            return []

        def release_all(_is_retry: bool) -> list[Lease]:
            with self._database.write() as connection:
                released = claims.release(connection, held)
                claims.release_unknown_claims(connection, self._claimant.worker_id, ())
                failpoint("before_release")
                return released

        released = retry_while_unreachable(release_all)
        self._held_leases.discard(held)
        self._log.info("slices.released", slice_ids=[lease.slice_id for lease in released])
        return released

    def _run_guarded(self, loop: Callable[[], None]) -> None:
        try:
            loop()
        except DatabaseRefused as error:
            self._log.error("database.refused", operation="engine", error_code=error.code, error=str(error))
            if self._on_refusal is None:
                self._on_fatal_error()
            else:
                self._on_refusal(error)
        except BaseException:
            self._log.exception("engine.crashed")
            self._on_fatal_error()

    def _log_claim(self, leases: Sequence[Lease], job_sizes: Sequence[JobSize]) -> None:
        batches: dict[str, list[Lease]] = {}
        for lease in leases:
            batches.setdefault(lease.batch_id, []).append(lease)
        if len(batches) > MAX_BATCHES_LOGGED:
            self._log.info("slices.claimed", batches=len(batches), slices=len(leases), jobs=len(job_sizes))
            return
        job_counts = Counter(job.lease.batch_id for job in job_sizes)
        for batch_id, batch_leases in sorted(batches.items()):
            self._log.info(
                "slices.claimed",
                batch_id=batch_id,
                slice_ids=[lease.slice_id for lease in batch_leases],
                jobs=job_counts[batch_id],
                parameters=redaction.redact_parameters(batch_leases[0].parameters),
            )
