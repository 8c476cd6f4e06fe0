"""Repair after clock steps: the database's clock has stepped back, and timestamps lie too far in the future.

A clock steps back when another host takes over, when it is set, or when a machine is restored. Leases, backoffs and
heartbeats would then last longer by the whole step. So each such timestamp is reset to the value that its writer would
set now: a live holder renews it, any other expires in time. Deadlines and scheduled times are absolute, and stay.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection, text

from models.db import Database
from models.dialects.fragments import SqlFragments
from models.lifecycle import due_intakes, slices
from models.lifecycle.termination import lock_batch
from models.settings import Settings

CHECK_INTERVAL_SECONDS = 15.0  # with a lease of half a minute, nothing is late by more than a minute

# A holder may have a longer lease than this process would take: it keeps at least this, and renews meanwhile.
MIN_LEASE_SECONDS = 30.0
MAX_RUN_LEASE_SECONDS = 30.0  # twice the lease that a run's holder takes
MAX_SOURCE_CHECK_SECONDS = 61.0  # between two checks of a late source, at most
MAX_SKEW_SECONDS = 1.0  # of a heartbeat, which is "now"; two transactions differ by less

# Locked rows are skipped: their writers set a timestamp of the new time.
RESET_TIMESTAMPS = """
UPDATE {table} SET {column} = {moment}
WHERE ({keys}) IN (SELECT {keys} FROM {table} WHERE {which} > {bound} ORDER BY {keys} {skip_locked})
"""


@dataclass(frozen=True, slots=True)
class TimestampColumn:
    """A column of timestamps: how far ahead one may lie, and where one beyond that is reset to."""

    table: str
    column: str
    filter_and_expression: str  # condition and expression, to be compared with the bound
    max_seconds_ahead: float
    reset_seconds_ahead: float
    key_columns: str = "id"

    def exists_condition(self, sql: SqlFragments) -> str:
        """Return the SQL condition that some timestamp lies too far ahead."""
        bound = sql.seconds_from_now(self.max_seconds_ahead)
        return f"EXISTS (SELECT 1 FROM {self.table} WHERE {self.filter_and_expression} > {bound})"  # noqa: S608

    def reset_statement(self, sql: SqlFragments) -> str:
        """Return the statement that resets the column."""
        return RESET_TIMESTAMPS.format(
            table=self.table,
            column=self.column,
            which=self.filter_and_expression,
            keys=self.key_columns,
            moment=sql.seconds_from_now(self.reset_seconds_ahead),
            bound=sql.seconds_from_now(self.max_seconds_ahead),
            skip_locked=sql.skip_locked,
        )


IS_ACTIVE = "(status IN ('validating', 'cancelling') OR ingesting)"  # batches that have ended are not searched

TIMESTAMP_COLUMNS = (
    TimestampColumn(
        "batches",
        "holder_heartbeat_at",
        f"{IS_ACTIVE} AND NOT ({due_intakes.IS_POSTPONED}) AND coalesce(holder_heartbeat_at, created_at)",
        MAX_SKEW_SECONDS,
        0.0,
    ),
    TimestampColumn(
        "batches",
        "holder_heartbeat_at",
        f"{IS_ACTIVE} AND {due_intakes.IS_POSTPONED} AND holder_heartbeat_at",
        due_intakes.MAX_POSTPONED_SECONDS + MAX_SKEW_SECONDS,
        0.0,
    ),
    TimestampColumn("workers", "heartbeat_at", "heartbeat_at", MAX_SKEW_SECONDS, 0.0),
    TimestampColumn(
        "runs",
        "held_until",
        "next_check_at IS NOT NULL AND held_until",
        MAX_RUN_LEASE_SECONDS,
        MAX_RUN_LEASE_SECONDS / 2,
        key_columns="schedule, scheduled_at",
    ),
)

# Set by the schedules' clock, which may be a simulated clock instead of the database's.
SOURCE_CHECK_COLUMN = TimestampColumn(
    "runs",
    "next_check_at",
    "state = 'waiting' AND next_check_at",
    MAX_SOURCE_CHECK_SECONDS,
    0.0,
    key_columns="schedule, scheduled_at",
)


def has_future_timestamps(sql: SqlFragments, settings: Settings) -> str:
    """Return the SQL condition that some timestamp lies too far ahead."""
    rules = _slice_rules(settings).values()
    slice_conditions = [
        f"EXISTS (SELECT 1 FROM slices WHERE state = '{rule.state}' "  # noqa: S608
        f"AND {rule.column} > {sql.seconds_from_now(rule.max_ahead_seconds)})"
        for rule in rules
    ]
    return " OR ".join([*slice_conditions, *(column.exists_condition(sql) for column in _timestamp_columns(settings))])


def reset_future_timestamps(database: Database, settings: Settings) -> str:
    """Reset every timestamp that lies too far ahead; returns a sentence on them, or ""."""
    counts = {name: _reset_slices(database, rule) for name, rule in _slice_rules(settings).items()}
    for timestamp in _timestamp_columns(settings):
        reset_column = partial(_reset_column, sql=database.sql, timestamp=timestamp)
        name = f"{timestamp.table}.{timestamp.column}"
        counts[name] = counts.get(name, 0) + database.transact(reset_column)
    summary = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return f"the database's clock stepped back; reset: {summary}" if summary else ""


def _slice_rules(settings: Settings) -> dict[str, slices.FutureTimeRule]:
    lease, backoff = max(settings.lease_seconds, MIN_LEASE_SECONDS), settings.max_retry_seconds
    return {
        "leases": slices.FutureTimeRule("leased", "lease_expires_at", 2 * lease, lease),
        "backoffs": slices.FutureTimeRule("queued", "available_at", backoff, min(backoff, MIN_LEASE_SECONDS)),
    }


def _timestamp_columns(settings: Settings) -> Sequence[TimestampColumn]:
    return TIMESTAMP_COLUMNS if settings.simulated_clock is not None else (*TIMESTAMP_COLUMNS, SOURCE_CHECK_COLUMN)


def _reset_column(connection: Connection, *, sql: SqlFragments, timestamp: TimestampColumn) -> int:
    return connection.execute(text(timestamp.reset_statement(sql))).rowcount


def _reset_slices(database: Database, timestamp: slices.FutureTimeRule) -> int:
    with database.read() as connection:
        batch_ids = slices.batches_with_future_times(connection, database.sql, timestamp)
    return sum(
        database.transact(partial(_reset_batch_slices, sql=database.sql, batch_id=batch_id, timestamp=timestamp))
        for batch_id in batch_ids
    )


def _reset_batch_slices(
    connection: Connection, *, sql: SqlFragments, batch_id: str, timestamp: slices.FutureTimeRule
) -> int:
    lock_batch(connection, sql, batch_id)  # before its slices, as everywhere
    return slices.reset_future_times(connection, sql, batch_id, timestamp)
