"""A table of the user's own, beside the results: typed columns, a row for each position, brought up to date at once."""

import re
from collections.abc import Iterable

from models.db import Database
from models.errors import UsageError
from models.schedule_tables import METADATA
from producer.results.pages import ResultRow
from producer.results.staging import STAGING_TABLE_NAME, TableSchema, stage_rows
from producer.results.tabular import ColumnType, TabularLayout

TABLE_NAME_PATTERN = re.compile(r"[a-z_][a-z0-9_]{0,62}")
RESERVED_TABLES = {
    *METADATA.tables,
    "job_results",
    "job_attempts",
    "alembic_version",
    "batchmill_runs",
    STAGING_TABLE_NAME,
}
RESERVED_PREFIXES = ("sqlite_", "pg_")  # what the databases keep for themselves


def check_table_name(name: str) -> None:
    """Raise UsageError unless a user's own table may be called this."""
    if not TABLE_NAME_PATTERN.fullmatch(name):
        raise UsageError(f"{name[:80]!r} can't be a table's name here; take small letters, digits and _, at most 63")
    if name in RESERVED_TABLES or name.startswith(RESERVED_PREFIXES):
        raise UsageError(f"{name} is not yours to write; take another name for the table")


def write_table(
    database: Database, batch_id: str, table_name: str, rows: Iterable[ResultRow], layout: TabularLayout
) -> int:
    """Make the table, or bring it up to date, with these rows of a batch; returns how many they are.

    Rows of other batches stay. Raises UsageError where a table of that name has other columns.
    """
    check_table_name(table_name)
    shape = TableSchema((("batch_id", ColumnType.TEXT), *layout.columns), key=("batch_id", "position"))
    values = ([batch_id, *layout.row_values(row)] for row in rows)
    with stage_rows(database, shape, values) as found, found.transaction():
        differs = found.create_or_diff(table_name)
        if differs.missing or differs.type_changed or differs.extra or {*differs.key} != {*shape.key}:
            raise UsageError(f"the table {table_name} has other columns than these results; name another, or drop it")
        found.merge(table_name)
    return found.row_count
