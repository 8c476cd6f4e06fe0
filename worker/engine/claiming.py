"""Claiming decides what the engine claims next, and releases what it does not finish; in the claim thread."""

import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

from models.errors import Unreachable
from models.pipelines import redaction
from models.processes.failpoints import failpoint
from worker.engine.context import LoadedPipeline, WorkerContext
from worker.leasing.claiming import claims, quarantine_turns
from worker.leasing.claiming.quarantine_turns import QuarantineShare, Turn
from worker.leasing.leases import JobSize, Lease
from worker.leasing.retry import retry_while_unreachable

MAX_BATCHES_LOGGED = 16  # of one claim by id; of a claim with more, only the counts


class SliceClaimer:
    """Claims slices for one pipeline, quarantined ones in their turn, and records them as held."""

    def __init__(self, context: WorkerContext, pipeline: LoadedPipeline, log: Any) -> None:
        self._settings = context.settings
        self._database = context.claim_database
        self._release_database = context.database  # without a lock timeout
        self._backlog = context.backlog
        self._wakeup = context.wakeup_signal
        self._held_leases = context.held_leases
        self._claimant = pipeline.claimant
        self._metrics = context.metrics
        self._claim_sizer = pipeline.claim_sizer
        self._log = log
        self._quarantine_share = QuarantineShare()
        self._is_idle = False  # the last claim found nothing, and no lease was held
        self._claim_in_doubt = False  # the connection broke during a claim, which may have been committed

    def claim(self) -> tuple[list[Lease], list[JobSize]]:
        """Claim slices; returns their leases and their unanswered jobs, both empty when there is nothing to claim.

        Raises Unreachable.
        """
        failpoint("before_claim")
        started = time.monotonic()
        with self._held_leases.claiming():
            try:
                leases = self._claim_slices()
            except Unreachable:
                self._claim_in_doubt = True
                raise
            if not leases:
                return [], []
            failpoint("after_claim")
            self._record_claim(leases, time.monotonic() - started)
            self._held_leases.add(leases, ())  # from here on the heartbeat renews them
        sizes = retry_while_unreachable(lambda _is_retry: claims.unanswered_job_sizes(self._database, leases))
        self._held_leases.add(leases, sizes)
        self._log_claim(leases, sizes)
        return leases, sizes

    def release_all(self) -> list[Lease]:
        """Release all held slices, and those of a claim in doubt; returns the leases that were still held."""
        held_leases = self._held_leases.leases()
        if not held_leases and not self._claim_in_doubt:
            return []

        def release(_is_retry: bool) -> list[Lease]:
            with self._release_database.write() as connection:
                released = claims.release(connection, held_leases)
                claims.release_unknown_claims(connection, self._claimant.worker_id, ())
                failpoint("before_release")
                return released

        released = retry_while_unreachable(release)
        self._held_leases.discard(held_leases)
        self._log.info("slices.released", slice_ids=[lease.slice_id for lease in released])
        return released

    def _claim_slices(self) -> list[Lease]:
        held_leases = self._held_leases.leases()
        # While nothing happens, one statement tells; the claim itself takes several.
        if (
            self._is_idle
            and not held_leases
            and not self._claim_in_doubt
            and not self._backlog.has_work_for(self._claimant)
        ):
            return []
        self._is_idle = False
        leases = self._claim_in_turn(held_leases)
        self._is_idle = not leases and not held_leases
        return leases

    def _claim_in_turn(self, held_leases: Sequence[Lease]) -> list[Lease]:
        if self._claim_in_doubt:
            with self._database.write() as connection:
                claims.release_unknown_claims(connection, self._claimant.worker_id, held_leases)
            self._claim_in_doubt = False
        if any(lease.is_quarantined for lease in held_leases):
            return []  # a crash over it must not count against other slices
        quarantined = claims.next_quarantined(self._database, self._claimant)
        turn, self._quarantine_share = quarantine_turns.decide_turn(
            self._quarantine_share, quarantined, time.monotonic(), has_leases=bool(held_leases)
        )
        if turn is Turn.QUARANTINED:
            return claims.claim(self._database, self._claimant, 1, self._settings.slice_size, from_quarantine=True)
        return self._claim_ordinary(bool(held_leases)) if turn is Turn.ORDINARY else []

    def _claim_ordinary(self, is_busy: bool) -> list[Lease]:
        max_jobs = self._claim_sizer.jobs_to_claim()
        claim = partial(claims.claim, self._database, self._claimant, slice_size=self._settings.slice_size)
        leases = claim(max_jobs)
        claimed_jobs = sum(lease.size for lease in leases)
        if leases and is_busy and claimed_jobs < max_jobs and self._settings.linger_ms:
            # The device is busy anyway, so jobs that arrive meanwhile may share a micro-batch.
            self._wakeup.wait(self._settings.linger_ms / 1000)
            self._wakeup.acknowledge()
            try:
                leases += claim(max_jobs - claimed_jobs)
            except Unreachable as error:
                self._log.warning("database.unreachable", operation="claim", error=str(error))
                self._claim_in_doubt = True  # the first claim is valid all the same
        return leases

    def _record_claim(self, leases: Sequence[Lease], seconds: float) -> None:
        if self._metrics.is_enabled:
            waits = [lease.queued_seconds for lease in leases if lease.queued_seconds is not None]
            quarantined = sum(lease.is_quarantined for lease in leases)
            self._metrics.record_claim(self._claimant.pipeline, seconds, waits, quarantined)

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
