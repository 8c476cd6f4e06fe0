"""Followers are schedules with `after`: they get a run for each run of the other schedule that completes.

The follower's run commits in the transaction that ends the other run, so that kills neither lose it nor double it. It
gets its batch later (`opening.py`), because the process that ends a run need not know the follower's pipeline.

A repeated run has its followers repeated. One that is open then goes on, and is repeated after its end.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, text

from models.dialects.columns import Document
from models.dialects.fragments import SqlFragments
from models.states import RunState, RunTrigger
from models.tables.schedules import Run
from producer.schedules.alerts import events
from producer.schedules.runs.run_lease import bind_datetimes
from producer.schedules.runs.run_views import RunView

# Lock order: the schedule whose run ends, its runs, then the schedules that follow it. A follower never locks back.
LOCK_FOLLOWERS = """
SELECT name, definition FROM schedules
WHERE definition ->> 'after' = :schedule AND deleted_at IS NULL AND suspended_at IS NULL ORDER BY name {for_update}
"""

SELECT_RUN = "SELECT batch_id, next_check_at FROM runs WHERE schedule = :schedule AND scheduled_at = :scheduled_at"

# The events too, so that the repeated run can record the same kinds again.
DELETE_RUN = (
    "DELETE FROM runs WHERE schedule = :schedule AND scheduled_at = :scheduled_at",
    "DELETE FROM events WHERE schedule = :schedule AND scheduled_at = :scheduled_at",
)

SELECT_COMPLETED_RUN = """
SELECT batch_id, id_type FROM runs WHERE schedule = :after AND scheduled_at = :scheduled_at AND state = 'completed'
"""

SELECT_LAST_COMPLETED_RUN = """
SELECT batch_id, id_type FROM runs WHERE schedule = :after AND state = 'completed' ORDER BY scheduled_at DESC LIMIT 1
"""

REASONS = {RunState.FAILED: "failed", RunState.SKIPPED: "was skipped", RunState.MISSED: "was missed"}


def plan_followers(connection: Connection, sql: SqlFragments, run: RunView, state: RunState, now: datetime) -> None:
    """Plan the runs that follow a run, in the transaction that ends it; plan this one again if what it read is old.

    state: the run's new state; only a completed one is followed, and for any other the followers are skipped
    """
    if state is RunState.COMPLETED:
        source = {"source_batch_id": run.batch_id, "id_type": run.id_type, "trigger": _trigger_after(run.trigger)}
        for follower in _lock_followers(connection, sql, run.schedule):
            key = {"schedule": follower.name, "scheduled_at": run.scheduled_at}
            _plan_run(connection, key, follower.definition, source, now)
    else:
        skip_followers(connection, sql, run.schedule, run.scheduled_at, state, now)
    _repeat_if_superseded(connection, run, now)


def skip_followers(
    connection: Connection, sql: SqlFragments, schedule: str, scheduled_at: datetime, state: RunState, now: datetime
) -> None:
    """Record that a run without results has no followers, and neither have those; runs that there are stay."""
    for follower in _lock_followers(connection, sql, schedule):
        key = {"schedule": follower.name, "scheduled_at": scheduled_at}
        if connection.execute(bind_datetimes(SELECT_RUN), key).one_or_none() is not None:
            continue
        message = f"the run of {schedule} {REASONS[state]}, so there are no results to read"
        ended = {"state": RunState.SKIPPED.value, "trigger": RunTrigger.AFTER.value, "finished_at": now}
        _insert_run(connection, key, follower.definition, now, {**ended, "error_message": message})
        url = follower.definition.get("webhook")
        events.record_event(connection, follower.name, scheduled_at, "skipped", message, occurred_at=now, url=url)
        skip_followers(connection, sql, follower.name, scheduled_at, RunState.SKIPPED, now)


def source_of(connection: Connection, after: str, scheduled_at: datetime) -> Row[Any] | None:
    """Return the batch and the type of ids of another schedule's completed run; None if there is none."""
    return connection.execute(
        bind_datetimes(SELECT_COMPLETED_RUN), {"after": after, "scheduled_at": scheduled_at}
    ).first()


def last_source_of(connection: Connection, after: str) -> Row[Any] | None:
    """Return the same of the other schedule's last completed run."""
    return connection.execute(text(SELECT_LAST_COMPLETED_RUN), {"after": after}).first()


def _lock_followers(connection: Connection, sql: SqlFragments, schedule: str) -> list[Row[Any]]:
    query = text(LOCK_FOLLOWERS.format(for_update=sql.for_update)).columns(definition=Document)
    return list(connection.execute(query, {"schedule": schedule}).all())


def _plan_run(
    connection: Connection,
    key: Mapping[str, Any],
    definition: Mapping[str, Any],
    source: Mapping[str, Any],
    now: datetime,
) -> None:
    """Plan a run that reads this source, in place of one that has ended or has no batch yet."""
    existing = connection.execute(bind_datetimes(SELECT_RUN), key).one_or_none()
    if existing is not None and existing.batch_id is not None and existing.next_check_at is not None:
        return  # at its end it finds that what it read is old
    for statement in DELETE_RUN if existing is not None else ():
        connection.execute(bind_datetimes(statement), key)
    id_type = source["id_type"] if definition.get("id") is None else None
    values = {"state": RunState.WAITING.value, "next_check_at": now, **source, "id_type": id_type}
    _insert_run(connection, key, definition, now, values)


def _repeat_if_superseded(connection: Connection, run: RunView, now: datetime) -> None:
    after = run.definition.get("after")
    source = None if after is None else source_of(connection, after, run.scheduled_at)
    if source is not None and source.batch_id != run.source_batch_id:
        values = {"source_batch_id": source.batch_id, "id_type": source.id_type, "trigger": RunTrigger.BACKFILL.value}
        _plan_run(connection, run.key, run.definition, values, now)


def _insert_run(
    connection: Connection,
    key: Mapping[str, Any],
    definition: Mapping[str, Any],
    now: datetime,
    values: Mapping[str, Any],
) -> None:
    row = {**key, "definition": definition, "concurrent": False, "planned_at": now, **values}
    connection.execute(insert(Run.__table__).values(row))  # type: ignore[arg-type]


def _trigger_after(trigger: RunTrigger) -> str:
    """Return the trigger of a follower: a repeated run has no deadline, and neither has what follows it."""
    return (RunTrigger.BACKFILL if trigger is RunTrigger.BACKFILL else RunTrigger.AFTER).value
