"""`batchmill usage` reports what each tenant has computed."""

import csv
import sys
from collections.abc import Iterable

import click

from models.errors import UsageError
from models.privacy import terminal
from models.settings import Settings
from producer.cli import common
from producer.tenants import usage as reports
from producer.tenants.usage import Days, UsageRow

HEADER = ("DAY", "TENANT", "PIPELINE", "SUCCEEDED", "FAILED", "TOKENS", "PADDED", "DEVICE S")


@click.command(short_help="Report what each tenant has computed.")
@click.option("--tenant", metavar="NAME", help="Only this tenant.")
@click.option("--since", metavar="DAY", help="From this day on, such as 2026-11-01 or 7d ago as 7d; unset: 30d.")
@click.option("--until", metavar="DAY", help="Until this day, which is included; unset: today.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@common.json_option
def usage(tenant: str | None, since: str | None, until: str | None, as_csv: bool, as_json: bool) -> None:
    """Report rows, tokens and device seconds by day of UTC, tenant and pipeline.

    A job that is run again counts again, and a reused result counts nothing.
    """
    if as_csv and as_json:
        raise UsageError("--csv and --json exclude each other")
    days = Days.parse(since, until)
    with common.open_database(Settings.load()) as database:
        if as_csv:
            _print_csv(reports.iterate_usage(database, days, tenant))
            return
        rows = reports.read_usage(database, days, tenant)
    if as_json:
        terminal.echo_list([row.as_dict() for row in rows])
    elif rows:
        click.echo(terminal.format_table(HEADER, [_table_row(row) for row in rows]))
    else:
        terminal.print_notice(f"nothing was computed from {days.since} to {days.until}")


def _print_csv(rows: Iterable[UsageRow]) -> None:
    names = list(UsageRow.__slots__)
    writer = csv.DictWriter(sys.stdout, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.as_dict() for row in rows)


def _table_row(row: UsageRow) -> list[object]:
    counts = (row.succeeded, row.failed, row.tokens, row.padded_tokens, row.device_seconds)
    return [row.day, row.tenant, row.pipeline, *counts]
