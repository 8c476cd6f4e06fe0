"""Planning: slots whose time has come get their runs. A run's row and its batch commit together, and a slot is a key.

Any number of processes plan at the same time: the schedule's row is locked, and says up to where it is decided.
"""

import socket
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Connection, Row, insert, select, text

from models.columns import Document, Moment
from models.db import Database
from models.errors import BatchmillError, Unreachable, UsageError
from models.failpoints import failpoint
from models.pipelines.catalogue import Catalogue
from models.pipelines.pipeline import Pipeline
from models.schedule_tables import Run
from models.states import Cause, RunState
from producer.readers.storable import storable
from producer.schedules.alerts import events
from producer.schedules.definition import Schedule
from producer.schedules.runs import run_errors
from producer.schedules.runs.run_lease import at_moments
from producer.schedules.timing import due_times
from producer.submission import open_submission
from producer.submission.ids import new_batch_id
from producer.submission.open_submission import Entry
from producer.submission.request import Request
from producer.times import Deadline

log = structlog.get_logger(__name__)

STEP = "its slots were decided"
PATIENCE = timedelta(minutes=10)  # for what may pass, such as memory that is short

# Lock order: the schedule's row, then its runs, then batches.
DUE = "SELECT name FROM schedules WHERE next_at <= :now ORDER BY next_at, name"

LOCK = """
SELECT definition, decided_at, next_at FROM schedules WHERE name = :name AND next_at <= :now {for_update}
"""

DECIDED = "UPDATE schedules SET decided_at = :decided_at, next_at = :next_at WHERE name = :name"

OPEN = "SELECT count(*) FROM runs WHERE schedule = :name AND look_at IS NOT NULL"


@dataclass(frozen=True, slots=True)
class Planned:
    """What came of a schedule's slots: runs to be, and slots that get none."""

    schedule: str
    runs: tuple[datetime, ...]
    skipped: tuple[datetime, ...]
    missed: int


def plan(database: Database, catalogue: Catalogue, now: datetime) -> list[Planned]:
    """Decide every slot up to this moment of every schedule, as far as that can be done; raises Unreachable."""
    with database.read() as connection:
        names = connection.scalars(at_moments(DUE, "now"), {"now": now}).all()
    found = []
    for name in names:
        try:
            found.append(plan_one(database, catalogue, name, now))
        except BaseException as error:  # such as a definition that a version before this one took
            if isinstance(error, (*run_errors.TO_END_US, Unreachable)):
                raise
            found.append(_fail_slots(database, catalogue, name, error, now))
    return [planned for planned in found if planned is not None]


def plan_one(database: Database, catalogue: Catalogue, name: str, now: datetime) -> Planned | None:
    """Decide the slots of one schedule; None where none is due any more."""
    with database.write() as connection:
        row = _locked(connection, database, name, now)
        if row is None:
            return None
        definition = Schedule.of(name, row.definition)
        if definition.pipeline not in catalogue:
            events.note(
                connection, name, row.next_at, "waiting", at=now, url=definition.webhook,
                message=f"the pipeline {definition.pipeline!r} is not in the catalogue of {socket.gethostname()}",
            )  # fmt: skip
            return None
        planned = _decide(connection, database, catalogue, definition, row, now)
        failpoint("in_plan")
    failpoint("after_plan")
    return planned


def _locked(connection: Connection, database: Database, name: str, now: datetime) -> Row[Any] | None:
    query = at_moments(LOCK.format(for_update=database.sql.for_update), "now")
    typed = query.columns(definition=Document, decided_at=Moment(), next_at=Moment())
    return connection.execute(typed, {"name": name, "now": now}).one_or_none()


def _fail_slots(
    database: Database, catalogue: Catalogue, name: str, error: BaseException, now: datetime
) -> Planned | None:
    """Decide the slots of a schedule as failed by what is no error of ours; what may pass has a while for that."""
    defect = BatchmillError(run_errors.sentence(error, STEP))
    try:
        with database.write() as connection:
            row = _locked(connection, database, name, now)
            if row is None:
                return None
            if isinstance(error, run_errors.MAY_PASS) and now - row.next_at < PATIENCE:
                log.warning("slots.put_off", schedule=name, error=type(error).__name__)
                return None
            definition = Schedule.of(name, row.definition)
            planned = _decide(connection, database, catalogue, definition, row, now, defect)
    except Unreachable:
        raise
    except Exception as worse:  # then nobody knows which slots there are
        _tell_undecided(database, name, worse, now)
        return None
    log.error("slots.failed", schedule=name, exc_info=error)
    return planned


def _tell_undecided(database: Database, name: str, error: Exception, now: datetime) -> None:
    """Tell, once, that nothing can be decided of a schedule before somebody mends it."""
    with database.write() as connection:
        row = _locked(connection, database, name, now)
        told = f"{run_errors.code(error)}: {run_errors.sentence(error, STEP)}"
        if row is not None and events.note(connection, name, row.next_at, "failed", told, at=now):
            log.error("slots.undecided", schedule=name, exc_info=error)


def open_run(
    connection: Connection, database: Database, catalogue: Catalogue, definition: Schedule, slot: datetime,
    *, cause: Cause, now: datetime, since: datetime | None = None,
) -> str:  # fmt: skip
    """A run for this slot and its batch, not read in yet; returns the batch's id. The schedule's row is locked.

    A backfill takes in what came from `since` on; unset, from the slot before. Raises IntegrityError where there is a
    run of the slot.
    """
    deadline_at = None if cause is Cause.BACKFILL else definition.deadline_at(slot)
    request = _request(definition, catalogue[definition.pipeline], slot, deadline_at, now)
    entry = Entry(new_batch_id(), submitter="")
    open_submission.insert_batch(connection, database.sql, request, entry)
    values = _row(definition, slot, cause, now) | {
        "state": RunState.WAITING.value, "batch_id": entry.batch_id, "deadline_at": deadline_at,
        "look_at": now, "since": since,
    }  # fmt: skip
    connection.execute(insert(Run.__table__).values(values))  # type: ignore[arg-type]
    return entry.batch_id


def _request(
    definition: Schedule, pipeline: Pipeline, slot: datetime, deadline_at: datetime | None, now: datetime
) -> Request:
    """With the deadline as a span, which the database's clock measures whatever ours says."""
    request = definition.request(pipeline, slot)
    left = None if deadline_at is None else (deadline_at - now).total_seconds()
    if left is None or left <= 0:  # one that has passed already would only keep a night from being caught up
        return request
    return replace(request, deadline=Deadline(seconds=left))


def _decide(
    connection: Connection, database: Database, catalogue: Catalogue, definition: Schedule, row: Row[Any],
    now: datetime, defect: BatchmillError | None = None,
) -> Planned:  # fmt: skip
    name = definition.name
    decision = due_times.decide(
        definition.times, decided_at=row.decided_at, now=now, catchup=definition.catchup,
        window=definition.window,
    )  # fmt: skip
    # Slots that come due together are caught up one after another; only what was at it before is overlapped.
    busy = definition.overlap == "skip" and decision.due and connection.scalar(text(OPEN), {"name": name})
    there = set(_there(connection, name, (*decision.due, *decision.missed)))
    due = [slot for slot in decision.due if slot not in there]
    if busy:
        _without_run(connection, definition, due, RunState.SKIPPED, now)
        _note(connection, definition, due, "skipped", "the run before was still at it", now)
    elif obstacle := defect or _obstacle(definition, catalogue[definition.pipeline], now):
        told = {"error_code": obstacle.code, "error_message": storable(str(obstacle))}
        _without_run(connection, definition, due, RunState.FAILED, now, **told)
        _note(connection, definition, due, "failed", str(obstacle), now)
    else:
        for slot in due:
            open_run(connection, database, catalogue, definition, slot, cause=Cause.CRON, now=now)
    if decision.missed_count:
        _without_run(connection, definition, [s for s in decision.missed if s not in there], RunState.MISSED, now)
        message = _missed(definition.spelled(decision.missed[-1]), decision.missed_count)
        _note(connection, definition, decision.missed[-1:], "missed", message, now)
    connection.execute(
        at_moments(DECIDED, "decided_at", "next_at"),
        {"name": name, "decided_at": decision.decided_at, "next_at": decision.next_at},
    )
    runs, skipped = ((), tuple(due)) if busy else (tuple(due), ())
    return Planned(name, runs, skipped, decision.missed_count)


def _missed(last: str, count: int) -> str:
    return f"the slot of {last} was missed" if count == 1 else f"{count:,} slots were missed, the last at {last}"


def _there(connection: Connection, name: str, moments: Iterable[datetime]) -> Iterable[datetime]:
    table = Run.__table__
    return connection.scalars(select(table.c.slot).where(table.c.schedule == name, table.c.slot.in_(tuple(moments))))


def _obstacle(definition: Schedule, pipeline: Pipeline, now: datetime) -> UsageError | None:
    """Why the pipeline takes no such batch any more: it was changed since the schedule was made."""
    try:
        definition.request(pipeline, now)
    except UsageError as error:
        return error
    return None


def _note(
    connection: Connection, definition: Schedule, moments: Iterable[datetime], kind: str, message: str, now: datetime
) -> None:
    for slot in moments:
        events.note(connection, definition.name, slot, kind, message, at=now, url=definition.webhook)


def _without_run(
    connection: Connection, definition: Schedule, moments: Iterable[datetime], state: RunState, now: datetime,
    **more: str,
) -> None:  # fmt: skip
    ended = {"state": state.value, "finished_at": now, **more}
    rows = [_row(definition, slot, Cause.CRON, now) | ended for slot in moments]
    if rows:
        connection.execute(insert(Run.__table__), rows)  # type: ignore[arg-type]


def _row(definition: Schedule, slot: datetime, cause: Cause, now: datetime) -> dict[str, Any]:
    return {
        "schedule": definition.name, "slot": slot, "cause": cause.value, "definition": definition.stored(),
        "beside": definition.overlap == "allow", "decided_at": now,
    }  # fmt: skip
