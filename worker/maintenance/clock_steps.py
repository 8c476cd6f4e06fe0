"""Clock steps: moments that the database's clock, having stepped back, left further ahead than anybody puts them.

A clock steps back when another host takes over, when it is set, or when a machine is restored. What was to happen in
some seconds would then wait for as long as the step. So each such moment is brought back to where its writer would put
it now: a living holder renews it, and any other runs out in time. Deadlines and slots are absolute, and stay.
"""

from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection, text

from models.db import Database, SqlFragments
from models.lifecycle import slices
from models.lifecycle.termination import lock_batch
from models.settings import Settings

CHECK_INTERVAL_SECONDS = 15.0  # between two looks: with a lease of half a minute, nothing is late by more than a minute

# A process with a longer lease than ours may have taken it: so much it has in any case, and renews meanwhile.
MIN_LEASE_SECONDS = 30.0
MAX_RUN_LEASE_SECONDS = 30.0  # of a run, twice what a holder takes
MAX_SOURCE_CHECK_SECONDS = 61.0  # between two looks at a source that is late, at most
MAX_SKEW_SECONDS = 1.0  # a heartbeat says "now"; two transactions differ by less

# Rows that others lock are being written with a moment of the new time.
RESET_TIMESTAMPS = """
UPDATE {table} SET {column} = {moment}
WHERE ({keys}) IN (SELECT {keys} FROM {table} WHERE {which} > {bound} ORDER BY {keys} {skip_locked})
"""


@dataclass(frozen=True, slots=True)
class TimestampColumn:
    """A column of moments: how far ahead one may lie, and where one that lies further is put."""

    table: str
    column: str
    filter_and_expression: str  # condition and expression, to be compared with the bound
    max_seconds_ahead: float
    reset_seconds_ahead: float
    key_columns: str = "id"

    def reset_statement(self, sql: SqlFragments) -> str:
        """The statement that puts them back."""
        return RESET_TIMESTAMPS.format(
            table=self.table,
            column=self.column,
            which=self.filter_and_expression,
            keys=self.key_columns,
            moment=sql.seconds_from_now(self.reset_seconds_ahead),
            bound=sql.seconds_from_now(self.max_seconds_ahead),
            skip_locked=sql.skip_locked,
        )


IS_ACTIVE = "(status IN ('validating', 'cancelling') OR reading)"  # what has ended is not looked through

TIMESTAMP_COLUMNS = (
    TimestampColumn("batches", "heard_at", f"{IS_ACTIVE} AND coalesce(heard_at, created_at)", MAX_SKEW_SECONDS, 0.0),
    TimestampColumn("workers", "heartbeat_at", "heartbeat_at", MAX_SKEW_SECONDS, 0.0),
    TimestampColumn(
        "runs",
        "held_until",
        "look_at IS NOT NULL AND held_until",
        MAX_RUN_LEASE_SECONDS,
        MAX_RUN_LEASE_SECONDS / 2,
        key_columns="schedule, slot",
    ),
)

# By the schedules' clock, which a rehearsal sets: then it is not the database's.
SOURCE_CHECK_COLUMN = TimestampColumn(
    "runs", "look_at", "state = 'waiting' AND look_at", MAX_SOURCE_CHECK_SECONDS, 0.0, key_columns="schedule, slot"
)


def reset_future_timestamps(database: Database, settings: Settings) -> str:
    """Put back every moment that lies too far ahead; a sentence on what that was, or ""."""
    lease, backoff = max(settings.lease_seconds, MIN_LEASE_SECONDS), settings.max_retry_seconds
    counts = {
        "leases": _reset_slices(database, slices.FutureTimeRule("leased", "lease_expires_at", 2 * lease, lease)),
        "backoffs": _reset_slices(
            database, slices.FutureTimeRule("queued", "not_before", backoff, min(backoff, MIN_LEASE_SECONDS))
        ),
    }
    for ahead in (
        TIMESTAMP_COLUMNS if settings.simulated_clock is not None else (*TIMESTAMP_COLUMNS, SOURCE_CHECK_COLUMN)
    ):
        counts[f"{ahead.table}.{ahead.column}"] = database.transact(
            partial(_reset_column, sql=database.sql, timestamp=ahead)
        )
    done = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return f"the database's clock has stepped back; put back: {done}" if done else ""


def _reset_column(connection: Connection, *, sql: SqlFragments, timestamp: TimestampColumn) -> int:
    return connection.execute(text(timestamp.reset_statement(sql))).rowcount


def _reset_slices(database: Database, timestamp: slices.FutureTimeRule) -> int:
    with database.read() as connection:
        batch_ids = slices.batches_with_future_times(connection, database.sql, timestamp)
    return sum(
        database.transact(partial(_reset_batch_slices, sql=database.sql, batch_id=one, timestamp=timestamp))
        for one in batch_ids
    )


def _reset_batch_slices(
    connection: Connection, *, sql: SqlFragments, batch_id: str, timestamp: slices.FutureTimeRule
) -> int:
    lock_batch(connection, sql, batch_id)  # before its slices, as everywhere
    return slices.reset_future_times(connection, sql, batch_id, timestamp)
