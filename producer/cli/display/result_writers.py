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


def of(*, as_json: bool) -> Callable[[ResultRow], object]:
    """What prints a row: in columns on a terminal, as a line of JSON into a pipe or where that is asked for."""
    if as_json or not sys.stdout.isatty():
        ascii_only = terminal.takes_ascii_only()
        return lambda row: sys.stdout.write(files.jsonl_line(row, ascii_only=ascii_only))
    width = terminal.terminal_width()
    return lambda row: click.echo(batch_tables.result_lines([row], width)[0])


def write(database: Database, batch_id: str, rows: Iterable[ResultRow], output: Path) -> None:
    """Write a file and say what is in it, and whether more is to come."""
    kind = files.check_target(output)
    batch = views.get(database, batch_id)
    columns = partial(tabular.of_batch, database, batch_id, tasks.find(batch.task))
    tell(batch, files.write(kind, output, rows, columns), str(output))


def write_table(database: Database, batch_id: str, after: int, name: str) -> None:
    """Write the results into a table of the user's own, and say so."""
    user_table.check_name(name)
    batch = views.get(database, batch_id)
    columns = tabular.of_batch(database, batch_id, tasks.find(batch.task))
    rows = pages.by_position(database, batch_id, after)
    tell(batch, user_table.write(database, batch_id, name, rows, columns), f"the table {name}")


def tell(batch: BatchView, count: int, where: str) -> None:
    """Say what was written, and whether more is to come."""
    open_jobs = "" if batch.status.ended else f"; {batch.counts.open:,} jobs of the batch are still open"
    terminal.notice(f"wrote {count:,} results to {where}{open_jobs}")
