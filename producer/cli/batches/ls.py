"""`batchmill ls` lists batches."""

import click

from models.privacy import terminal
from models.settings import Settings
from models.states import BatchStatus
from producer import times
from producer.batches import views
from producer.batches.listing import BatchFilter
from producer.batches.views import BatchView
from producer.cli import common
from producer.cli.display import batch_tables

HEADER = ("BATCH", "STATUS", "PIPELINE", "DONE", "FAILED", "SUBMITTED", "NAME")


@click.command(short_help="List batches, the newest first.")
@common.limit_option("batches", most=10_000, default=20)
@click.option("--after", metavar="ID", help="Only batches after this one in the list, which are older.")
@click.option(
    "--status",
    "statuses",
    type=click.Choice([status.value for status in BatchStatus]),
    multiple=True,
    help="Only batches with this status; may be repeated.",
)
@click.option("--pipeline", "-p", metavar="NAME", help="Only batches of this pipeline.")
@click.option("--tenant", metavar="NAME", help="Only batches of this tenant.")
@click.option("--name", metavar="NAME", help="Only batches of this name; * stands for any text.")
@click.option(
    "--search",
    metavar="TEXT",
    help="Only batches whose name or metadata contains this text, or whose id begins with it.",
)
@click.option("--since", metavar="WHEN", help="Only batches submitted since then, such as 2026-11-25 or 6h ago as 6h.")
@click.option("--until", metavar="WHEN", help="Only batches submitted until then; a date counts as a whole day.")
@common.json_option
def ls(
    limit: int,
    after: str | None,
    statuses: tuple[str, ...],
    pipeline: str | None,
    name: str | None,
    search: str | None,
    since: str | None,
    until: str | None,
    tenant: str | None,
    as_json: bool,
) -> None:
    """List batches, the newest first. To list older ones, give the last ID to --after."""
    since_time = None if since is None else times.parse_moment(since)
    until_time = None if until is None else times.parse_moment(until, is_end=True)
    batch_filter = BatchFilter(
        statuses or None, pipeline, name, since_time, until_time, after, tenant=tenant, search=search
    )
    with common.open_database(Settings.load()) as database:
        batches = views.list_batches(database, limit + 1, batch_filter)
    _print(batches[:limit], has_more=len(batches) > limit, is_filtered=batch_filter != BatchFilter(), as_json=as_json)


def _print(batches: list[BatchView], *, has_more: bool, is_filtered: bool, as_json: bool) -> None:
    if as_json:
        last_id = batches[-1].id if batches else None
        data = [batch.as_dict() for batch in batches]
        terminal.echo_json({"object": "list", "data": data, "has_more": has_more, "last_id": last_id})
        return
    if batches:
        click.echo(terminal.format_table(HEADER, [batch_tables.batch_row(batch) for batch in batches]))
    elif is_filtered:
        terminal.print_notice("there are no such batches")
    else:
        terminal.print_notice("there are no batches yet; submit one: batchmill submit FILE --pipeline NAME")
    if has_more:
        terminal.print_notice(f"older ones: the same with --after {batches[-1].id}")
