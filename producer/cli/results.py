"""`batchmill results`: what came out of a batch."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from models import tasks, terminal
from models.db import Database
from models.settings import Settings
from producer import batches, exports
from producer import results as reading
from producer.cli import context, render


@click.command(short_help="Print a batch's results, or write them to a file.")
@click.argument("batch_id", metavar="ID")
@click.option("--after", type=click.IntRange(min=0), default=0, metavar="SEQ", help="Only what landed after this seq.")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), metavar="FILE",
    help="Write a .jsonl or .csv file, in the order of the source, whole or not at all.",
)  # fmt: skip
@context.json_option
def results(batch_id: str, after: int, output: Path | None, as_json: bool) -> None:
    """Print the results of the batch ID as they landed: a table on a terminal, JSON lines into a pipe or with --json.

    Each has a `seq`; to see only what is new, give the last one to --after.
    """
    with context.opened(Settings.load()) as database:
        if output is not None:
            _write(database, batch_id, after, output)
            return
        rows = reading.as_landed(database, batch_id, after)
        if as_json or not sys.stdout.isatty():
            for row in rows:
                sys.stdout.write(exports.jsonl_line(row, ascii_only=sys.stdout.isatty()))
        else:
            _print(rows)


def _write(database: Database, batch_id: str, after: int, output: Path) -> None:
    kind = exports.check_target(output)
    batch = batches.get(database, batch_id)
    rows = reading.by_position(database, batch_id, after)
    if kind == "jsonl":
        count = exports.write_jsonl(output, rows)
    else:
        fields = [field.name for field in tasks.find(batch.task).fields]
        sheet = exports.Sheet.of(fields, reading.example(database, batch_id))
        count = exports.write_csv(output, rows, sheet)
    open_jobs = "" if batch.status.ended else f"; {batch.counts.open:,} jobs of the batch are still open"
    terminal.notice(f"wrote {count:,} results to {output}{open_jobs}")


def _print(rows: Iterator[reading.ResultRow]) -> None:
    width, last = terminal.terminal_width(), None
    for last in rows:
        click.echo(render.result_lines([last], width)[0])
    if last is None:
        terminal.notice("no results have landed yet")
    else:
        terminal.notice(f"later ones: batchmill results {last.batch_id} --after {last.seq}")
