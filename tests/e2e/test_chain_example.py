"""The example that translates notes and labels the translations, run with its real models in one process.

The processes of the examples are tested with the nightly one.
"""

import importlib
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.testing import CliRunner

import batchmill
from models import schema
from models.db import Database
from models.pipelines.catalogue import Catalogue
from models.pipelines.pipeline import Pipeline
from models.settings import Settings
from producer.batches import views
from producer.schedules.runs import tick
from tests.factories.batch_rows import claimant_for
from tests.factories.engines import make_context, make_loaded_pipeline
from tests.servers import wait_until
from worker.engine.engine import Engine
from worker.loading import runtime

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "translate_then_classify"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The example's program, without the processes of `batchmill up`."""
    monkeypatch.syspath_prepend(EXAMPLE)
    program = importlib.import_module("run")
    monkeypatch.setattr(program, "Deployment", partial(SingleProcess, monkeypatch))
    yield program
    for name in ("run", "german_notes", "deployment"):
        sys.modules.pop(name, None)


class SingleProcess:
    """A deployment of the example whose commands, schedules and engine run in the test's own process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self._monkeypatch = monkeypatch
        monkeypatch.chdir(folder)
        monkeypatch.setenv("BATCHMILL_HOME", str(folder / "home"))
        monkeypatch.setenv("BATCHMILL_CONFIG", str(folder / "batchmill.toml"))

    def set_clock(self, now: str, speed: int = 1) -> datetime:
        self._monkeypatch.setenv("BATCHMILL_SIMULATED_CLOCK", f"{now}@{datetime.now(UTC).isoformat()}*{speed}")
        return datetime.fromisoformat(now)

    def print_command(self, *command: str) -> None:
        result = CliRunner().invoke(batchmill.cli, command, catch_exceptions=False)
        assert result.exit_code == 0, result.stderr
        click.echo(result.stdout)

    def run_until_done(self, schedule: str, scheduled_day: str, pipelines: Sequence[str]) -> None:
        settings = Settings.load()
        catalogue = Catalogue.load(settings)
        due = datetime.fromisoformat(f"{scheduled_day}T02:00+01:00")
        with closing(schema.open_database(settings)) as database:
            tick.run_once(database, settings, catalogue, due)
            for minutes, pipeline in enumerate(pipelines, start=1):
                answer_jobs(database, catalogue[pipeline])
                tick.run_once(database, settings, catalogue, due + timedelta(minutes=minutes))


def answer_jobs(database: Database, pipeline: Pipeline) -> None:
    """Run the engine with the pipeline's model until all batches have ended."""
    loaded = runtime.load(pipeline, "cpu", threads=1)
    version = loaded.version
    claimant = claimant_for(pipeline=pipeline.name, task=version.task, model=version.model, revision=version.revision)
    engine = Engine(make_context(database), make_loaded_pipeline(database, loaded, claimant))
    engine.start()
    try:
        wait_until(lambda: all(batch.status.has_ended for batch in views.list_batches(database, 10)), "the batches")
    finally:
        engine.stop()
        engine.join()


def test_the_example_ends_as_its_page_says(
    example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example.main(tmp_path)

    output = capsys.readouterr().out
    with closing(sqlite3.connect(tmp_path / "home" / "batchmill.db")) as connection:
        runs = connection.execute(
            "SELECT schedule, state, trigger, source_batch_id IS NOT NULL FROM runs ORDER BY scheduled_at, schedule"
        ).fetchall()
        table = connection.execute('SELECT id, label, "input.text" FROM note_labels ORDER BY id').fetchall()
    labels, translations = ("nightly-labels", "completed", "after", 1), ("nightly-translations", "completed", "cron", 0)
    assert runs == [labels, translations] * 2
    assert [row[0] for row in table] == list(range(1, 13))
    assert table[0] == (1, "PRAISE", "The hotel is wonderful.")
    assert sum(label == "COMPLAINT" for _, label, _ in table) == 5
    assert "  2  The soup is cold.               Die Suppe ist kalt.                 COMPLAINT" in output
    assert "nightly-labels        active  after nightly-translations" in output
    assert "created nightly-labels; next: when a run of nightly-translations completes" in output
