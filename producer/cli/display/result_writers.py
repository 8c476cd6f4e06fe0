"""Writers of results: to standard output line by line, to a file, or to a table."""

import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import click

from models import tasks
from models.db import Database
from models.privacy import terminal
from producer.batches import views
from producer.batches.views import BatchView
from producer.cli.display import batch_tables
from producer.results import files, pages, tabular, user_table
from producer.results.pages import ResultRow


def make_row_printer(*, as_json: bool) -> Callable[[ResultRow], object]:
    """Return a function that prints a row: in columns on a terminal, as JSON into a pipe or with `as_json`."""
    if as_json or not sys.stdout.isatty():
        ascii_only = terminal.must_escape_json()
        return lambda row: sys.stdout.write(files.jsonl_line(row, ascii_only=ascii_only))
    width = terminal.terminal_width()
    return lambda row: click.echo(batch_tables.result_lines([row], width)[0])


def write_file(database: Database, batch_id: str, rows: Iterable[ResultRow], path: Path) -> None:
    """Write results to a file and report their number."""
    file_format = files.check_target(path)
    batch = views.get_batch(database, batch_id)
    make_layout = partial(tabular.layout_for_batch, database, batch_id, tasks.find_spec(batch.task))
    report_written(batch, files.write_file(file_format, path, rows, make_layout), str(path))


def write_table(database: Database, batch_id: str, after_seq: int, table_name: str) -> None:
    """Write results to a user's own table and report their number."""
    user_table.check_table_name(table_name)
    batch = views.get_batch(database, batch_id)
    layout = tabular.layout_for_batch(database, batch_id, tasks.find_spec(batch.task))
    rows = pages.iter_by_position(database, batch_id, after_seq)
    count = user_table.write_table(database, batch_id, table_name, rows, layout)
    report_written(batch, count, f"the table {table_name}")


def report_written(batch: BatchView, count: int, target: str) -> None:
    """Print how many results were written, and how many jobs of the batch are unanswered."""
    unanswered = "" if batch.status.has_ended else f"; {batch.counts.unanswered:,} jobs of the batch are unanswered"
    terminal.print_notice(f"wrote {count:,} results to {target}{unanswered}")
