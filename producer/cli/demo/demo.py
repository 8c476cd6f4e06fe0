"""`batchmill demo` runs all ten tasks and a guarded pipeline on bundled inputs, in a home folder for the demo."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import click

from models.db import Database
from models.errors import BatchmillError
from models.pipelines.catalogue import Catalogue
from models.privacy import terminal
from models.settings import Settings
from producer import readers
from producer.batches import polling, views
from producer.batches.views import BatchView
from producer.catalogue.examples import EXAMPLES_FOLDER, REVIEWS_FILE, TASK_PARAMETERS
from producer.cli import common
from producer.cli.batches.wait import exit_code
from producer.cli.demo import sandbox, verdicts
from producer.cli.display import output_text, progress
from producer.live_view import words
from producer.readers.column_mapping import ColumnMapping
from producer.results import pages
from producer.results.result_row import ResultRow
from producer.submission import submit
from producer.submission.request import SubmitRequest

MAX_ROWS = 12
EXAMPLE_QUERY = "SELECT pipeline, status, count(*), model, revision FROM job_results GROUP BY 1, 2, 4, 5"

CheckRunning = Callable[[], None]


@dataclass(frozen=True, slots=True)
class DemoBatch:
    """One batch of the demo: a sample pipeline, its bundled inputs and parameters.

    sample: the pipeline's name without `sample-`, the task's except for the guarded one.
    """

    sample: str
    input_path: Path
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def pipeline(self) -> str:
        """The sample pipeline's name in the catalogue."""
        return f"sample-{self.sample}"


REVIEWS_BATCH = DemoBatch("sentiment-analysis", REVIEWS_FILE)
GUARDED_BATCH = DemoBatch("guarded-sentiment", EXAMPLES_FOLDER / "guarded-sentiment.jsonl")
DEMO_BATCHES = (
    REVIEWS_BATCH,
    *(
        DemoBatch(path.stem, path, TASK_PARAMETERS.get(path.stem, {}))
        for path in sorted(EXAMPLES_FOLDER.glob("*.jsonl"))
        if path != GUARDED_BATCH.input_path
    ),
    GUARDED_BATCH,
)


@click.command(short_help="See all ten tasks and four guards at work in a minute, on bundled inputs.")
@click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    envvar="BATCHMILL_HOME",
    default=".demo",
    show_default=True,
    help="Where the demo keeps its database and its log.",
)
@click.pass_context
def demo(ctx: click.Context, /, home: Path) -> None:
    """Start Valkey and one worker with a SQLite file, run a batch for each of the ten tasks and one with guards, and
    show the results.
    """
    home = home.absolute()
    with sandbox.isolated_settings(home):
        settings = Settings.load()
        with (
            sandbox.run_up(home / "up.log", [demo_batch.pipeline for demo_batch in DEMO_BATCHES]) as check_running,
            common.open_database(settings) as database,
        ):
            batches = _run_batches(settings, database, check_running)
            for batch in batches:
                if batch.error_message is not None:
                    raise BatchmillError(f"the demo's batch for {batch.pipeline} failed: {batch.error_message}")
                _print_results(database, batch)
            _print_models(batches)
        _print_next_steps(home, batches, Catalogue.load(settings))
    # The last batch is the guarded one, which is meant to have a failed row.
    ctx.exit(max(exit_code(batch) for batch in batches[:-1]))


def _run_batches(settings: Settings, database: Database, check_running: CheckRunning) -> list[BatchView]:
    """Submit all batches of the demo, and wait until they have ended."""
    catalogue = Catalogue.load(settings)
    submissions = []
    for demo_batch in DEMO_BATCHES:
        pipeline = catalogue[demo_batch.pipeline]
        request = SubmitRequest.create(pipeline, name="demo", parameters=demo_batch.parameters)
        with readers.open_source(str(demo_batch.input_path), ColumnMapping.for_task(pipeline.spec)) as source:
            submissions.append(submit.submit(database, settings.slice_size, request, source))
        # Valkey may still be starting; then the worker finds the batch by polling SQL.
        submit.notify_workers(settings, pipeline.name, submissions[-1].slices)
    jobs = sum(submission.jobs for submission in submissions)
    terminal.print_notice(
        f"accepted {jobs:,} inputs in {len(submissions)} batches, one for each task and one with guards"
    )
    return _wait_for_batches(database, [submission.batch_id for submission in submissions], jobs, check_running)


def _wait_for_batches(
    database: Database, batch_ids: Sequence[str], jobs: int, check_running: CheckRunning
) -> list[BatchView]:
    ended: list[BatchView] = []
    with progress.show_progress("working") as report:

        def watch(batch: BatchView) -> None:
            check_running()
            done = batch.counts.ended + sum(earlier.counts.ended for earlier in ended)
            report(done, jobs, batch.pipeline if done else "the worker loads its first model")

        for batch_id in batch_ids:
            ended.append(polling.wait_until_ended(partial(views.get_batch, database, batch_id), on_poll=watch))
    return ended


def _print_results(database: Database, batch: BatchView) -> None:
    total = batch.counts.total
    positions = sorted({total * part // MAX_ROWS for part in range(MAX_ROWS)})
    rows = list(pages.fetch_at_positions(database, batch.id, positions))
    is_guarded = batch.pipeline == GUARDED_BATCH.pipeline
    guards = f", behind the guards of {batch.pipeline}" if is_guarded else ""
    click.echo(f"\n{batch.task}: {len(rows)} of {terminal.format_count(total, 'result')}{guards}")
    (_print_guarded_rows if is_guarded else _print_rows)(rows, max(60, terminal.terminal_width()))


def _print_rows(rows: Sequence[ResultRow], width: int) -> None:
    pairs = [(output_text.format_input(row), output_text.format_outcome(row)) for row in rows]
    if max(terminal.display_width(output) for _, output in pairs) <= width // 2:
        short_rows = [(terminal.shorten(input_text, width // 2 - 2), output) for input_text, output in pairs]
        click.echo(terminal.format_table(("INPUT", "OUTPUT"), short_rows))
    else:
        for input_text, output in pairs:
            click.echo(terminal.shorten(input_text, width))
            _print_below(output, width)


def _print_guarded_rows(rows: Sequence[ResultRow], width: int) -> None:
    """Print each input as it is stored, and below it the output and what the guards decided."""
    for row in rows:
        click.echo(terminal.shorten(output_text.format_input(row), width))
        _print_below(f"{output_text.format_outcome(row)}, {verdicts.describe(row.guards or ())}", width)


def _print_below(output: str, width: int) -> None:
    click.echo(textwrap.fill(terminal.to_printable(output), width, initial_indent="  → ", subsequent_indent="    "))


def _print_models(batches: Sequence[BatchView]) -> None:
    rows = [
        (
            f"{batch.model}@{(batch.revision or '')[:19]}",
            f"{batch.dtype} on {batch.device}",
            words.format_rate(batch.jobs_per_second),
            words.format_padding_share(batch.padding_share),
        )
        for batch in batches
    ]
    click.echo(f"\n{terminal.format_table(('MODEL', 'RAN AS', 'PACE', 'PADDING'), rows)}\n")


def _print_next_steps(home: Path, batches: Sequence[BatchView], catalogue: Catalogue) -> None:
    file = sandbox.relative_path(home / "batchmill.db")
    program = f"BATCHMILL_HOME={sandbox.relative_path(home)} {sandbox.batchmill_command()}"
    default = catalogue[REVIEWS_BATCH.sample]
    click.echo(
        f"""The same in SQL, in {file}:
  {sandbox.sqlite_command(file)}"{EXAMPLE_QUERY}"

Look further:
  {program} ls
  {program} show {batches[0].id}
  {program} results {batches[0].id} -o reviews.csv
  {program} results {batches[-1].id} --json

These were tiny models that come with Batchmill. The catalogue's own default for {REVIEWS_BATCH.sample} is
{default.model},
at revision {default.revision}.
The Hub sends it once (268 MB). To switch to it:
  {program} up --pipelines {REVIEWS_BATCH.sample}
  {program} submit FILE --pipeline {REVIEWS_BATCH.sample}
The defaults of the other tasks: {program} pipelines"""
    )
