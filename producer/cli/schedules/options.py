"""The options of a schedule's definition, named like the fields of [schedules.NAME] in batchmill.toml."""

from collections.abc import Callable

import click

from producer.cli import common
from producer.readers.files.source_files import FILE_FORMATS


def definition_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for each field; a missing option is None or empty."""
    options = (
        click.option("--cron", metavar="EXPR", help='Five fields, such as "0 2 * * *", or @daily.'),
        click.option(
            "--after", metavar="NAME", help="Instead of --cron: run over the results of this schedule's runs."
        ),
        click.option("--tz", metavar="ZONE", help="Time zone of the schedule, such as Europe/Berlin; unset: UTC."),
        click.option("--pipeline", "-p", required=True, metavar="NAME", help="The pipeline to run."),
        click.option(
            "--sql", metavar="NAME", help="The query [sources.NAME]; it may name :scheduled_at, :since and :until."
        ),
        click.option("--file", metavar="PATTERN", help="A file instead of a query, such as in/{time:%Y-%m-%d}.jsonl."),
        click.option("--format", type=click.Choice(FILE_FORMATS), help="With --file; unset: by the file's name."),
        click.option(
            "--column-names", metavar="NAME,…", help="With --file: of all columns of CSV or TSV without a header."
        ),
        click.option(
            "--status", multiple=True, metavar="STATUS", help="With --after: results of this status; unset: succeeded."
        ),
        click.option(
            "--label", "labels", multiple=True, metavar="LABEL", help="With --after: only results of this label."
        ),
        click.option(
            "--min-score", type=float, metavar="SCORE", help="With --after: only results with at least this score."
        ),
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
            help="The column that holds a field of the task. May be repeated.",
        ),
        click.option("--id", metavar="COLUMN", help="The column that holds your own ids; unset: custom_id, else id."),
        click.option("--passthrough", multiple=True, metavar="COLUMN", help="A column to keep with each job."),
        click.option(
            "--param",
            "params",
            multiple=True,
            callback=common.parse_values,
            metavar="NAME=VALUE",
            help="A parameter of the task. May be repeated.",
        ),
        click.option("--tenant", metavar="NAME", help="To whom it and its batches belong; unset: default."),
        click.option("--priority", type=int, metavar="N", help="From -1000 to 1000; higher goes first; unset: 0."),
        click.option(
            "--on-invalid",
            metavar="HOW",
            help="How to treat a row that can't be a job: reject or fail-row; unset: fail-row.",
        ),
        click.option("--max-failures", metavar="N|P%", help="Fail the run after more failed jobs than this."),
        click.option("--reuse", is_flag=True, default=None, help="Reuse existing results for equal inputs."),
        click.option(
            "--catchup", metavar="WHICH", help="Missed runs to make up for: latest, all or none; unset: latest."
        ),
        click.option("--catchup-window", metavar="SPAN", help="How late a missed run may start; unset: 24h."),
        click.option(
            "--overlap", metavar="HOW", help="skip, queue or allow a run while the one before is open; unset: skip."
        ),
        click.option(
            "--deadline",
            metavar="WHEN",
            help="When a run must be done: 4h after its scheduled time, at 06:00 or at a time in its zone.",
        ),
        click.option("--source-timeout", metavar="SPAN", help="How long a source may be late; unset: 1h."),
        click.option("--lag", metavar="SPAN", help="Leave rows that are newer than this to the next run; unset: 0s."),
        click.option("--since", metavar="TIME", help="Start of the first run's rows; unset: all rows."),
        click.option("--into", metavar="TABLE", help="A table of yours that each run updates, by id."),
        click.option("--into-source", metavar="NAME", help="The source [sources.NAME] whose database has that table."),
        click.option(
            "--alert-drift", type=float, metavar="0..1", help="How far results may drift before an event is sent."
        ),
        click.option(
            "--webhook", metavar="URL", help="Address to send events to, signed with the setting webhook_secret."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command
