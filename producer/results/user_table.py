"""A table of the user's own, beside the results: typed columns, a row for each position, brought up to date at once."""

import re
from collections.abc import Iterable

from models.db import Database
from models.errors import UsageError
from models.schedule_tables import ALL
from producer.results.pages import ResultRow
from producer.results.staging import GATHERED, Shape, gathered
from producer.results.tabular import Kind, Sheet

NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
OURS = {*ALL.tables, "job_results", "job_attempts", "alembic_version", "batchmill_runs", GATHERED}
OTHERS = ("sqlite_", "pg_")  # what the databases keep for themselves


def check_name(name: str) -> None:
    """Raise UsageError unless a user's own table may be called this."""
    if not NAME.fullmatch(name):
        raise UsageError(f"{name[:80]!r} can't be a table's name here; take small letters, digits and _, at most 63")
    if name in OURS or name.startswith(OTHERS):
        raise UsageError(f"{name} is not yours to write; take another name for the table")


def write(database: Database, batch_id: str, name: str, rows: Iterable[ResultRow], sheet: Sheet) -> int:
    """Make the table, or bring it up to date, with these rows of a batch; returns how many they are.

    Rows of other batches stay. Raises UsageError where a table of that name has other columns.
    """
    check_name(name)
    shape = Shape((("batch_id", Kind.TEXT), *sheet.columns), key=("batch_id", "position"))
    values = ([batch_id, *sheet.values(row)] for row in rows)
    with gathered(database, shape, values) as found, found.transaction():
        differs = found.difference(name)
        if differs.lacking or differs.other or differs.further or {*differs.key} != {*shape.key}:
            raise UsageError(f"the table {name} has other columns than these results; name another, or drop it")
        found.merge(name)
    return found.count
