"""Mourning: a supervisor that saw its worker die gives back at once what was leased to it, instead of after a lease."""

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
from worker.leasing import load_failures, reclaim
from worker.leasing.load_backoff import LoadBackoff
from worker.leasing.load_failures import LoadLocation
from worker.supervisor.supervisor import ChildExit

log = structlog.get_logger(__name__)

# What others send; the rest (an abort, a segmentation fault) a process does to itself.
EXTERNAL_SIGNALS = frozenset(
    {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGSTOP}
)
EXTERNAL_SIGNAL_STATUSES = frozenset(128 + number for number in EXTERNAL_SIGNALS)

MAX_TRIES, RETRY_SECONDS = 3, 0.3

# A process that ends while it loads a model would end so again: its successor begins with its other pipelines.
SELECT_LOADING_PIPELINE = (
    "SELECT pipeline, model, host, device FROM workers WHERE id = :worker_id AND state = 'loading'"
)

DELETE_WORKER = "DELETE FROM workers WHERE id = :worker_id"


def classify_exit(child_exit: ChildExit) -> AttemptOutcome:
    """Whether it died of its own, perhaps of an input, or was killed from outside. Pure."""
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
    """Told of deaths by the supervisor; where the database is away, leases run out by themselves."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings

    def __call__(self, child_exit: ChildExit) -> None:
        """Give back what the dead worker held, and wake somebody for it."""
        for _ in range(MAX_TRIES):
            try:
                self._reclaim(child_exit)
            except Unreachable as error:
                log.warning(
                    "can't give back yet what a dead worker held", worker=child_exit.worker_id, error=str(error)
                )
                time.sleep(RETRY_SECONDS)
            except DatabaseRefused as error:
                log.error("can't give back what a dead worker held", worker=child_exit.worker_id, error=str(error))
                return
            else:
                return

    def _reclaim(self, child_exit: ChildExit) -> None:
        ending = classify_exit(child_exit)
        self._record_load_failure(child_exit, ending)
        found = reclaim.reclaim_from_worker(self._database, child_exit.worker_id, ending, self._settings.max_attempts)
        with self._database.write() as connection:
            connection.execute(text(DELETE_WORKER), {"worker_id": child_exit.worker_id})
        if not found:
            return
        log.warning(
            "gave back what a dead worker held",
            worker=child_exit.worker_id,
            ending=ending.value,
            queued=found.requeued,
            split=found.split,
            buried=found.dead_lettered,
        )
        for pipeline, slice_ids in found.wakeups.items():
            try:
                wakeups.send_wakeups(self._settings, pipeline, slice_ids)
            except Unreachable as error:
                log.warning("could not ring for it; others will find it in SQL", error=str(error))

    def _record_load_failure(self, child_exit: ChildExit, outcome: AttemptOutcome) -> None:
        with self._database.read() as connection:
            row = connection.execute(text(SELECT_LOADING_PIPELINE), {"worker_id": child_exit.worker_id}).one_or_none()
        if row is None:
            return
        tries, _ = load_failures.failures_for_seat(self._database, child_exit.worker_id).get(row.pipeline, (0, 0.0))
        how_it_ended = (
            "ran out of memory"
            if child_exit.oom_suspected
            else f"ended (exit status {child_exit.exit_status}, {outcome.value})"
        )
        error = LoadFailed(f"the process {how_it_ended} while it loaded {row.model}")
        place, pause = (
            LoadLocation(child_exit.worker_id, row.host, row.device),
            LoadBackoff.max_pause_seconds(tries + 1),
        )
        load_failures.record(self._database, place, row.pipeline, row.model, error, pause)
        log.error("a worker ended while it loaded a pipeline", failed=row.pipeline, error=str(error), seconds=pause)
