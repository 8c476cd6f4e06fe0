"""A user's own table with a batch's results: typed columns and one row for each position, updated in one commit."""

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
    "batchmill_merged_runs",
    STAGING_TABLE_NAME,
}
RESERVED_PREFIXES = ("sqlite_", "pg_")  # reserved by the databases


def check_table_name(name: str) -> None:
    """Raise UsageError unless a user's own table may have this name."""
    if not TABLE_NAME_PATTERN.fullmatch(name):
        raise UsageError(f"{name[:80]!r} can't be a table's name here; take small letters, digits and _, at most 63")
    if name in RESERVED_TABLES or name.startswith(RESERVED_PREFIXES):
        raise UsageError(f"{name} is reserved; take another name for the table")


def write_table(
    database: Database, batch_id: str, table_name: str, rows: Iterable[ResultRow], layout: TabularLayout
) -> int:
    """Write these rows of a batch into the table, created if missing, and return their number.

    Rows of other batches stay. Raises UsageError when a table of that name has other columns.
    """
    check_table_name(table_name)
    schema = TableSchema((("batch_id", ColumnType.TEXT), *layout.columns), key=("batch_id", "position"))
    values = ([batch_id, *layout.row_values(row)] for row in rows)
    with stage_rows(database, schema, values) as staging_table, staging_table.transaction():
        diff = staging_table.create_or_diff(table_name)
        if diff.missing or diff.type_changed or diff.extra or {*diff.key} != {*schema.key}:
            raise UsageError(f"the table {table_name} has other columns than these results; name another, or drop it")
        staging_table.merge(table_name)
    return staging_table.row_count
