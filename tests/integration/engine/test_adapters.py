"""Two LoRA adapters over one model in one process: each batch gets its own answers, stamped with both revisions."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from models.db import Database
from models.pipelines.folder_hash import content_hash
from models.pipelines.pipeline import SAMPLES_FOLDER, Pipeline
from models.tables.results import ModelVersion
from producer.batches import views
from producer.results.pages import iter_by_position
from tests.factories.batch_rows import assert_consistent, get_batch, insert_batch
from tests.factories.engines import end_switcher, make_context
from tests.factories.lora_adapters import adapter_for
from tests.servers import wait_until
from worker.loading import runtime, shared_weights
from worker.process.heartbeat import Heartbeat
from worker.process.pipeline_loader import PipelineLoader
from worker.process.pipeline_switcher import PipelineSwitcher

LEASE_SECONDS = 30.0


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pipeline]:
    """A model alone, and with each of two adapters."""
    folder = tmp_path_factory.mktemp("models")
    base = shutil.copytree(SAMPLES_FOLDER / "sentiment-analysis", folder / "base")
    targets = {"target_modules": ["q_lin", "v_lin", "lin1"]}
    entry = Pipeline(name="plain", task="sentiment-analysis", model=str(base))
    adapters = {
        name: str(adapter_for(base, folder / name, seed=seed, **targets)) for seed, name in enumerate(("mild", "harsh"))
    }
    adapted = {name: entry.model_copy(update={"name": name, "adapter": path}) for name, path in adapters.items()}
    return {"plain": entry, **adapted}


class WorkerProcess:
    """A process that serves these pipelines with real models on a CPU."""

    def __init__(self, database: Database, entries: dict[str, Pipeline]) -> None:
        self.runtimes: list[Any] = []
        context = make_context(
            database,
            worker_id="worker-1#1",
            pipelines=tuple(entries),
            poll_interval_seconds=0.05,
            slice_size=4,
            switch_after_seconds=2.0,
        )
        heartbeat = Heartbeat(
            database,
            context.held_leases,
            dict.fromkeys(entries, "hash"),
            lease_seconds=LEASE_SECONDS,
            heartbeat_seconds=5.0,
        )
        self.wakeup_signal = context.wakeup_signal
        self.switcher = PipelineSwitcher(context, entries, PipelineLoader(context, heartbeat, self.load))

    def load(self, pipeline: Pipeline) -> Any:
        self.runtimes.append(runtime.load(pipeline, "cpu", threads=1))
        return self.runtimes[-1]

    def close(self) -> None:
        end_switcher(self.switcher, self.wakeup_signal)


@pytest.fixture
def process(database: Database, entries: dict[str, Pipeline]) -> Iterator[WorkerProcess]:
    process = WorkerProcess(database, entries)
    yield process
    process.close()


def scores(database: Database, batch_id: str) -> list[float]:
    return [row.output["score"] for row in iter_by_position(database, batch_id)]


def submit(database: Database, entry: Pipeline, jobs: int = 40, revision: str | None = None) -> str:
    return insert_batch(database, jobs, pipeline=entry.name, model=entry.model, revision=revision)


def until_ended(database: Database, *batch_ids: str) -> None:
    wait_until(
        lambda: all(get_batch(database, batch_id).status == "completed" for batch_id in batch_ids),
        "the end of the batches",
    )


def test_batches_of_two_adapters_at_once_are_not_mixed_up(
    database: Database, process: WorkerProcess, entries: dict[str, Pipeline]
) -> None:
    batches = {name: [submit(database, entry), submit(database, entry)] for name, entry in entries.items()}

    process.switcher.start()
    until_ended(database, *(batch for pair in batches.values() for batch in pair))

    outputs = {name: [scores(database, batch) for batch in pair] for name, pair in batches.items()}
    assert all(first == pytest.approx(second, abs=1e-5) for first, second in outputs.values())
    assert outputs["plain"][0] != outputs["mild"][0] != outputs["harsh"][0]
    first, *others = [shared_weights.shared_sizes(each.model) for each in process.runtimes]
    assert all(each.keys() & first.keys() for each in others)
    for batch in (batch for pair in batches.values() for batch in pair):
        assert_consistent(database, batch)


def test_a_result_and_its_batch_name_both_revisions(
    database: Database, process: WorkerProcess, entries: dict[str, Pipeline]
) -> None:
    batch_id, entry = submit(database, entries["mild"], jobs=3), entries["mild"]

    process.switcher.start()
    until_ended(database, batch_id)

    revision, adapter_revision = content_hash(Path(entry.model)), content_hash(Path(entry.adapter or ""))
    [row, *_] = iter_by_position(database, batch_id)
    assert (row.revision, row.adapter, row.adapter_revision) == (revision, entry.adapter, adapter_revision)
    assert row.as_dict()["adapter_revision"] == adapter_revision
    view = views.get_batch(database, batch_id)
    assert (view.as_dict()["adapter"], view.adapter_revision) == (entry.adapter, adapter_revision)
    assert get_batch(database, batch_id).revision == row.content_revision == f"{revision}+{adapter_revision}"
    with database.read() as connection:
        [libraries] = connection.scalars(select(ModelVersion.libraries).where(ModelVersion.adapter == entry.adapter))
    assert "peft" in libraries


def test_a_batch_that_began_with_another_content_of_the_adapter_is_left_alone(
    database: Database, process: WorkerProcess, entries: dict[str, Pipeline]
) -> None:
    entry = entries["mild"]
    foreign = submit(database, entry, revision=f"{content_hash(Path(entry.model))}+sha256:{'f' * 64}")

    process.switcher.start()
    wait_until(lambda: bool(process.runtimes), "a look at the other revision")
    until_ended(database, submit(database, entries["plain"], jobs=3))

    assert get_batch(database, foreign).status == "in_progress"
    assert [each.version.adapter for each in process.runtimes].count(entry.adapter) == 1
