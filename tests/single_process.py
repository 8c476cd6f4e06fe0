"""A deployment of an example whose commands, schedules and engine run in the test's own process."""

from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

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


class SingleProcess:
    """Takes the place of an example's `Deployment`; `due_time` is the time of day of its runs, with its offset."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, due_time: str, folder: Path) -> None:
        self._monkeypatch = monkeypatch
        self._due_time = due_time
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

    def run_until_done(self, schedule: str, scheduled_day: str, pipelines: Sequence[str] = ("tickets",)) -> None:
        settings = Settings.load()
        catalogue = Catalogue.load(settings)
        due = datetime.fromisoformat(f"{scheduled_day}T{self._due_time}")
        with closing(schema.open_database(settings)) as database:
            tick.run_once(database, settings, catalogue, due)
            for minutes, pipeline in enumerate(pipelines, start=1):
                _answer_jobs(database, catalogue[pipeline])
                tick.run_once(database, settings, catalogue, due + timedelta(minutes=minutes))


def _answer_jobs(database: Database, pipeline: Pipeline) -> None:
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
