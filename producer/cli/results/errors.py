"""`batchmill errors`: the jobs of a batch that failed, apart from the others."""

import sys
from pathlib import Path

import click

from models.errors import UsageError
from models.privacy import terminal
from models.settings import Settings
from producer.cli import common
from producer.cli.display import output_text, result_writers
from producer.results import pages
from producer.results.pages import ResultRow

HEADER = ("POSITION", "ID", "CODE", "WHY", "INPUT")
SHOWN = 100
ID_COLUMNS, WHY_COLUMNS, INPUT_COLUMNS = 24, 60, 40


@click.command(short_help="Show a batch's failed jobs, or write them to a file.")
@click.argument("batch_id", metavar="ID")
@click.option("--code", metavar="CODE", help="Only jobs with this error code.")
@click.option("--limit", "-n", type=click.IntRange(min=1), metavar="N",
              help=f"So many at most; unset: {SHOWN} on a terminal, all elsewhere.")  # fmt: skip
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), metavar="FILE",
    help="Write a .jsonl, .csv or .parquet file, whole or not at all.",
)  # fmt: skip
@common.json_option
def errors(batch_id: str, code: str | None, limit: int | None, output: Path | None, as_json: bool) -> None:
    """Show the failed jobs of the batch ID in the order of the source: a table on a terminal, else JSON lines.

    The lines are those of `batchmill results`. To try them again: batchmill retry ID.
    """
    if output is not None and limit is not None:
        raise UsageError("-o writes all that there is; leave out --limit")
    in_columns = sys.stdout.isatty() and not as_json
    with common.opened(Settings.load()) as database:
        if output is not None:
            result_writers.write(database, batch_id, pages.failed(database, batch_id, code), output)
        elif in_columns:
            found = pages.failed(database, batch_id, code, (limit or SHOWN) + 1)
            _table(batch_id, [_line(row) for row in found], limit or SHOWN)
        else:
            show = result_writers.of(as_json=as_json)
            for row in pages.failed(database, batch_id, code, limit):
                show(row)


def _table(batch_id: str, rows: list[list[object]], most: int) -> None:
    if not rows:
        terminal.notice("no job has failed")
        return
    click.echo(terminal.table(HEADER, rows[:most]))
    if len(rows) > most:
        terminal.notice(f"and more; all of them: batchmill errors {batch_id} -o errors.csv")


def _line(row: ResultRow) -> list[object]:
    return [
        row.position, terminal.shortened(row.custom_id or "", ID_COLUMNS), row.error_code,
        terminal.shortened(row.error_message or "", WHY_COLUMNS),
        terminal.shortened(output_text.given(row), INPUT_COLUMNS),
    ]  # fmt: skip
