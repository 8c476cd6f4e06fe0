"""`batchmill errors` shows only the failed jobs of a batch."""

import sys
from pathlib import Path

import click

from models.errors import UsageError
from models.privacy import terminal
from models.settings import Settings
from producer.batches import views
from producer.cli import common
from producer.cli.display import guard_text, output_text, result_writers
from producer.results import pages, target_file
from producer.results.result_row import ResultRow

HEADER = ("POSITION", "ID", "CODE", "WHY", "INPUT")
DEFAULT_LIMIT = 100
ID_WIDTH, MESSAGE_WIDTH, INPUT_WIDTH = 24, 60, 40


@click.command(short_help="Show a batch's failed jobs, or write them to a file.")
@click.argument("batch_id", metavar="ID")
@click.option("--code", metavar="CODE", help="Only jobs with this error code.")
@click.option(
    "--limit",
    "-n",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"Maximum number; unset: {DEFAULT_LIMIT} on a terminal, all elsewhere.",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write a .jsonl, .csv or .parquet file, whole or not at all.",
)
@common.json_option
def errors(batch_id: str, code: str | None, limit: int | None, output: Path | None, as_json: bool) -> None:
    """Show the failed jobs of the batch ID in the order of the source: a table on a terminal, else JSON lines.

    The lines are those of `batchmill results`. To try the jobs again: batchmill retry ID. To put corrected rows in
    their places: batchmill submit --repair ID FILE.
    """
    if output is not None and limit is not None:
        raise UsageError("-o writes all rows; leave out --limit")
    if output is not None and target_file.check_target(output) == "npy":
        raise UsageError("errors are no vectors, which a .npy file needs; write .jsonl, .csv or .parquet")
    in_columns = sys.stdout.isatty() and not as_json
    with common.open_database(Settings.load()) as database:
        if output is not None:
            result_writers.write_file(database, batch_id, pages.iter_failed(database, batch_id, code), output)
        elif in_columns:
            rows = pages.iter_failed(database, batch_id, code, (limit or DEFAULT_LIMIT) + 1)
            _print_table(batch_id, [_table_row(row) for row in rows], limit or DEFAULT_LIMIT)
            if blocked := guard_text.format_blocked(views.get_batch(database, batch_id).guards):
                terminal.print_notice(f"blocked by guards: {blocked}")
        else:
            print_row = result_writers.make_row_printer(as_json=as_json)
            for row in pages.iter_failed(database, batch_id, code, limit):
                print_row(row)


def _print_table(batch_id: str, rows: list[list[object]], max_rows: int) -> None:
    if not rows:
        terminal.print_notice("no job has failed")
        return
    click.echo(terminal.format_table(HEADER, rows[:max_rows]))
    if len(rows) > max_rows:
        terminal.print_notice(f"and more; all of them: batchmill errors {batch_id} -o errors.csv")


def _table_row(row: ResultRow) -> list[object]:
    return [
        row.position,
        terminal.shorten(row.custom_id or "", ID_WIDTH),
        row.error_code,
        terminal.shorten(row.error_message or "", MESSAGE_WIDTH),
        terminal.shorten(output_text.format_input(row), INPUT_WIDTH),
    ]
