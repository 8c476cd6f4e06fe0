"""The maintenance tasks: reclaim slices, end batches, delete old ones, resend wakeups, start schedules."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from sqlalchemy import text

from models.db import Database
from models.lifecycle import retention, termination
from models.settings import Settings
from models.states import BatchStatus, Termination
from worker.leasing import reclaim
from worker.maintenance import clock_steps, resend_wakeups
from worker.maintenance.schedule_launcher import ScheduleLauncher

RECLAIM_TASK = "reclaim"
RETENTION_INTERVAL_SECONDS = 60.0
MAX_DELETE_SECONDS, DELETE_CHUNKS_PER_CHECK = 5.0, 4  # a turn, and how much between two looks at the clock
DAY_SECONDS = 86_400.0
MAX_CHUNKS_PER_RUN = 20  # of a batch that ends: a process that is told to stop must not be kept for long


SELECT_PAST_DEADLINE = """
SELECT id FROM batches WHERE status = 'in_progress' AND expires_at <= {now} ORDER BY id LIMIT 100
"""


SELECT_TERMINATING = "SELECT id FROM batches WHERE status = 'cancelling' ORDER BY id LIMIT 100"


SELECT_ABANDONED_VALIDATING = """
SELECT id FROM batches b WHERE status = 'validating' AND coalesce(heard_at, created_at) <= {later}
  AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.batch_id = b.id AND r.look_at IS NOT NULL)  -- its source may be late
ORDER BY id LIMIT 100
"""


# Without a key nobody can go on with it, and it has been worked on already.
SELECT_ABANDONED_INGESTING = """
SELECT id FROM batches WHERE status = 'in_progress' AND reading AND coalesce(heard_at, created_at) <= {later}
  AND (idempotency_key IS NULL OR :any_key) ORDER BY id LIMIT 100
"""


MAX_INGEST_SILENCE_SECONDS = 600.0


SUBMIT_ABANDONED_ERROR = (
    "submit_abandoned",
    "whoever submitted this went away before all of it was read; submit it again",
)


@dataclass(frozen=True, slots=True)
class MaintenanceTask:
    """Something to look after every `seconds`; `run` does it, and says what it did, or nothing."""

    name: str
    interval_seconds: float
    run: Callable[[], str]


def default_tasks(database: Database, settings: Settings) -> list[MaintenanceTask]:
    """All duties, at the intervals that the settings say."""
    return [
        MaintenanceTask(
            RECLAIM_TASK,
            settings.poll_interval_seconds,
            lambda: reclaim_expired_leases(database, settings.max_attempts),
        ),
        MaintenanceTask(
            "clock", clock_steps.CHECK_INTERVAL_SECONDS, lambda: clock_steps.reset_future_timestamps(database, settings)
        ),
        MaintenanceTask("deadlines", settings.deadline_check_seconds, lambda: expire_batches(database)),
        MaintenanceTask("endings", settings.poll_interval_seconds, lambda: finish_terminations(database)),
        MaintenanceTask(
            "bells", settings.wakeup_resend_seconds, lambda: resend_wakeups.resend_lost_wakeups(database, settings)
        ),
        MaintenanceTask(
            "abandoned",
            min(60.0, settings.submit_timeout_seconds),
            lambda: end_abandoned_batches(database, settings.submit_timeout_seconds),
        ),
        MaintenanceTask("schedules", settings.schedule_check_seconds, ScheduleLauncher(database, settings).run_once),
        MaintenanceTask(
            "retention", RETENTION_INTERVAL_SECONDS, lambda: delete_old_batches(database, settings.retention_days)
        ),
    ]


def reclaim_expired_leases(database: Database, max_attempts: int) -> str:
    """Queue, split or close the slices whose leases ran out."""
    found = reclaim.reclaim_expired(database, max_attempts)
    return (
        f"leases ran out: queued {found.requeued}, split {found.split}, buried {found.dead_lettered}" if found else ""
    )


def expire_batches(database: Database) -> str:
    """End the batches whose deadline has passed."""
    ids = [
        batch_id
        for batch_id in _select_ids(database, SELECT_PAST_DEADLINE)
        if termination.terminate(database, batch_id, Termination.EXPIRED, None, None) is not None
    ]
    return f"deadline passed: {', '.join(ids)}" if ids else ""


def finish_terminations(database: Database) -> str:
    """Close what is open of batches that began to end, whoever began it."""
    jobs = {
        batch_id: termination.finish_termination(database, batch_id, MAX_CHUNKS_PER_RUN)
        for batch_id in _select_ids(database, SELECT_TERMINATING)
    }
    said = [f"{batch_id} ({count:,} jobs)" for batch_id, count in jobs.items()]
    return f"closed what was open: {', '.join(said)}" if said else ""


def end_abandoned_batches(database: Database, max_silence_seconds: float) -> str:
    """End the batches of which nobody has heard any more while they were submitted; the same command is a new one."""
    ids = [
        batch_id
        for batch_id in _select_ids(database, SELECT_ABANDONED_VALIDATING, seconds=-max_silence_seconds)
        if termination.terminate(
            database,
            batch_id,
            Termination.FAILED,
            *SUBMIT_ABANDONED_ERROR,
            from_statuses=(BatchStatus.VALIDATING,),
            frees_key=True,
        )
        is not None
    ]
    ids += [
        batch_id
        for any_key, silent in (
            (True, max_silence_seconds),
            (False, min(max_silence_seconds, MAX_INGEST_SILENCE_SECONDS)),
        )
        for batch_id in _select_ids(database, SELECT_ABANDONED_INGESTING, seconds=-silent, any_key=any_key)
        if termination.terminate(
            database, batch_id, Termination.FAILED, *SUBMIT_ABANDONED_ERROR, only_while_ingesting=True, frees_key=True
        )
        is not None
    ]
    return f"abandoned while submitted: {', '.join(ids)}" if ids else ""


def delete_old_batches(database: Database, retention_days: float | None) -> str:
    """Delete what ended so many days ago, unless None, and what somebody began to delete; some seconds at a time."""
    if retention_days is not None:
        retention.delete_old_runs(database, retention_days * DAY_SECONDS)
        for batch in islice(retention.old_batches(database, retention_days * DAY_SECONDS), 100):
            retention.begin_deletion(database, batch.id)
    until, gone = time.monotonic() + MAX_DELETE_SECONDS, []
    for batch_id in retention.deleting_batches(database):
        while time.monotonic() < until:
            if retention.finish_deletion(database, batch_id, DELETE_CHUNKS_PER_CHECK):
                gone.append(batch_id)
                break
    return f"deleted: {', '.join(gone)}" if gone else ""


def _select_ids(database: Database, statement: str, **named: float) -> Sequence[str]:
    with database.read() as connection:
        return connection.scalars(
            text(statement.format(now=database.sql.now, later=database.sql.now_plus_seconds)), named
        ).all()
