"""What a schedule's definition says, as options: the same words stand in [schedules.NAME] of batchmill.toml."""

from collections.abc import Callable

import click

from producer.cli import common


def definition_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for each field; what is not said comes as None, or empty."""
    options = (
        click.option("--cron", required=True, metavar="EXPR", help='Five fields, such as "0 2 * * *", or @daily.'),
        click.option("--tz", metavar="ZONE", help="Whose clocks the times are of, such as Europe/Berlin; unset: UTC."),
        click.option("--pipeline", "-p", required=True, metavar="NAME", help="Which pipeline."),
        click.option("--sql", metavar="NAME", help="The query [sources.NAME]; it may name :slot, :since and :until."),
        click.option("--file", metavar="PATTERN", help="Or a file, such as in/{slot:%Y-%m-%d}.jsonl."),
        click.option(
            "--bind",
            multiple=True,
            callback=common.parse_values,
            metavar="NAME=VALUE",
            help="Another parameter of the query. May be repeated.",
        ),
        click.option(
            "--input",
            multiple=True,
            callback=common.parse_pairs,
            metavar="FIELD=COLUMN",
            help="Which column holds a field of the task. May be repeated.",
        ),
        click.option("--id", metavar="COLUMN", help="Which column holds your own ids; unset: custom_id, else id."),
        click.option("--meta", multiple=True, metavar="COLUMN", help="A column to keep with each job."),
        click.option(
            "--param",
            "params",
            multiple=True,
            callback=common.parse_values,
            metavar="NAME=VALUE",
            help="A parameter of the task. May be repeated.",
        ),
        click.option("--priority", type=int, help="Batches with a higher one go first."),
        click.option("--on-invalid", help="What a row that can't be a job comes to: refuse, or fail-row, if unset."),
        click.option("--max-failures", metavar="N|P%", help="More failed jobs than this fail the run."),
        click.option("--reuse", is_flag=True, default=None, help="Take results that there are for equal inputs."),
        click.option("--catchup", help="latest, all or none of the slots that were missed; unset: latest."),
        click.option("--catchup-window", metavar="SPAN", help="How old a missed slot may be; unset: 24h."),
        click.option("--overlap", help="skip, queue or allow a run while the one before is at it; unset: skip."),
        click.option("--deadline", metavar="SPAN|HH:MM", help="When a run must be done: 4h after its slot, or 06:00."),
        click.option("--source-timeout", metavar="SPAN", help="How long a source may be late; unset: 1h."),
        click.option("--lag", metavar="SPAN", help="Leave what is newer than this to the next run; unset: 0s."),
        click.option("--since", metavar="TIME", help="Where the first run begins; unset: with everything there is."),
        click.option("--into", metavar="TABLE", help="A table of yours that each run brings up to date, by id."),
        click.option("--into-source", metavar="NAME", help="That table is in the database of [sources.NAME]."),
        click.option("--alert-drift", type=float, metavar="0..1", help="How far results may move before you are told."),
        click.option("--webhook", metavar="URL", help="Who is told of events; signed with the setting webhook_secret."),
    )
    for option in reversed(options):
        command = option(command)
    return command
