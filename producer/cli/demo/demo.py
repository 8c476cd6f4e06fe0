"""`batchmill demo`: all eight tasks at work on bundled inputs, in a home of the demo's own."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from models.db import Database
from models.errors import BatchmillError
from models.pipelines.catalogue import Catalogue
from models.pipelines.pipeline import SAMPLES
from models.privacy import terminal
from models.settings import Settings
from producer import readers
from producer.batches import polling
from producer.batches.views import BatchView
from producer.cli import common
from producer.cli.batches.wait import exit_code
from producer.cli.demo import sandbox
from producer.cli.display import batch_tables, output_text, progress
from producer.readers.rows import Columns
from producer.results import pages
from producer.submission import submit
from producer.submission.request import Request

ROWS_SHOWN = 12
QUERY = "SELECT pipeline, status, count(*), model, revision FROM job_results GROUP BY 1, 2, 4, 5"

Check = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Act:
    """One batch of the demo: a sample's pipeline, the bundled inputs, and parameters that show something."""

    task: str
    inputs: Path
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def pipeline(self) -> str:
        """The sample's name in the catalogue."""
        return f"sample-{self.task}"


PARAMETERS: dict[str, dict[str, Any]] = {
    "text-generation": {"seed": 1, "max_new_tokens": 64},
    "fill-mask": {"top_k": 3},
    "ner": {"aggregation_strategy": "simple"},
}
REVIEWS = Act("sentiment-analysis", SAMPLES / "reviews.jsonl")
ACTS = (
    REVIEWS,
    *(
        Act(path.stem, path, PARAMETERS.get(path.stem, {}))
        for path in sorted((SAMPLES / "examples").glob("*.jsonl"))
    ),
)  # fmt: skip


@click.command(short_help="See all eight tasks at work in a minute, on bundled inputs.")
@click.option(
    "--home", type=click.Path(file_okay=False, path_type=Path), envvar="BATCHMILL_HOME", default=".demo",
    show_default=True, help="Where the demo keeps its database and its log.",
)  # fmt: skip
@click.pass_context
def demo(ctx: click.Context, /, home: Path) -> None:
    """Start Valkey, a SQLite file and one worker, give it a batch for each of the eight tasks, and show the answers."""
    home = home.absolute()
    with sandbox.own_settings(home):
        settings = Settings.load()
        with (
            sandbox.running(home / "up.log", [act.pipeline for act in ACTS]) as check,
            common.opened(settings) as database,
        ):
            batches = _worked(settings, database, check)
            for batch in batches:
                if batch.error_message is not None:
                    raise BatchmillError(f"the demo's batch for {batch.pipeline} failed: {batch.error_message}")
                _show(database, batch)
            _show_models(batches)
        _tell_more(home, batches, Catalogue.load(settings))
    ctx.exit(max(exit_code(batch) for batch in batches))


def _worked(settings: Settings, database: Database, check: Check) -> list[BatchView]:
    """Submit every act's inputs, and wait until the last of them is answered."""
    catalogue = Catalogue.load(settings)
    submissions = []
    for act in ACTS:
        pipeline = catalogue[act.pipeline]
        request = Request.checked(pipeline, name="demo", parameters=act.parameters)
        with readers.opened(str(act.inputs), Columns.of(pipeline.spec)) as source:
            submissions.append(submit.accept(database, settings.slice_jobs, request, source))
        # Valkey may be starting still: then the worker finds the batch in SQL, as always.
        submit.ring(settings, submissions[-1])
    jobs = sum(submission.jobs for submission in submissions)
    terminal.notice(f"accepted {jobs:,} inputs in {len(submissions)} batches, one for each task")
    return _awaited(database, [submission.batch_id for submission in submissions], jobs, check)


def _awaited(database: Database, batch_ids: Sequence[str], jobs: int, check: Check) -> list[BatchView]:
    ended: list[BatchView] = []
    with progress.shown("working") as report:

        def watch(batch: BatchView) -> None:
            check()
            done = batch.counts.ended + sum(before.counts.ended for before in ended)
            report(done, jobs, batch.pipeline if done else "the worker loads its first model")

        for batch_id in batch_ids:
            ended.append(polling.until_ended(database, batch_id, watch=watch))
    return ended


def _show(database: Database, batch: BatchView) -> None:
    total = batch.counts.total
    positions = sorted({total * part // ROWS_SHOWN for part in range(ROWS_SHOWN)})
    rows = [
        (output_text.given(row), output_text.told(row)) for row in pages.at_positions(database, batch.id, positions)
    ]
    click.echo(f"\n{batch.task}: {len(rows)} of {terminal.counted(total, 'result')}")
    width = max(60, terminal.terminal_width())
    if max(terminal.wide(told) for _, told in rows) <= width // 2:
        click.echo(
            terminal.table(
                ("INPUT", "OUTPUT"), [(terminal.shortened(given, width // 2 - 2), told) for given, told in rows]
            )
        )
    else:
        for given, told in rows:
            click.echo(terminal.shortened(given, width))
            click.echo(textwrap.fill(terminal.printable(told), width, initial_indent="  → ", subsequent_indent="    "))


def _show_models(batches: Sequence[BatchView]) -> None:
    rows = [
        (
            f"{batch.model}@{(batch.revision or '')[:19]}", f"{batch.dtype} on {batch.device}",
            batch_tables.rate(batch.jobs_per_second), batch_tables.share(batch.padding_share),
        )
        for batch in batches
    ]  # fmt: skip
    click.echo(f"\n{terminal.table(('MODEL', 'RAN AS', 'PACE', 'PADDING'), rows)}\n")


def _tell_more(home: Path, batches: Sequence[BatchView], catalogue: Catalogue) -> None:
    file = sandbox.near(home / "batchmill.db")
    program = f"BATCHMILL_HOME={sandbox.near(home)} {sandbox.program()}"
    default = catalogue[REVIEWS.task]
    click.echo(
        f"""The same in SQL, in {file}:
  {sandbox.sql_shell(file)}"{QUERY}"

Look further:
  {program} ls
  {program} show {batches[0].id}
  {program} results {batches[0].id} -o reviews.csv

These were tiny models that come with Batchmill. The catalogue's own default for {REVIEWS.task} is
{default.model},
at revision {default.revision}.
The Hub sends it once (268 MB). To switch to it:
  {program} up --pipelines {REVIEWS.task}
  {program} submit FILE --pipeline {REVIEWS.task}
The defaults of the other tasks: {program} pipelines"""
    )
