"""Holding: one process at a time reads a run's source, or finishes the run; should it die, another one goes on."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import TextClause, bindparam, text

from models.background import HeartbeatThread
from models.columns import UtcDateTime
from models.db import Database
from models.errors import DatabaseRefused, Unreachable
from producer.schedules.runs.run_views import RunView
from producer.submission import holders

LEASE_SECONDS = 15.0  # by the database's clock, until a holder of which nothing else is known is taken for dead
RENEW_SECONDS = LEASE_SECONDS / 4  # three may be late

SELECT_HOLDER = "SELECT held_by FROM runs WHERE schedule = :schedule AND slot = :slot AND held_by IS NOT NULL"

# Of several that come at once one gets it. A holder known to be dead is succeeded before its time.
ACQUIRE_LEASE = """
UPDATE runs SET held_by = :token, held_until = {later}
WHERE schedule = :schedule AND slot = :slot AND state = :state
  AND (held_by IS NULL OR held_until < {now} OR held_by = :dead)
"""

RENEW_LEASE = "UPDATE runs SET held_until = {later} WHERE schedule = :schedule AND slot = :slot AND held_by = :token"

RELEASE_LEASE = """
UPDATE runs SET held_by = NULL, held_until = NULL WHERE schedule = :schedule AND slot = :slot AND held_by = :token
"""


@contextmanager
def lease_run(database: Database, run: RunView) -> Iterator[str | None]:
    """Hold a run, in the state in which it was seen, while the block runs; None where somebody else does.

    The token given must stand in `held_by` still when something final is written.
    """
    token = holders.new_holder_id()
    if not _acquire_lease(database, run, token):
        yield None
        return
    try:
        with HeartbeatThread(lambda: _renew_lease(database, run, token), RENEW_SECONDS):
            yield token
    finally:
        with suppress(Unreachable, DatabaseRefused), database.write() as connection:
            connection.execute(bind_datetimes(RELEASE_LEASE), {**run.key, "token": token})


def bind_datetimes(statement: str, *names: str) -> TextClause:
    """A statement of which these parameters, and `:slot` where it names one, are moments."""
    named = [*names, *(["slot"] if ":slot" in statement else [])]
    return text(statement).bindparams(*(bindparam(name, type_=UtcDateTime()) for name in named))


def _acquire_lease(database: Database, run: RunView, holder_id: str) -> bool:
    sql = database.sql
    with database.read() as connection:
        holder = connection.scalar(bind_datetimes(SELECT_HOLDER), run.key)
    dead = holder if holder is not None and holders.is_holder_gone(holder) else None
    named = {**run.key, "state": run.state.value, "token": holder_id, "dead": dead, "seconds": LEASE_SECONDS}
    with database.write() as connection:
        return (
            connection.execute(
                bind_datetimes(ACQUIRE_LEASE.format(now=sql.now, later=sql.now_plus_seconds)), named
            ).rowcount
            == 1
        )


def _renew_lease(database: Database, run: RunView, holder_id: str) -> bool:
    named = {**run.key, "token": holder_id, "seconds": LEASE_SECONDS}
    with database.write() as connection:
        return (
            connection.execute(bind_datetimes(RENEW_LEASE.format(later=database.sql.now_plus_seconds)), named).rowcount
            == 1
        )
