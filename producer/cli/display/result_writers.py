"""Writers of results: to standard output line by line, to a file, or to a table."""

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import click

from models.db import Database
from models.privacy import terminal
from models.states import JobOutcome
from producer.batches import views
from producer.batches.views import BatchView
from producer.cli.display import batch_tables
from producer.results import export, target_file
from producer.results.result_row import ResultRow
from producer.results.tables import user_table


def make_row_printer(*, as_json: bool) -> Callable[[ResultRow], object]:
    """Return a function that prints a row: in columns on a terminal, as JSON into a pipe or with `as_json`."""
    if as_json or not sys.stdout.isatty():
        ascii_only = terminal.must_escape_json()
        return lambda row: sys.stdout.write(row.json_line(ascii_only=ascii_only))
    width = terminal.terminal_width()
    return lambda row: click.echo(batch_tables.result_lines([row], width)[0])


def write_file(database: Database, batch_id: str, rows: Iterable[ResultRow], path: Path) -> None:
    """Write results to a file and report their number."""
    file_format = target_file.check_target(path)
    batch = views.get_batch(database, batch_id)
    count = export.export_file(database, batch, rows, path)
    report_written(batch, count, str(path))
    if file_format == "npy" and count < batch.counts.total:
        missing = terminal.format_count(batch.counts.total - count, "job")
        terminal.print_notice(f"{missing} without a vector: NaN in the matrix")


def write_table(
    database: Database, batch_id: str, table_name: str, after_seq: int, statuses: Sequence[JobOutcome]
) -> None:
    """Write results to a user's own table and report their number."""
    user_table.UserTable.parse(table_name)
    batch = views.get_batch(database, batch_id)
    count = export.export_table(database, batch, table_name, after_seq, statuses)
    report_written(batch, count, f"the table {table_name}")


def report_written(batch: BatchView, count: int, target: str) -> None:
    """Print how many results were written, and how many jobs of the batch are unanswered."""
    unanswered = "" if batch.status.has_ended else f"; {batch.counts.unanswered:,} jobs of the batch are unanswered"
    terminal.print_notice(f"wrote {count:,} results to {target}{unanswered}")
