"""Clock steps: moments that the database's clock, having stepped back, left further ahead than anybody puts them.

A clock steps back when another host takes over, when it is set, or when a machine is restored. What was to happen in
some seconds would then wait for as long as the step. So each such moment is brought back to where its writer would put
it now: a living holder renews it, and any other runs out in time. Deadlines and slots are absolute, and stay.
"""

from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection, text

from models.db import Database, Fragments
from models.lifecycle import slices
from models.lifecycle.termination import lock_batch
from models.settings import Settings

SECONDS = 15.0  # between two looks: with a lease of half a minute, nothing is late by more than a minute

# A process with a longer lease than ours may have taken it: so much it has in any case, and renews meanwhile.
SHORTEST_LEASE_SECONDS = 30.0
HELD_SECONDS = 30.0  # of a run, twice what a holder takes
LOOK_SECONDS = 61.0  # between two looks at a source that is late, at most
AHEAD_SECONDS = 1.0  # a heartbeat says "now"; two transactions differ by less

# Rows that others lock are being written with a moment of the new time.
SET = """
UPDATE {table} SET {column} = {moment}
WHERE ({keys}) IN (SELECT {keys} FROM {table} WHERE {which} > {bound} ORDER BY {keys} {skip_locked})
"""


@dataclass(frozen=True, slots=True)
class Ahead:
    """A column of moments: how far ahead one may lie, and where one that lies further is put."""

    table: str
    column: str
    which: str  # condition and expression, to be compared with the bound
    farthest: float
    put: float
    keys: str = "id"

    def statement(self, sql: Fragments) -> str:
        """The statement that puts them back."""
        return SET.format(
            table=self.table, column=self.column, which=self.which, keys=self.keys, moment=sql.after(self.put),
            bound=sql.after(self.farthest), skip_locked=sql.skip_locked,
        )  # fmt: skip


OPEN = "(status IN ('validating', 'cancelling') OR reading)"  # what has ended is not looked through

COLUMNS = (
    Ahead("batches", "heard_at", f"{OPEN} AND coalesce(heard_at, created_at)", AHEAD_SECONDS, 0.0),
    Ahead("workers", "heartbeat_at", "heartbeat_at", AHEAD_SECONDS, 0.0),
    Ahead("runs", "held_until", "look_at IS NOT NULL AND held_until", HELD_SECONDS, HELD_SECONDS / 2,
          keys="schedule, slot"),
)  # fmt: skip

# By the schedules' clock, which a rehearsal sets: then it is not the database's.
LOOK = Ahead("runs", "look_at", "state = 'waiting' AND look_at", LOOK_SECONDS, 0.0, keys="schedule, slot")


def taken_back(database: Database, settings: Settings) -> str:
    """Put back every moment that lies too far ahead; a sentence on what that was, or ""."""
    lease, backoff = max(settings.lease_seconds, SHORTEST_LEASE_SECONDS), settings.longest_retry_seconds
    counts = {
        "leases": _of_slices(database, slices.Ahead("leased", "lease_expires_at", 2 * lease, lease)),
        "backoffs": _of_slices(
            database, slices.Ahead("queued", "not_before", backoff, min(backoff, SHORTEST_LEASE_SECONDS))
        ),
    }
    for ahead in COLUMNS if settings.clock is not None else (*COLUMNS, LOOK):
        counts[f"{ahead.table}.{ahead.column}"] = database.transact(partial(_of_column, sql=database.sql, ahead=ahead))
    done = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return f"the database's clock has stepped back; put back: {done}" if done else ""


def _of_column(connection: Connection, *, sql: Fragments, ahead: Ahead) -> int:
    return connection.execute(text(ahead.statement(sql))).rowcount


def _of_slices(database: Database, ahead: slices.Ahead) -> int:
    with database.read() as connection:
        batch_ids = slices.batches_ahead(connection, database.sql, ahead)
    return sum(database.transact(partial(_of_batch, sql=database.sql, batch_id=one, ahead=ahead)) for one in batch_ids)


def _of_batch(connection: Connection, *, sql: Fragments, batch_id: str, ahead: slices.Ahead) -> int:
    lock_batch(connection, sql, batch_id)  # before its slices, as everywhere
    return slices.put_back(connection, sql, batch_id, ahead)
