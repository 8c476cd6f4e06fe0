"""`batchmill submit --repair ID` puts corrected rows in the places of a batch's failed jobs."""

from typing import Any

import click
from click.core import ParameterSource

from models.errors import UsageError
from models.privacy import terminal
from models.settings import Settings
from producer.cli import common
from producer.cli.batches.retry import notify_workers, report_batch
from producer.readers import input_source
from producer.submission.repairs.repair import repair_jobs
from producer.submission.repairs.repair_columns import RepairColumns
from producer.times import Deadline

# The parameters of `batchmill submit` that a repair has too; the batch keeps all others.
USABLE_PARAMETERS = frozenset(
    {
        "as_json",
        "bound",
        "column_names",
        "custom_id",
        "deadline",
        "inputs",
        "kind",
        "paths",
        "repaired_batch_id",
        "sql",
        "timeout",
        "waits",
    }
)


def repair(ctx: click.Context, batch_id: str) -> int:
    """Repair a batch as the parameters of `batchmill submit` say; returns the exit code."""
    for parameter in ctx.command.params:
        is_given = ctx.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if is_given and parameter.name not in USABLE_PARAMETERS:
            raise UsageError(f"{parameter.opts[0]} can't be given with --repair: the batch keeps what it was given")
    given: dict[str, Any] = ctx.params
    settings = Settings.load()
    deadline = None if given["deadline"] is None else Deadline.parse_future(given["deadline"])
    with common.open_database(settings) as database:
        columns = RepairColumns.for_batch(database, batch_id, given["inputs"], given["custom_id"])
        columns = columns.with_header(given["column_names"])
        source = input_source.open_source(
            settings,
            columns,
            paths=given["paths"],
            file_format=given["kind"],
            source_name=given["sql"],
            query_params=given["bound"],
        )
        with source as rows:
            result = repair_jobs(database, batch_id, rows, settings.slice_size, deadline, settings.unanswered_jobs_cap)
        terminal.print_notice(f"{terminal.format_count(result.jobs, 'repaired row')} of {batch_id} will run now")
        notify_workers(database, settings, result)
        return report_batch(
            database, batch_id, waits=given["waits"], timeout=given["timeout"], as_json=given["as_json"]
        )
