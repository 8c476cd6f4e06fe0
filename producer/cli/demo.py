"""`batchmill demo`: the whole system at work on bundled reviews, in a home of its own."""

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from models import terminal
from models.catalogue import Catalogue
from models.db import Database
from models.errors import BatchmillError
from models.pipeline import SAMPLES, Pipeline
from models.settings import Settings
from producer import readers, results, submit, waiting
from producer.batches import BatchView
from producer.cli import context, progress, render
from producer.cli.wait import exit_code
from producer.readers.rows import Columns
from producer.request import Request

SAMPLE, DEFAULT = "sample-sentiment-analysis", "sentiment-analysis"
ROWS_SHOWN = 12
LOG_LINES = 15
STOP_SECONDS = 60.0
QUERY = "SELECT output ->> 'label' AS label, count(*), model, revision FROM job_results"
CONFIG = "# Settings of the demo in this folder; see `Settings` in models/settings.py for what can be set.\n"


@click.command(short_help="See it all work in a minute, on bundled reviews.")
@click.option(
    "--home", type=click.Path(file_okay=False, path_type=Path), envvar="BATCHMILL_HOME", default=".demo",
    show_default=True, help="Where the demo keeps its database and its log.",
)  # fmt: skip
@click.pass_context
def demo(ctx: click.Context, /, home: Path) -> None:
    """Start Valkey, a SQLite file and one worker, label a few hundred reviews, show them, and stop it all."""
    home = home.absolute()
    with _own_settings(home), running(home / "up.log") as check:
        settings = Settings.load()
        catalogue = Catalogue.load(settings)
        with context.opened(settings) as database:
            batch = _labelled(settings, database, catalogue[SAMPLE], check)
            if batch.error_message is not None:
                raise BatchmillError(f"the demo's batch failed: {batch.error_message}")
            _show(database, batch)
    _tell_more(home, batch, catalogue[DEFAULT])
    ctx.exit(exit_code(batch))


@contextmanager
def running(log: Path) -> Iterator[Callable[[], None]]:
    """`batchmill up` as a process of ours, from start to stop; yields a check that raises when it has died."""
    command = [sys.executable, "-P", "-m", "batchmill", "up", "--pipelines", SAMPLE, "--end-with-stdin"]
    terminal.notice(f"starting: batchmill up --pipelines {SAMPLE}\n     log: {_near(log)}")
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=file, stderr=file, env=_environment())

    def check() -> None:
        if process.poll() is not None:
            last = log.read_text("utf-8", errors="replace").splitlines()[-LOG_LINES:]
            lines = "".join(f"\n  {terminal.printable(line)}" for line in last)
            raise BatchmillError(f"`batchmill up` ended with {process.returncode}; the last of {_near(log)}:{lines}")

    try:
        yield check
    finally:
        terminal.notice("stopping the worker and Valkey")
        _stop(process)


def _labelled(settings: Settings, database: Database, pipeline: Pipeline, check: Callable[[], None]) -> BatchView:
    """Submit the bundled reviews and wait for the last of them."""
    request = Request.checked(pipeline, name="demo")
    with readers.opened(str(SAMPLES / "reviews.jsonl"), Columns.of(pipeline.spec)) as source:
        submission = submit.accept(database, settings.slice_jobs, request, source)
    terminal.notice(f"accepted {submission.jobs:,} reviews as {submission.batch_id}")
    # Valkey may be starting still: then the worker finds the batch in SQL, as always.
    submit.ring(settings, submission)
    with progress.shown("labelling") as report:

        def watch(batch: BatchView) -> None:
            check()
            note = render.rate(batch.jobs_per_second) or "the worker loads its model"
            report(batch.counts.ended, batch.counts.total, note)

        return waiting.until_ended(database, submission.batch_id, watch=watch)


def _show(database: Database, batch: BatchView) -> None:
    total = batch.counts.total
    positions = sorted({total * part // ROWS_SHOWN for part in range(ROWS_SHOWN)})
    width = max(30, terminal.terminal_width() - 22)
    rows = [
        (terminal.shortened(row.input["text"], width), *render.answer(row).partition(" ")[::2])
        for row in results.at_positions(database, batch.id, positions)
    ]
    click.echo(f"\n{len(rows)} of {total:,} results:")
    click.echo(terminal.table(("TEXT", "LABEL", "SCORE"), rows))
    made_by = [
        ("model", f"{batch.model}@{batch.revision}"),
        ("ran as", f"{batch.dtype} on {batch.device}"),
        ("pace", render.rate(batch.jobs_per_second)),
        ("padding", render.share(batch.padding_share)),
    ]
    click.echo(f"\n{terminal.facts(made_by)}\n")


def _tell_more(home: Path, batch: BatchView, default: Pipeline) -> None:
    file = _near(home / "batchmill.db")
    program = f"BATCHMILL_HOME={_near(home)} {_program()}"
    query = f"{QUERY} WHERE batch_id = '{batch.id}' GROUP BY 1, 3, 4"
    click.echo(
        f"""The same in SQL, in {file}:
  {_sql_shell(file)}"{query}"

Look further:
  {program} show {batch.id}
  {program} results {batch.id} -o reviews.csv
  {program} ls

This was {SAMPLE}, a tiny model that comes with Batchmill. The catalogue's own default for the task is
{DEFAULT}: {default.model},
at revision {default.revision}.
The Hub sends it once (268 MB). To switch to it:
  {program} up --pipelines {DEFAULT}
  {program} submit FILE --pipeline {DEFAULT}"""
    )


@contextmanager
def _own_settings(home: Path) -> Iterator[None]:
    """The demo's own home and nothing else: it must not write to a database that the environment happens to name."""
    home.mkdir(parents=True, exist_ok=True)
    config = home / "batchmill.toml"
    if not config.exists():
        config.write_text(CONFIG)
    own = {"BATCHMILL_HOME": str(home), "BATCHMILL_CONFIG": str(config)}
    others = ("BATCHMILL_DATABASE_URL", "BATCHMILL_REDIS_URL")
    before = {name: os.environ.pop(name, None) for name in (*own, *others)}
    os.environ.update(own)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _environment() -> dict[str, str]:
    """The process' environment: it finds our packages where we were found, installed or not."""
    here = Path(sys.modules["models"].__path__[0]).parent
    if here == Path(sysconfig.get_path("purelib")):
        return dict(os.environ)
    path = os.pathsep.join(filter(None, (str(here), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path}


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.stdin:
        process.stdin.close()
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _program() -> str:
    """How to call us from this folder."""
    if shutil.which("batchmill"):
        return "batchmill"
    script = Path(sys.argv[0])
    return str(_near(script.absolute())) if script.name == "batchmill" else f"{sys.executable} -m batchmill"


def _sql_shell(file: Path) -> str:
    if shutil.which("sqlite3"):
        return f"sqlite3 {file} "
    return f"{sys.executable} -m sqlite3 {file} " if sys.version_info >= (3, 12) else ""


def _near(path: Path) -> Path:
    """The path as one would type it here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
