"""Crash recovery requeues a crashed worker's slices at once, before their leases expire."""

import os
import signal
import time

import structlog
from sqlalchemy import text

from models.db import Database
from models.errors import DatabaseRefused, LoadFailed, Unreachable
from models.lifecycle import wakeups
from models.settings import Settings
from models.states import AttemptOutcome
from worker.exit_status import DEVICE_HUNG, SCHEMA_OUTDATED
from worker.leasing import reclaim
from worker.leasing.load_problems import load_failures
from worker.leasing.load_problems.load_backoff import LoadBackoff
from worker.leasing.load_problems.load_failures import LoadLocation
from worker.metrics.recorder import NO_METRICS, MetricsRecorder
from worker.supervisor.supervisor import ChildExit

log = structlog.get_logger(__name__)

# Signals from outside; a process causes all others itself, such as an abort or a segmentation fault.
EXTERNAL_SIGNALS = frozenset(
    {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGSTOP}
)
EXTERNAL_SIGNAL_STATUSES = frozenset(128 + number for number in EXTERNAL_SIGNALS)

MAX_TRIES, RETRY_SECONDS = 3, 0.3

# A crash during a load would probably recur, so the restarted process loads its other pipelines first.
SELECT_LOADING_PIPELINE = (
    "SELECT pipeline, model, host, device FROM workers WHERE id = :worker_id AND state = 'loading'"
)

DELETE_WORKER = "DELETE FROM workers WHERE id = :worker_id"


def classify_exit(child_exit: ChildExit) -> AttemptOutcome:
    """Tell a crash, which an input may have caused, from a hung device and from a kill from outside; pure."""
    if child_exit.exit_status == DEVICE_HUNG:
        return AttemptOutcome.HUNG
    if child_exit.exit_status == SCHEMA_OUTDATED:
        return AttemptOutcome.KILLED
    if child_exit.exit_status == -signal.SIGKILL:
        return AttemptOutcome.CRASHED if child_exit.oom_suspected else AttemptOutcome.KILLED
    if child_exit.exit_status < 0:
        return AttemptOutcome.KILLED if -child_exit.exit_status in EXTERNAL_SIGNALS else AttemptOutcome.CRASHED
    return (
        AttemptOutcome.CRASHED
        if child_exit.exit_status >= os.EX_USAGE and child_exit.exit_status not in EXTERNAL_SIGNAL_STATUSES
        else AttemptOutcome.KILLED
    )


class CrashRecovery:
    """Handles child exits for the supervisor; if the database is unreachable, the leases expire by themselves."""

    def __init__(self, database: Database, settings: Settings, metrics: MetricsRecorder = NO_METRICS) -> None:
        self._metrics = metrics
        self._database = database
        self._settings = settings

    def __call__(self, child_exit: ChildExit) -> None:
        """Requeue the exited worker's slices and send wakeups for them."""
        for _ in range(MAX_TRIES):
            try:
                self._reclaim(child_exit)
            except Unreachable as error:
                log.warning(
                    "worker.crash_recovery_failed",
                    worker_id=child_exit.worker_id,
                    error=str(error),
                    retry_seconds=RETRY_SECONDS,
                )
                time.sleep(RETRY_SECONDS)
            except DatabaseRefused as error:
                log.error(
                    "worker.crash_recovery_failed",
                    worker_id=child_exit.worker_id,
                    error_code=error.code,
                    error=str(error),
                )
                return
            else:
                return

    def _reclaim(self, child_exit: ChildExit) -> None:
        outcome = classify_exit(child_exit)
        self._record_load_failure(child_exit, outcome)
        max_attempts = self._settings.max_attempts
        reclaimed = reclaim.reclaim_from_worker(self._database, child_exit.worker_id, outcome, max_attempts)
        with self._database.write() as connection:
            connection.execute(text(DELETE_WORKER), {"worker_id": child_exit.worker_id})
        self._metrics.record_exit(outcome.value)
        if not reclaimed:
            return
        self._metrics.record_reclaim(len(reclaimed.requeued), len(reclaimed.split), len(reclaimed.dead_lettered))
        log.warning(
            "worker.crash_recovered",
            worker_id=child_exit.worker_id,
            outcome=outcome.value,
            requeued=reclaimed.requeued,
            split=reclaimed.split,
            dead_lettered=reclaimed.dead_lettered,
        )
        for pipeline, count in reclaimed.claimable.items():
            try:
                wakeups.send_wakeups(self._settings, pipeline, count)
            except Unreachable as error:
                log.warning(
                    "wakeups.send_failed",
                    pipeline=pipeline,
                    error=str(error),
                    reason="workers find requeued slices by polling SQL",
                )

    def _record_load_failure(self, child_exit: ChildExit, outcome: AttemptOutcome) -> None:
        with self._database.read() as connection:
            row = connection.execute(text(SELECT_LOADING_PIPELINE), {"worker_id": child_exit.worker_id}).one_or_none()
        if row is None:
            return
        attempts, _ = load_failures.failures_for_seat(self._database, child_exit.worker_id).get(row.pipeline, (0, 0.0))
        cause = (
            "ran out of memory"
            if child_exit.oom_suspected
            else f"ended (exit status {child_exit.exit_status}, {outcome.value})"
        )
        error = LoadFailed(f"the process {cause} while it loaded {row.model}")
        location = LoadLocation(child_exit.worker_id, row.host, row.device)
        pause = LoadBackoff.max_pause_seconds(attempts + 1)
        load_failures.record(self._database, location, row.pipeline, row.model, error, pause)
        log.error(
            "model.load_crashed",
            worker_id=child_exit.worker_id,
            pipeline=row.pipeline,
            error=str(error),
            retry_seconds=pause,
        )
