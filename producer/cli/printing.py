"""Results on their way out: line by line to standard output, or whole into a file."""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import click

from models import tasks, terminal
from models.db import Database
from producer import batches, exports, results
from producer.cli import render
from producer.results import ResultRow


def of(*, as_json: bool) -> Callable[[ResultRow], object]:
    """What prints a row: in columns on a terminal, as a line of JSON into a pipe or where that is asked for."""
    on_terminal = sys.stdout.isatty()
    if as_json or not on_terminal:
        return lambda row: sys.stdout.write(exports.jsonl_line(row, ascii_only=on_terminal))
    width = terminal.terminal_width()
    return lambda row: click.echo(render.result_lines([row], width)[0])


def write(database: Database, batch_id: str, rows: Iterable[ResultRow], output: Path) -> None:
    """Write a file and say what is in it, and whether more is to come."""
    kind = exports.check_target(output)
    batch = batches.get(database, batch_id)
    if kind == "jsonl":
        count = exports.write_jsonl(output, rows)
    else:
        fields = [field.name for field in tasks.find(batch.task).fields]
        sheet = exports.Sheet.of(fields, results.example(database, batch_id))
        count = exports.write_csv(output, rows, sheet)
    open_jobs = "" if batch.status.ended else f"; {batch.counts.open:,} jobs of the batch are still open"
    terminal.notice(f"wrote {count:,} results to {output}{open_jobs}")
