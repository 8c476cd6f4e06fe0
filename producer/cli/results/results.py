"""`batchmill results` prints a batch's results, or writes them to a file or table."""

import itertools
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import click

from models.db import Database
from models.errors import UsageError
from models.privacy import terminal
from models.settings import Settings
from models.states import JobOutcome
from producer.batches import views
from producer.cli import common
from producer.cli.display import result_writers
from producer.results import arguments, following, pages, target_file
from producer.results.result_row import ResultRow


@click.command(short_help="Print a batch's results, or write them to a file.")
@click.argument("batch_id", metavar="ID")
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice([outcome.value for outcome in JobOutcome]),
    help="Only results with this status. May be repeated.",
)
@click.option(
    "--after", type=click.IntRange(0, arguments.MAX_SEQ), default=0, metavar="SEQ", help="Only results after this seq."
)
@click.option("--limit", "-n", type=click.IntRange(min=1), metavar="N", help="Maximum number of results.")
@click.option("--follow", "-f", is_flag=True, help="Print results as they land, until the batch has ended.")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write a .jsonl, .csv, .parquet or .npy file, in the order of the source, whole or not at all.",
)
@click.option(
    "--to-sql",
    "table",
    metavar="TABLE",
    help="Write TABLE or SCHEMA.TABLE of yours in the same database, created or updated, whole or not at all.",
)
@common.json_option
def results(
    batch_id: str,
    statuses: tuple[str, ...],
    after: int,
    limit: int | None,
    follow: bool,
    output: Path | None,
    table: str | None,
    as_json: bool,
) -> None:
    """Print the results of the batch ID as they landed: a table on a terminal, JSON lines into a pipe or with --json.

    Each has a `seq`; to see only newer results, give the last one to --after.
    """
    if (output is not None or table is not None) and (follow or limit is not None):
        raise UsageError("-o and --to-sql write all rows; leave out --follow and --limit")
    if output is not None and (after or statuses) and target_file.check_target(output) == "npy":
        raise UsageError("a .npy file has a row for each job of the batch; leave out --after and --status")
    outcomes = arguments.parse_statuses(statuses)
    with common.open_database(Settings.load()) as database:
        if table is not None:
            result_writers.write_table(database, batch_id, table, after, outcomes)
        if output is not None:
            rows = pages.iter_by_position(database, batch_id, after, outcomes)
            result_writers.write_file(database, batch_id, rows, output)
        if table is not None or output is not None:
            return
        if follow:
            _follow(database, batch_id, _Cursor(after, limit, outcomes), as_json=as_json)
        else:
            _print_rows(pages.iter_results(database, batch_id, after, limit, outcomes), outcomes, as_json=as_json)


def _print_rows(rows: Iterable[ResultRow], statuses: Iterable[JobOutcome], *, as_json: bool) -> None:
    last, print_row = None, result_writers.make_row_printer(as_json=as_json)
    for last in rows:
        print_row(last)
    if as_json or not sys.stdout.isatty():
        return
    if last is None:
        terminal.print_notice("no such results have landed yet" if statuses else "no results have landed yet")
    else:
        terminal.print_notice(
            f"later ones: batchmill results {last.batch_id} --after {last.seq}{_status_options(statuses)}"
        )


class _Cursor(NamedTuple):
    after: int
    limit: int | None
    statuses: tuple[JobOutcome, ...]


def _follow(database: Database, batch_id: str, cursor: _Cursor, *, as_json: bool) -> None:
    print_row = result_writers.make_row_printer(as_json=as_json)
    views.get_batch(database, batch_id)
    after = cursor.after
    try:
        result_pages = following.follow(database, batch_id, after, statuses=cursor.statuses)
        for row in itertools.islice(_flush_pages(result_pages), cursor.limit):
            print_row(row)
            after = row.seq
    except KeyboardInterrupt:
        options = f"--follow --after {after}{_status_options(cursor.statuses)}"
        terminal.print_notice(f"\ngo on from here: batchmill results {batch_id} {options}")
        raise


def _status_options(statuses: Iterable[JobOutcome]) -> str:
    return "".join(f" --status {status}" for status in statuses)


def _flush_pages(result_pages: Iterable[list[ResultRow]]) -> Iterable[ResultRow]:
    for page in result_pages:
        yield from page
        sys.stdout.flush()  # the reader of a pipe must not wait for the next page
