"""The engine with a task of another author's package: whatever its code does, every input ends as exactly one row."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from models import tasks
from models.db import Database
from models.guards.definition import Guard
from models.pipelines.pipeline import Pipeline
from tests.factories.batch_rows import assert_consistent, claimant_for, get_batch, get_results, insert_batch
from tests.factories.engines import make_context, make_loaded_pipeline
from tests.factories.own_task.installed import PACKAGE, package_on_path, save_model
from tests.servers import wait_until
from worker.engine.engine import Engine
from worker.loading import runtime


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[runtime.Runtime]:
    folder = tmp_path_factory.mktemp("package")
    with package_on_path(folder, entry_points={"irony": f"{PACKAGE}.tasks:IRONY"}):
        save_model(folder / "model")
        pipeline = Pipeline(name="reviews", task="irony", model=str(folder / "model"), max_length=32)
        yield runtime.load(pipeline, "cpu", threads=1)


def run(database: Database, loaded: runtime.Runtime, *batches: list[Any], **columns: Any) -> list[list[Any]]:
    """Insert a batch of each list of inputs, run an engine until all end, and return their results in order."""
    version, spec = loaded.version, tasks.find_spec("irony")
    fields = {"task": version.task, "model": version.model, "revision": version.revision}
    ids = []
    for position, inputs in enumerate(batches):
        stored = [spec.normalise(raw if isinstance(raw, dict) else {"text": raw}) for raw in inputs]
        own = {"parameters": {"digits": position}} if len(batches) > 1 else {}
        ids.append(insert_batch(database, stored, **fields, **own, **columns))
    claimant = claimant_for(**fields, guards=columns.get("guards", {}))
    engine = Engine(make_context(database), make_loaded_pipeline(database, loaded, claimant))
    engine.start()
    wait_until(lambda: all(get_batch(database, batch).status == "completed" for batch in ids), "the batches")
    engine.stop()
    engine.join()
    for batch in ids:
        assert_consistent(database, batch)
    return [sorted(get_results(database, batch), key=lambda row: row.position) for batch in ids]


def test_each_input_has_its_own_outcome(database: Database, loaded: runtime.Runtime) -> None:
    good = [{"text": f"a great {word} product", "context": "it"} for word in ("one", "two", "three")]
    bad = ["raise it", "refuse", "norows", "love it", "terrible", "break it", "nan", "tensor", "long", "nul it"]

    [results] = run(database, loaded, [*good, *bad, "the last"])

    codes = [row.error_code for row in results]
    assert codes[: len(good)] == [None] * len(good)
    assert codes[len(good) : -1] == [
        *("task_error", "too_ironic", "task_error", "task_error", "task_error", "task_error"),
        *("invalid_output", "task_error", "input_too_long", "invalid_output"),
    ]
    assert codes[-1] is None
    assert {row.model_version_id for row in results if row.error_code is None} == {results[0].model_version_id}


def test_batches_with_other_parameters_are_answered_each_by_its_own(
    database: Database, loaded: runtime.Runtime
) -> None:
    inputs = ["a great product", "it", "a great product"]

    whole, tenths = run(database, loaded, inputs, inputs)

    assert [row.output for row in whole] == [
        {**row.output, "ironic": float(round(row.output["ironic"]))} for row in tenths
    ]
    assert tenths[0].output == tenths[2].output != tenths[1].output


def test_guards_read_every_text_of_an_input_and_of_an_output(database: Database, loaded: runtime.Runtime) -> None:
    guards = {
        "names": Guard(on="input", action="redact", words=("Sarah",)),
        "moods": Guard(on="output", action="fail", words=("angry", "calm", "glad")),
    }

    [results] = run(database, loaded, [{"text": "a great product", "tags": ["Sarah"]}], guards=guards)

    assert [row.error_code for row in results] == ["guard_blocked"]
    [verdict] = [verdict for verdict in results[0].guards if verdict["guard"] == "names"]
    assert verdict["action"] == "redact"


def test_a_call_that_hangs_ends_the_process(database: Database, loaded: runtime.Runtime) -> None:
    version, hangs = loaded.version, threading.Event()
    fields = {"task": version.task, "model": version.model, "revision": version.revision}
    insert_batch(database, [tasks.find_spec("irony").normalise({"text": "hate it"})], **fields)
    context = make_context(database, on_hang=lambda *_pipeline_and_role: hangs.set())
    pipeline = make_loaded_pipeline(database, loaded, claimant_for(**fields))
    engine = Engine(context, replace(pipeline, forward_timeout_seconds=0.1))

    engine.start()

    assert hangs.wait(60), "the watchdog"
    engine.stop()
    engine.join()
