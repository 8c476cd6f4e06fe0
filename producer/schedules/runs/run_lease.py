"""The lease on a run: one process at a time reads its source or finishes it, and another takes over after a crash."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, TextClause, bindparam, text

from models.db import Database
from models.dialects.columns import UtcDateTime
from models.errors import DatabaseRefused, Unreachable
from models.processes import holders
from models.processes.holders import ProcessLease
from producer.schedules.definition import ScheduleDefinition
from producer.schedules.runs.run_views import RunView

LEASE_SECONDS = 15.0  # by the database's clock; then a holder without heartbeats counts as crashed
RENEW_SECONDS = LEASE_SECONDS / 4  # so that three may be late

SELECT_HOLDER = (
    "SELECT holder_id FROM runs WHERE schedule = :schedule AND scheduled_at = :scheduled_at AND holder_id IS NOT NULL"
)

# One of several concurrent processes gets the lease. The lease of a holder known to have exited is taken at once.
ACQUIRE_LEASE = """
UPDATE runs SET holder_id = :holder_id, held_until = {later}
WHERE schedule = :schedule AND scheduled_at = :scheduled_at AND state = :state
  AND (holder_id IS NULL OR held_until < {now} OR holder_id = :gone_holder_id)
"""

RENEW_LEASE = """
UPDATE runs SET held_until = {later}
WHERE schedule = :schedule AND scheduled_at = :scheduled_at AND holder_id = :holder_id
"""

RELEASE_LEASE = """
UPDATE runs SET holder_id = NULL, held_until = NULL
WHERE schedule = :schedule AND scheduled_at = :scheduled_at AND holder_id = :holder_id
"""


@dataclass(frozen=True, slots=True)
class LeasedRun:
    """A run that this process holds, for one step at the time `now`."""

    database: Database
    view: RunView
    definition: ScheduleDefinition
    holder_id: str
    now: datetime

    def execute(self, connection: Connection, statement: TextClause, **parameters: Any) -> int:
        """Execute a statement with the run's key and holder as parameters; return the number of rows it matched."""
        return connection.execute(statement, {**self.view.key, "holder_id": self.holder_id, **parameters}).rowcount


@contextmanager
def lease_run(database: Database, run: RunView) -> Iterator[str | None]:
    """Hold the lease on a run while the block runs; yields None if another process holds it or the state has changed.

    Final writes must check that the run's `holder_id` is still the one given here.
    """
    holder_id = holders.new_holder_id()
    if not _acquire_lease(database, run, holder_id):
        yield None
        return
    renewal = bind_datetimes(RENEW_LEASE.format(later=database.sql.now_plus_seconds))
    params = {**run.key, "holder_id": holder_id, "seconds": LEASE_SECONDS}
    try:
        with ProcessLease(database, renewal, params, RENEW_SECONDS).heartbeat_thread():
            yield holder_id
    finally:
        with suppress(Unreachable, DatabaseRefused), database.write() as connection:
            connection.execute(bind_datetimes(RELEASE_LEASE), {**run.key, "holder_id": holder_id})


def bind_datetimes(statement: str, *names: str) -> TextClause:
    """Return a statement with these parameters, and `:scheduled_at` if it is used, bound as timestamps."""
    datetimes = [*names, *(["scheduled_at"] if ":scheduled_at" in statement else [])]
    return text(statement).bindparams(*(bindparam(name, type_=UtcDateTime()) for name in datetimes))


def _acquire_lease(database: Database, run: RunView, holder_id: str) -> bool:
    sql = database.sql
    with database.read() as connection:
        holder = connection.scalar(bind_datetimes(SELECT_HOLDER), run.key)
    gone_holder_id = holder if holder is not None and holders.is_holder_gone(holder) else None
    values = {
        **run.key,
        "state": run.state.value,
        "holder_id": holder_id,
        "gone_holder_id": gone_holder_id,
        "seconds": LEASE_SECONDS,
    }
    with database.write() as connection:
        return (
            connection.execute(
                bind_datetimes(ACQUIRE_LEASE.format(now=sql.now, later=sql.now_plus_seconds)), values
            ).rowcount
            == 1
        )
