"""Results on their way out: line by line to standard output, or whole into a file."""

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
    """What prints a row: in columns on a terminal, as a line of JSON into a pipe or where that is asked for."""
    if as_json or not sys.stdout.isatty():
        ascii_only = terminal.must_escape_json()
        return lambda row: sys.stdout.write(files.jsonl_line(row, ascii_only=ascii_only))
    width = terminal.terminal_width()
    return lambda row: click.echo(batch_tables.result_lines([row], width)[0])


def write_file(database: Database, batch_id: str, rows: Iterable[ResultRow], path: Path) -> None:
    """Write a file and say what is in it, and whether more is to come."""
    kind = files.check_target(path)
    batch = views.get_batch(database, batch_id)
    columns = partial(tabular.layout_for_batch, database, batch_id, tasks.find_spec(batch.task))
    report_written(batch, files.write_file(kind, path, rows, columns), str(path))


def write_table(database: Database, batch_id: str, after_seq: int, table_name: str) -> None:
    """Write the results into a table of the user's own, and say so."""
    user_table.check_table_name(table_name)
    batch = views.get_batch(database, batch_id)
    columns = tabular.layout_for_batch(database, batch_id, tasks.find_spec(batch.task))
    rows = pages.iter_by_position(database, batch_id, after_seq)
    report_written(
        batch, user_table.write_table(database, batch_id, table_name, rows, columns), f"the table {table_name}"
    )


def report_written(batch: BatchView, count: int, target: str) -> None:
    """Say what was written, and whether more is to come."""
    open_jobs = "" if batch.status.has_ended else f"; {batch.counts.unanswered:,} jobs of the batch are still open"
    terminal.print_notice(f"wrote {count:,} results to {target}{open_jobs}")
