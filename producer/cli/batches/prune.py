"""`batchmill prune` deletes batches that ended long ago."""

from collections.abc import Sequence
from typing import Any

import click

from models.errors import UsageError
from models.lifecycle import retention
from models.lifecycle.retention import OldBatch
from models.privacy import terminal
from models.settings import Settings
from producer.cli import common
from producer.times import format_local, parse_age

DAY_SECONDS = 86_400.0
HEADER = ("ID", "STATUS", "PIPELINE", "JOBS", "ENDED", "NAME")


@click.command(short_help="Delete the batches that ended long ago.")
@click.option("--older-than", metavar="SPAN", help="Such as 30d or 12h; unset: the setting retention_days.")
@click.option("--dry-run", is_flag=True, help="Only list what would be deleted.")
@common.json_option
def prune(older_than: str | None, dry_run: bool, as_json: bool) -> None:
    """Delete the batches that ended longer ago than a span, with their jobs and results; unfinished batches stay.

    Old runs of schedules and their events are deleted too, except the newest 50 runs of each schedule.
    Schedules that were deleted that long ago lose their watermark and history.

    With the setting retention_days, workers do this automatically.
    """
    settings = Settings.load()
    seconds = _age_seconds(older_than, settings)
    with common.open_database(settings) as database:
        batches = list(retention.old_batches(database, seconds))
        if not dry_run:
            batches = [batch for batch in batches if retention.begin_deletion(database, batch.id)]
            for batch_id in {batch.id for batch in batches} | set(retention.deleting_batches(database)):
                retention.finish_deletion(database, batch_id)
            retention.delete_old_runs(database, seconds)
    _print_deleted(batches, dry_run=dry_run, as_json=as_json)


def _age_seconds(older_than: str | None, settings: Settings) -> float:
    if older_than is not None:
        return parse_age(older_than)
    if settings.retention_days is None:
        raise UsageError("set an age: --older-than 30d, or the setting retention_days")
    return settings.retention_days * DAY_SECONDS


def _print_deleted(batches: Sequence[OldBatch], *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        document: dict[str, Any] = {"object": "list", "data": [batch.as_dict() for batch in batches]}
        terminal.echo_json({**document, "deleted": not dry_run})
        return
    if batches:
        click.echo(terminal.format_table(HEADER, [_table_row(batch) for batch in batches]))
    jobs = terminal.format_count(sum(batch.jobs for batch in batches), "job")
    verb = "would be deleted" if dry_run else "deleted"
    terminal.print_notice(f"{len(batches):,} batch{'' if len(batches) == 1 else 'es'} with {jobs} {verb}")


def _table_row(batch: OldBatch) -> list[object]:
    return [batch.id, batch.status, batch.pipeline, batch.jobs, format_local(batch.ended_at), batch.name or ""]
