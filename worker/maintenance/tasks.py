"""TODO."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from sqlalchemy import text

from models.db import Database
from models.lifecycle import retention, termination
from models.settings import Settings
from models.states import BatchStatus, Ending
from worker.leasing import reclaim
from worker.maintenance import clock_steps, resend_wakeups
from worker.maintenance.schedule_launcher import Scheduling

RECLAIM = "reclaim"
RETENTION_SECONDS = 60.0
DELETING_SECONDS, DELETED_CHUNKS = 5.0, 4  # a turn, and how much between two looks at the clock
DAY = 86_400.0
CHUNKS_A_TURN = 20  # of a batch that ends: a process that is told to stop must not be kept for long


PAST_DEADLINE = """
SELECT id FROM batches WHERE status = 'in_progress' AND expires_at <= {now} ORDER BY id LIMIT 100
"""


ENDING = "SELECT id FROM batches WHERE status = 'cancelling' ORDER BY id LIMIT 100"


ABANDONED = """
SELECT id FROM batches b WHERE status = 'validating' AND coalesce(heard_at, created_at) <= {later}
  AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.batch_id = b.id AND r.look_at IS NOT NULL)  -- its source may be late
ORDER BY id LIMIT 100
"""


# Without a key nobody can go on with it, and it has been worked on already.
UNREAD = """
SELECT id FROM batches WHERE status = 'in_progress' AND reading AND coalesce(heard_at, created_at) <= {later}
  AND (idempotency_key IS NULL OR :any_key) ORDER BY id LIMIT 100
"""


UNREAD_SECONDS = 600.0


GONE = "submit_abandoned", "whoever submitted this went away before all of it was read; submit it again"


@dataclass(frozen=True, slots=True)
class Duty:
    """Something to look after every `seconds`; `run` does it, and says what it did, or nothing."""

    name: str
    seconds: float
    run: Callable[[], str]


def standard(database: Database, settings: Settings) -> list[Duty]:
    """All duties, at the intervals that the settings say."""
    return [
        Duty(RECLAIM, settings.duty_seconds, lambda: reclaimed(database, settings.max_attempts)),
        Duty("clock", clock_steps.SECONDS, lambda: clock_steps.taken_back(database, settings)),
        Duty("deadlines", settings.deadline_seconds, lambda: expired(database)),
        Duty("endings", settings.duty_seconds, lambda: ended(database)),
        Duty("bells", settings.ring_seconds, lambda: resend_wakeups.rung_anew(database, settings)),
        Duty(
            "abandoned", min(60.0, settings.abandoned_seconds), lambda: abandoned(database, settings.abandoned_seconds)
        ),
        Duty("schedules", settings.schedule_seconds, Scheduling(database, settings).run_once),
        Duty("retention", RETENTION_SECONDS, lambda: deleted(database, settings.prune_days)),
    ]


def reclaimed(database: Database, max_attempts: int) -> str:
    """Queue, split or close the slices whose leases ran out."""
    found = reclaim.lapsed(database, max_attempts)
    return f"leases ran out: queued {found.queued}, split {found.split}, buried {found.buried}" if found else ""


def expired(database: Database) -> str:
    """End the batches whose deadline has passed."""
    ids = [
        batch_id
        for batch_id in _ids(database, PAST_DEADLINE)
        if termination.end(database, batch_id, Ending.EXPIRED, None, None) is not None
    ]
    return f"deadline passed: {', '.join(ids)}" if ids else ""


def ended(database: Database) -> str:
    """Close what is open of batches that began to end, whoever began it."""
    jobs = {batch_id: termination.finish(database, batch_id, CHUNKS_A_TURN) for batch_id in _ids(database, ENDING)}
    said = [f"{batch_id} ({count:,} jobs)" for batch_id, count in jobs.items()]
    return f"closed what was open: {', '.join(said)}" if said else ""


def abandoned(database: Database, seconds: float) -> str:
    """End the batches of which nobody has heard any more while they were submitted; the same command is a new one."""
    ids = [
        batch_id
        for batch_id in _ids(database, ABANDONED, seconds=-seconds)
        if termination.end(database, batch_id, Ending.FAILED, *GONE, of=(BatchStatus.VALIDATING,), frees_key=True)
        is not None
    ]
    ids += [
        batch_id
        for any_key, silent in ((True, seconds), (False, min(seconds, UNREAD_SECONDS)))
        for batch_id in _ids(database, UNREAD, seconds=-silent, any_key=any_key)
        if termination.end(database, batch_id, Ending.FAILED, *GONE, unread=True, frees_key=True) is not None
    ]
    return f"abandoned while submitted: {', '.join(ids)}" if ids else ""


def deleted(database: Database, days: float | None) -> str:
    """Delete what ended so many days ago, unless None, and what somebody began to delete; some seconds at a time."""
    if days is not None:
        retention.forget(database, days * DAY)
        for batch in islice(retention.aged(database, days * DAY), 100):
            retention.mark(database, batch.id)
    until, gone = time.monotonic() + DELETING_SECONDS, []
    for batch_id in retention.marked(database):
        while time.monotonic() < until:
            if retention.finish(database, batch_id, DELETED_CHUNKS):
                gone.append(batch_id)
                break
    return f"deleted: {', '.join(gone)}" if gone else ""


def _ids(database: Database, query: str, **named: float) -> Sequence[str]:
    with database.read() as connection:
        return connection.scalars(text(query.format(now=database.sql.now, later=database.sql.later)), named).all()
