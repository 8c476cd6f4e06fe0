"""The engine: claim and tokenize → device → write, each in a thread of its own, joined by short queues.

Read aloud:  leases = claims.take(room);  for jobs in portions:  window = pack(encode(jobs));
             for raw in passes.through(window):  answers = decode(raw);  store.close(answers)

So the device computes while the next window is read and the last one written. At most two windows wait for the device
or are on it; what it has computed waits for the writer in a queue of its own. All three are bounded in bytes, so one
claim of long inputs makes many windows.
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
from worker.leasing.leases import Claimant, HeldLeases, JobSize, Lease
from worker.leasing.quarantine_turns import QuarantineShare, Turn
from worker.leasing.retry import retry_while_unreachable

if TYPE_CHECKING:  # the engine itself runs without torch
    from worker.loading.runtime import Runtime

log = structlog.get_logger(__name__)

MAX_PREFETCHED = 2
PREFETCH_BYTES = 8 * 2**20
MAX_BATCHES_LOGGED = 16  # by name, of one claim; of more only how many


class Engine:
    """Works through one pipeline's backlog until told to stop."""

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
        self._claim_database = (
            claim_database or database
        )  # on a connection of its own, a claim and a write go on side by side
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
        self._on_idle = on_idle  # there was nothing to claim, and nothing is in hand
        self._quarantine_share = QuarantineShare()  # what quarantined slices have had of this process' time
        self._claim_in_doubt = False  # the database broke off a claim: it may have been committed all the same
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
        """Begin to claim."""
        self._watchdog.start()
        for thread in self._threads:
            thread.start()

    def stop(self, max_forward_seconds: float = math.inf) -> None:
        """Finish the micro-batch on the device, write what is there; returns at once. `join` gives the rest back.

        A pass that takes longer than `patience_seconds` (a long text being written) is given up.
        """
        self._device_loop.stop(max_forward_seconds)
        self._stopping.set()
        self._wakeup.notify()
        self._prefetch_permits.release()

    def join(self) -> list[Lease]:
        """Wait until all three threads have ended; returns the leases that were given back."""
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
        """Take some slices, and prepare them in windows; False when there were none."""
        self._wakeup.acknowledge()
        asked = time.monotonic()
        failpoint("before_claim")
        try:
            leases = self._claim_slices()
        except Unreachable as error:
            self._log.warning("can't claim, will look again", error=str(error), seconds=self._poll_interval_seconds)
            self._claim_in_doubt = True
            return False
        if not leases:
            if not self._held_leases.leases():
                self._on_idle()
            return False
        failpoint("after_claim")
        self._held_leases.add(leases, ())  # from here on the heartbeat keeps them
        sizes = retry_while_unreachable(lambda _again: claims.unanswered_job_sizes(self._claim_database, leases))
        self._held_leases.add(leases, sizes)
        self._log_claim(leases, sizes)
        unclosed = [lease for lease in leases if self._held_leases.unanswered_jobs(lease) == 0]
        if unclosed:
            self._output_queue.put(unclosed)
        self._prefetch(leases, sizes, asked)
        return True

    def _prefetch(self, leases: list[Lease], job_sizes: Sequence[JobSize], claim_requested_at: float) -> None:
        """Pass the jobs on in windows. There is room for the first; each further one waits for it."""
        has_room = True
        for rows in self._prepare_rows(job_sizes):
            if not has_room:
                self._prefetch_permits.acquire()
            if self._stopping.is_set():
                return
            self._prefetch_queue.put(
                PrefetchedRows(leases, MicroBatchPlanner(rows, self._runtime.adapter.max_rows), claim_requested_at)
            )
            has_room, claim_requested_at = False, time.monotonic()
        if has_room:
            self._prefetch_permits.release()

    def _prepare_rows(self, job_sizes: Sequence[JobSize]) -> Iterator[list[Row]]:
        """The rows of each window. What the jobs ask is read as they are taken, and no more of it than fits."""
        for stretches in preparation.plan_reads(job_sizes, self._prefetch_bytes):
            held = [each for each in stretches if self._held_leases.is_held(each.lease)]
            if self._stopping.is_set() or not held:
                continue
            jobs = retry_while_unreachable(lambda _again, held=held: claims.read_inputs(self._claim_database, held))  # type: ignore[misc]
            for prepared in self._preparer.prepare(jobs):
                if prepared.rejected:
                    self._output_queue.put(RawOutputs(0, prepared.rejected))
                if prepared.rows:
                    yield prepared.rows

    def _claim_slices(self) -> list[Lease]:
        held = self._held_leases.leases()
        if self._claim_in_doubt:
            with self._claim_database.write() as connection:
                claims.release_unknown_claims(connection, self._claimant.worker_id, held)
            self._claim_in_doubt = False
        if any(lease.is_quarantined for lease in held):
            return []  # nothing else may die with it
        waiting = claims.next_quarantined(self._claim_database, self._claimant)
        turn, self._quarantine_share = quarantine_turns.decide_turn(
            self._quarantine_share, waiting, time.monotonic(), has_leases=bool(held)
        )
        if turn is Turn.QUARANTINED:
            return claims.claim(self._claim_database, self._claimant, 1, self._slice_size, from_quarantine=True)
        return self._claim_ordinary(bool(held)) if turn is Turn.ORDINARY else []

    def _claim_ordinary(self, is_busy: bool) -> list[Lease]:
        room = self._claim_sizer.jobs_to_claim()
        take = partial(claims.claim, self._claim_database, self._claimant, slice_size=self._slice_size)
        leases = take(room)
        taken = sum(lease.size for lease in leases)
        if leases and is_busy and taken < room and self._linger_seconds:
            # The device is busy anyway: what comes in meanwhile may share a pass.
            self._wakeup.wait(self._linger_seconds)
            self._wakeup.acknowledge()
            try:
                leases += take(room - taken)
            except Unreachable as error:
                self._log.warning("can't claim more", error=str(error))
                self._claim_in_doubt = True  # what was claimed before is ours all the same
        return leases

    # ---- device

    def _forward_loop(self) -> None:
        try:
            while (window := self._prefetch_queue.get()) is not None:
                for raw in self._device_loop.run(window):
                    self._output_queue.put(raw)
                self._prefetch_permits.release()
        finally:
            self._output_queue.put(None)

    # ---- decode and write

    def _write_loop(self) -> None:
        while True:
            items = self._output_queue.get_all()
            self._writer.write([item for item in items if item is not None])
            if not self._held_leases.leases():
                self._wakeup.notify()  # what had to wait for an empty hand may be claimed now
            if None in items:
                return

    def _release_leases(self) -> list[Lease]:
        held = self._held_leases.leases()
        if not held and not self._claim_in_doubt:
            return []

        def write(_again: bool) -> list[Lease]:
            with self._database.write() as connection:
                released = claims.release(connection, held)
                claims.release_unknown_claims(connection, self._claimant.worker_id, ())
                failpoint("in_release")
                return released

        released = retry_while_unreachable(write)
        self._held_leases.discard(held)
        self._log.info("gave unfinished slices back", slices=[lease.slice_id for lease in released])
        return released

    def _run_guarded(self, loop: Callable[[], None]) -> None:
        try:
            loop()
        except DatabaseRefused as error:
            self._log.error("the engine can't go on", code=error.code, error=str(error))
            if self._on_refusal is None:
                self._on_fatal_error()
            else:
                self._on_refusal(error)
        except BaseException:
            self._log.exception("a defect in the engine")
            self._on_fatal_error()

    def _log_claim(self, leases: Sequence[Lease], job_sizes: Sequence[JobSize]) -> None:
        slices: dict[str, list[Lease]] = {}
        for lease in leases:
            slices.setdefault(lease.batch_id, []).append(lease)
        if len(slices) > MAX_BATCHES_LOGGED:
            self._log.info("claimed", batches=len(slices), slices=len(leases), jobs=len(job_sizes))
            return
        counts = Counter(job.lease.batch_id for job in job_sizes)
        for batch_id, of_batch in sorted(slices.items()):
            self._log.info(
                "claimed",
                batch=batch_id,
                slices=[lease.slice_id for lease in of_batch],
                jobs=counts[batch_id],
                parameters=redaction.redact_parameters(of_batch[0].parameters),
            )
