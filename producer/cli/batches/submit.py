"""`batchmill submit` submits files of inputs, or a query's rows, as one batch."""

from functools import partial
from typing import Any

import click

from models.db import Database
from models.errors import UsageError
from models.pipelines.catalogue import Catalogue
from models.privacy import terminal
from models.processes import failpoints
from models.settings import Settings
from models.states import JobOutcome
from producer import readers
from producer.cli import common
from producer.cli.batches import repair, wait
from producer.cli.batches.dry_run import print_dry_run
from producer.cli.batches.submit_report import errors_as_warnings, exit_code, print_id, print_summary
from producer.cli.display import progress
from producer.readers import input_source
from producer.readers.column_mapping import ColumnMapping
from producer.readers.mapping_advice import COMMAND_ADVICE
from producer.readers.results.columns import ResultColumns
from producer.readers.results.selection import ResultSelection
from producer.readers.rows import Source
from producer.submission import submit as submitting
from producer.submission.ingestion import SubmitResult
from producer.submission.request import ON_INVALID, REJECT, SubmitRequest
from producer.tenants.principal import DEFAULT_TENANT
from producer.webhooks import webhook_address


@click.command(short_help="Submit a file of inputs as one batch.")
@click.argument("paths", metavar="[FILE…|-]", nargs=-1)
@click.option("--pipeline", "-p", metavar="NAME", help="The pipeline; see: batchmill pipelines.")
@click.option(
    "--format", "kind", type=click.Choice(list(readers.FILE_FORMATS)), help="Unset: by the file's name; - is jsonl."
)
@click.option(
    "--column-names", metavar="NAME,…", help="Of all columns of CSV or TSV files without a header, such as text,label."
)
@click.option("--sql", metavar="NAME", help="Instead of files: the query [sources.NAME] of batchmill.toml.")
@click.option(
    "--bind",
    "bound",
    multiple=True,
    callback=common.parse_values,
    metavar="NAME=VALUE",
    help="A parameter of that query, as JSON or text. May be repeated.",
)
@click.option("--from", "from_batch", metavar="ID", help="Instead of files: the results of this ended batch.")
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice([outcome.value for outcome in JobOutcome]),
    help="With --from: results with this status; unset: succeeded. May be repeated.",
)
@click.option(
    "--label", "labels", multiple=True, metavar="LABEL", help="With --from: results with this label. May be repeated."
)
@click.option("--min-score", type=float, metavar="SCORE", help="With --from: results with at least this score.")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    callback=common.parse_pairs,
    metavar="FIELD=COLUMN",
    help="The column with a field that the pipeline reads, such as text=review_body, or text=output.summary_text with "
    "--from; see: batchmill pipelines. May be repeated.",
)
@click.option("--id", "custom_id", metavar="COLUMN", help="The column with your own ids; unset: custom_id, else id.")
@click.option(
    "--passthrough",
    multiple=True,
    metavar="COLUMN",
    help="A column to keep with each job and return with its result; '*' keeps all. May be repeated.",
)
@click.option("--no-id", is_flag=True, help="Keep no ids of your own, even if the source has such a column.")
@click.option(
    "--param",
    "parameters",
    multiple=True,
    callback=common.parse_values,
    metavar="NAME=VALUE",
    help="A parameter of the task, as JSON or text; see: batchmill tasks. May be repeated.",
)
@click.option("--name", metavar="NAME", help="A name for people; it need not be unique.")
@click.option("--tenant", metavar="NAME", default=DEFAULT_TENANT, show_default=True, help="To whom it belongs.")
@click.option(
    "--priority", type=int, metavar="N", default=0, show_default=True, help="From -1000 to 1000; higher runs first."
)
@click.option(
    "--metadata",
    multiple=True,
    callback=common.parse_pairs,
    metavar="KEY=VALUE",
    help="Kept with the batch; up to 16. May be repeated.",
)
@click.option(
    "--on-invalid",
    type=click.Choice(ON_INVALID),
    default=REJECT,
    show_default=True,
    help="A row that can't be a job: reject the whole batch, or make it a failed result with line and code.",
)
@click.option(
    "--deadline",
    metavar="WHEN",
    help="When remaining jobs expire: after 6h, at 06:00 or a time, by this machine's clock.",
)
@click.option("--max-failures", metavar="N|P%", help="End the batch early when more jobs than this have failed.")
@click.option(
    "--webhook",
    "webhook_url",
    metavar="URL",
    help="Address to call when the batch ends, signed with the setting webhook_secret.",
)
@click.option(
    "--idempotency-key",
    metavar="KEY",
    help="The same command with the same key is the same batch; an interrupted submission resumes.",
)
@click.option(
    "--reuse", is_flag=True, help="Reuse results of earlier batches for the same input, model and parameters."
)
@click.option(
    "--repair",
    "repaired_batch_id",
    metavar="ID",
    help="Put the rows in the places of failed jobs of this batch, by position or id, and run them there.",
)
@click.option("--dry-run", is_flag=True, help="Read and check everything, print a report, and write nothing.")
@click.option("--wait", "waits", is_flag=True, help="Wait for the end, and exit as `batchmill wait` does.")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="With --wait: how long at most.")
@common.json_option
@click.pass_context
def submit(
    ctx: click.Context,
    /,
    paths: tuple[str, ...],
    pipeline: str | None,
    kind: str | None,
    column_names: str | None,
    sql: str | None,
    bound: dict[str, Any],
    from_batch: str | None,
    statuses: tuple[str, ...],
    labels: tuple[str, ...],
    min_score: float | None,
    inputs: dict[str, str],
    custom_id: str | None,
    passthrough: tuple[str, ...],
    no_id: bool,
    repaired_batch_id: str | None,
    dry_run: bool,
    waits: bool,
    timeout: float | None,
    as_json: bool,
    **fields: Any,
) -> None:
    """Submit files (JSON lines, CSV, TSV, Parquet or text, plain, .gz or .zst) as one batch, and print its id.

    FILE may be a pattern such as 'parts/*.parquet', a URL such as s3://bucket/a.jsonl, or - for standard input. A line
    is a text, or an object with the fields that the pipeline reads. The first invalid rows are named, and then nothing
    is submitted.
    """
    failpoints.arm()
    if timeout is not None and not waits:
        raise UsageError("--timeout limits how long --wait waits; give --wait too")
    if repaired_batch_id is not None:
        ctx.exit(repair.repair(ctx, repaired_batch_id))
    if pipeline is None:
        raise UsageError("say which pipeline: --pipeline NAME; see: batchmill pipelines")
    if no_id and custom_id is not None:
        raise UsageError("--id and --no-id exclude each other")
    settings = Settings.load()
    catalogue_entry = Catalogue.load(settings)[pipeline]
    selection = ResultSelection.from_options(from_batch, statuses, labels, min_score, COMMAND_ADVICE, fields["tenant"])
    request = SubmitRequest.create(
        catalogue_entry,
        **fields,
        source_batch_id=from_batch,
        max_unanswered_jobs=settings.unanswered_jobs_cap(fields["tenant"]),
    )
    _print_webhook_warnings(settings, request)
    mapping = ColumnMapping if selection is None else ResultColumns
    columns = mapping.for_task(catalogue_entry.spec, inputs, custom_id, use_ids=not no_id, passthrough=passthrough)
    columns = columns.with_header(column_names)
    source = input_source.open_source(
        settings,
        columns,
        paths=paths,
        file_format=kind,
        source_name=sql,
        query_params=bound,
        selection=selection,
        keep_invalid=request.keep_invalid,
    )
    if dry_run:
        with source as rows:
            ctx.exit(0 if print_dry_run(settings, request, rows, as_json=as_json) else UsageError.exit_code)
    with common.open_database(settings) as database:
        with source as rows:
            submission = _submit(database, settings, request, rows)
        _print_doubts(rows)
        print_id(database, submission, as_json=as_json, waits=waits)
        with errors_as_warnings(submission):
            print_summary(settings, database, submission)
        if waits:
            ctx.exit(wait.follow_batch(database, submission.batch_id, timeout, as_json=as_json))
        if submission.existing_status is not None:
            ctx.exit(exit_code(database, submission))
        ctx.exit(wait.EXIT_COMPLETED if submission.source_failure is None else wait.EXIT_FAILED_JOBS)


def _print_doubts(source: Source) -> None:
    """Print what the reader had to assume."""
    for doubt in source.doubts:
        terminal.print_notice(f"warning: {terminal.to_printable(doubt)}")


def _print_webhook_warnings(settings: Settings, request: SubmitRequest) -> None:
    if request.webhook_url is not None:
        for warning in webhook_address.find_warnings(request.webhook_url, settings):
            terminal.print_notice(f"warning: {warning}")


def _submit(database: Database, settings: Settings, request: SubmitRequest, source: Source) -> SubmitResult:
    try:
        with progress.show_progress("submitting") as report:
            return submitting.submit(
                database,
                settings.slice_size,
                request,
                source,
                lambda jobs: report(jobs, None, ""),
                _FirstChunkNotifier(settings),
            )
    except KeyboardInterrupt:
        if request.idempotency_key is not None:
            terminal.print_notice("the jobs read so far stay for a day; the same command resumes the submission")
        raise


class _FirstChunkNotifier:
    """Sends wakeups for each chunk, and prints once that the batch is processed while it is still ingesting."""

    def __init__(self, settings: Settings) -> None:
        self._wakeup_sender = submitting.WakeupSender(partial(submitting.notify_workers, settings))
        self._has_notified = False

    def __call__(self, submission: SubmitResult) -> None:
        if not self._has_notified:
            self._has_notified = True
            terminal.print_notice(
                f"{submission.batch_id} is processing while still ingesting: batchmill results --follow "
                f"{submission.batch_id}"
            )
        self._wakeup_sender(submission)
