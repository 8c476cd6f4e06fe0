"""Marks: in a database that is not ours, which runs' results are merged; written together with them.

Our own mark of the run's completion is in another database and comes a moment later: after a crash between the two,
this one tells that the merge is done.
"""

from datetime import datetime

from sqlalchemy import Column, Connection, MetaData, Table, Text, inspect, select, text
from sqlalchemy.dialects import postgresql, sqlite

from models.columns import Moment
from models.db import FRAGMENTS

RUNS = Table(
    "batchmill_runs",
    MetaData(),
    Column("schedule", Text, primary_key=True),
    Column("slot", Moment, primary_key=True),
    Column("batch_id", Text, nullable=False),
    Column("finished_at", Moment, nullable=False),
)
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('batchmill_runs', 0))"


def leave(connection: Connection, schedule: str, slot: datetime, batch_id: str) -> None:
    """Note that this batch's results are in, in the caller's transaction; makes the table where there is none."""
    name = connection.dialect.name
    if name == "postgresql":
        connection.execute(text(LOCK))  # two would make the table at once, and one of them fail
    RUNS.create(connection, checkfirst=True)
    values = {"schedule": schedule, "slot": slot, "batch_id": batch_id, "finished_at": text(FRAGMENTS[name].now)}
    insert = (postgresql if name == "postgresql" else sqlite).insert(RUNS).values(values)
    renewed = {"batch_id": insert.excluded.batch_id, "finished_at": insert.excluded.finished_at}
    connection.execute(insert.on_conflict_do_update(index_elements=["schedule", "slot"], set_=renewed))


def is_left(connection: Connection, schedule: str, slot: datetime, batch_id: str) -> bool:
    """Whether this batch's results are in."""
    if not inspect(connection).has_table(RUNS.name):
        return False
    query = select(RUNS.c.batch_id).where(RUNS.c.schedule == schedule, RUNS.c.slot == slot)
    return connection.scalar(query) == batch_id
