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
from worker.adapters.rows import Encoded
from worker.engine import preparation
from worker.engine.claim_size import Pace
from worker.engine.device_loop import Passes, Raw, Window
from worker.engine.output_queue import Outputs
from worker.engine.planning import Packing
from worker.engine.preparation import Preparation
from worker.engine.token_budget import Budget
from worker.engine.wakeup import Doorbell
from worker.engine.watchdog import Watchdog
from worker.engine.writer import Backoff, Closing, at_once
from worker.leasing import claims, quarantine_turns
from worker.leasing.database_refusal import OnRefusal
from worker.leasing.leases import Claimant, Holdings, Lease, Size
from worker.leasing.quarantine_turns import Share, Turn
from worker.leasing.retry import patiently

if TYPE_CHECKING:  # the engine itself runs without torch
    from worker.loading.runtime import Runtime

log = structlog.get_logger(__name__)

WINDOWS_HELD = 2
WINDOW_BYTES = 8 * 2**20
BATCHES_LOGGED = 16  # by name, of one claim; of more only how many


class Engine:
    """Works through one pipeline's backlog until told to stop."""

    def __init__(
        self, database: Database, runtime: "Runtime", claimant: Claimant, doorbell: Doorbell, holdings: Holdings,
        pace: Pace, *, version_id: int, slice_jobs: int, idle_seconds: float, linger_seconds: float = 0.0,
        window_bytes: int = WINDOW_BYTES, budget: Budget | None = None, max_attempts: int = 3,
        backoff: Backoff = at_once, watchdog: Watchdog | None = None, on_defect: Callable[[], None],
        on_idle: Callable[[], None] = lambda: None, on_refusal: OnRefusal | None = None,
        claiming: Database | None = None,
    ) -> None:  # fmt: skip
        self._database = database
        self._claiming = claiming or database  # on a connection of its own, a claim and a write go on side by side
        self._runtime = runtime
        self._claimant = claimant
        self._spec = tasks.find(claimant.task)
        self._log = log.bind(pipeline=claimant.pipeline)
        self._doorbell = doorbell
        self._holdings = holdings
        self._pace = pace
        self._slice_jobs = slice_jobs
        self._idle_seconds = idle_seconds
        self._linger_seconds = linger_seconds
        self._on_defect = on_defect
        self._on_refusal = on_refusal
        self._on_idle = on_idle  # there was nothing to claim, and nothing is in hand
        self._share = Share()  # what quarantined slices have had of this process' time
        self._claim_in_doubt = False  # the database broke off a claim: it may have been committed all the same
        self._stopping = threading.Event()
        budget = budget or Budget(runtime.tokens_per_batch, tunes=False)
        self._watchdog = watchdog or Watchdog(math.inf, on_defect)
        self._passes = Passes(runtime, budget, holdings, pace, self._watchdog, self._log)
        self._room = threading.Semaphore(WINDOWS_HELD)
        self._closing = Closing(
            database, runtime.adapter, holdings, version_id=version_id, max_attempts=max_attempts, backoff=backoff,
            watchdog=self._watchdog, log=self._log,
        )  # fmt: skip
        self._windows: queue.Queue[Window | None] = queue.Queue()
        self._window_bytes = window_bytes
        self._outputs = Outputs(window_bytes)
        self._preparation = Preparation(runtime.adapter, self._spec.draws, self._watchdog, window_bytes)
        self._threads = [
            threading.Thread(target=self._guarded, args=(loop,), name=name)
            for name, loop in (("claim", self._claim), ("device", self._compute), ("write", self._write))
        ]

    def start(self) -> None:
        """Begin to claim."""
        self._watchdog.start()
        for thread in self._threads:
            thread.start()

    def stop(self, patience_seconds: float = math.inf) -> None:
        """Finish the micro-batch on the device, write what is there; returns at once. `join` gives the rest back.

        A pass that takes longer than `patience_seconds` (a long text being written) is given up.
        """
        self._passes.stop(patience_seconds)
        self._stopping.set()
        self._doorbell.nudge()
        self._room.release()

    def join(self) -> list[Lease]:
        """Wait until all three threads have ended; returns the leases that were given back."""
        for thread in self._threads:
            thread.join()
        self._watchdog.stop()
        return self._give_back()

    # ---- claim and tokenize

    def _claim(self) -> None:
        try:
            while not self._stopping.is_set():
                self._room.acquire()
                if self._stopping.is_set() or not self._claim_once():
                    self._room.release()
                    self._doorbell.wait(self._idle_seconds)
        finally:
            self._windows.put(None)

    def _claim_once(self) -> bool:
        """Take some slices, and prepare them in windows; False when there were none."""
        self._doorbell.look()
        asked = time.monotonic()
        failpoint("before_claim")
        try:
            leases = self._take()
        except Unreachable as error:
            self._log.warning("can't claim, will look again", error=str(error), seconds=self._idle_seconds)
            self._claim_in_doubt = True
            return False
        if not leases:
            if not self._holdings.leases():
                self._on_idle()
            return False
        failpoint("after_claim")
        self._holdings.add(leases, ())  # from here on the heartbeat keeps them
        sizes = patiently(lambda _again: claims.sizes(self._claiming, leases))
        self._holdings.add(leases, sizes)
        self._log_claim(leases, sizes)
        unclosed = [lease for lease in leases if self._holdings.open_jobs(lease) == 0]
        if unclosed:
            self._outputs.put(unclosed)
        self._prepare(leases, sizes, asked)
        return True

    def _prepare(self, leases: list[Lease], sizes: Sequence[Size], claimed: float) -> None:
        """Pass the jobs on in windows. There is room for the first; each further one waits for it."""
        has_room = True
        for rows in self._rows(sizes):
            if not has_room:
                self._room.acquire()
            if self._stopping.is_set():
                return
            self._windows.put(Window(leases, Packing(rows, self._runtime.adapter.most_rows), claimed))
            has_room, claimed = False, time.monotonic()
        if has_room:
            self._room.release()

    def _rows(self, sizes: Sequence[Size]) -> Iterator[list[Encoded]]:
        """The rows of each window. What the jobs ask is read as they are taken, and no more of it than fits."""
        for stretches in preparation.planned(sizes, self._window_bytes):
            held = [each for each in stretches if self._holdings.holds(each.lease)]
            if self._stopping.is_set() or not held:
                continue
            jobs = patiently(lambda _again, held=held: claims.inputs(self._claiming, held))  # type: ignore[misc]
            for prepared in self._preparation.windows(jobs):
                if prepared.refused:
                    self._outputs.put(Raw(0, prepared.refused))
                if prepared.rows:
                    yield prepared.rows

    def _take(self) -> list[Lease]:
        held = self._holdings.leases()
        if self._claim_in_doubt:
            with self._claiming.write() as connection:
                claims.release_strays(connection, self._claimant.worker_id, held)
            self._claim_in_doubt = False
        if any(lease.suspect for lease in held):
            return []  # nothing else may die with it
        waiting = claims.quarantined(self._claiming, self._claimant)
        turn, self._share = quarantine_turns.next_turn(self._share, waiting, time.monotonic(), holds=bool(held))
        if turn is Turn.QUARANTINED:
            return claims.take(self._claiming, self._claimant, 1, self._slice_jobs, suspect=True)
        return self._take_ordinary(bool(held)) if turn is Turn.ORDINARY else []

    def _take_ordinary(self, busy: bool) -> list[Lease]:
        room = self._pace.room()
        take = partial(claims.take, self._claiming, self._claimant, slice_jobs=self._slice_jobs)
        leases = take(room)
        taken = sum(lease.size for lease in leases)
        if leases and busy and taken < room and self._linger_seconds:
            # The device is busy anyway: what comes in meanwhile may share a pass.
            self._doorbell.wait(self._linger_seconds)
            self._doorbell.look()
            try:
                leases += take(room - taken)
            except Unreachable as error:
                self._log.warning("can't claim more", error=str(error))
                self._claim_in_doubt = True  # what was claimed before is ours all the same
        return leases

    # ---- device

    def _compute(self) -> None:
        try:
            while (window := self._windows.get()) is not None:
                for raw in self._passes.through(window):
                    self._outputs.put(raw)
                self._room.release()
        finally:
            self._outputs.put(None)

    # ---- decode and write

    def _write(self) -> None:
        while True:
            items = self._outputs.take()
            self._closing.close([item for item in items if item is not None])
            if not self._holdings.leases():
                self._doorbell.nudge()  # what had to wait for an empty hand may be claimed now
            if None in items:
                return

    def _give_back(self) -> list[Lease]:
        held = self._holdings.leases()
        if not held and not self._claim_in_doubt:
            return []

        def write(_again: bool) -> list[Lease]:
            with self._database.write() as connection:
                released = claims.release(connection, held)
                claims.release_strays(connection, self._claimant.worker_id, ())
                failpoint("in_release")
                return released

        released = patiently(write)
        self._holdings.drop(held)
        self._log.info("gave unfinished slices back", slices=[lease.slice_id for lease in released])
        return released

    def _guarded(self, loop: Callable[[], None]) -> None:
        try:
            loop()
        except DatabaseRefused as error:
            self._log.error("the engine can't go on", code=error.code, error=str(error))
            if self._on_refusal is None:
                self._on_defect()
            else:
                self._on_refusal(error)
        except BaseException:
            self._log.exception("a defect in the engine")
            self._on_defect()

    def _log_claim(self, leases: Sequence[Lease], jobs: Sequence[Size]) -> None:
        slices: dict[str, list[Lease]] = {}
        for lease in leases:
            slices.setdefault(lease.batch_id, []).append(lease)
        if len(slices) > BATCHES_LOGGED:
            self._log.info("claimed", batches=len(slices), slices=len(leases), jobs=len(jobs))
            return
        counts = Counter(job.lease.batch_id for job in jobs)
        for batch_id, of_batch in sorted(slices.items()):
            self._log.info(
                "claimed", batch=batch_id, slices=[lease.slice_id for lease in of_batch], jobs=counts[batch_id],
                parameters=redaction.parameters(of_batch[0].parameters),
            )  # fmt: skip
