"""Holding: one process at a time reads a run's source, or finishes the run; should it die, another one goes on."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import TextClause, bindparam, text

from models.background import Pulse
from models.columns import Moment
from models.db import Database
from models.errors import DatabaseRefused, Unreachable
from producer.schedules.runs.run_views import RunView
from producer.submission import holders

HOLD_SECONDS = 15.0  # by the database's clock, until a holder of which nothing else is known is taken for dead
PULSE_SECONDS = HOLD_SECONDS / 4  # three may be late

HOLDER = "SELECT held_by FROM runs WHERE schedule = :schedule AND slot = :slot AND held_by IS NOT NULL"

# Of several that come at once one gets it. A holder known to be dead is succeeded before its time.
HOLD = """
UPDATE runs SET held_by = :token, held_until = {later}
WHERE schedule = :schedule AND slot = :slot AND state = :state
  AND (held_by IS NULL OR held_until < {now} OR held_by = :dead)
"""

RENEW = "UPDATE runs SET held_until = {later} WHERE schedule = :schedule AND slot = :slot AND held_by = :token"

LET_GO = """
UPDATE runs SET held_by = NULL, held_until = NULL WHERE schedule = :schedule AND slot = :slot AND held_by = :token
"""


@contextmanager
def held(database: Database, run: RunView) -> Iterator[str | None]:
    """Hold a run, in the state in which it was seen, while the block runs; None where somebody else does.

    The token given must stand in `held_by` still when something final is written.
    """
    token = holders.new()
    if not _hold(database, run, token):
        yield None
        return
    try:
        with Pulse(lambda: _renew(database, run, token), PULSE_SECONDS):
            yield token
    finally:
        with suppress(Unreachable, DatabaseRefused), database.write() as connection:
            connection.execute(at_moments(LET_GO), {**run.key, "token": token})


def at_moments(statement: str, *names: str) -> TextClause:
    """A statement of which these parameters, and `:slot` where it names one, are moments."""
    named = [*names, *(["slot"] if ":slot" in statement else [])]
    return text(statement).bindparams(*(bindparam(name, type_=Moment()) for name in named))


def _hold(database: Database, run: RunView, token: str) -> bool:
    sql = database.sql
    with database.read() as connection:
        holder = connection.scalar(at_moments(HOLDER), run.key)
    dead = holder if holder is not None and holders.has_died(holder) else None
    named = {**run.key, "state": run.state.value, "token": token, "dead": dead, "seconds": HOLD_SECONDS}
    with database.write() as connection:
        return connection.execute(at_moments(HOLD.format(now=sql.now, later=sql.later)), named).rowcount == 1


def _renew(database: Database, run: RunView, token: str) -> bool:
    named = {**run.key, "token": token, "seconds": HOLD_SECONDS}
    with database.write() as connection:
        return connection.execute(at_moments(RENEW.format(later=database.sql.later)), named).rowcount == 1
