"""Fixtures of the conformance tests: a real engine processes batches in a real database."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from models import tasks
from models.db import Database
from tests.factories.batch_rows import assert_consistent, get_batch, get_results, insert_batch
from tests.factories.engines import make_context, make_loaded_pipeline
from tests.servers import wait_until
from worker.engine.engine import Engine
from worker.loading.runtime import Runtime

SLICE_JOBS = 25

# runtime, inputs, sets of parameters → result rows by position, for each set
RunBatches = Callable[[Runtime, Sequence[Any], Sequence[Mapping[str, Any]]], list[list[Any]]]


@pytest.fixture
def run_batches(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunBatches]:
    """Run batches of the same inputs in one engine, one for each set of parameters, all at once."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # restored afterwards; loading sets it
    database = Database(sqlite_url)

    def run(loaded: Runtime, inputs: Sequence[Any], parameters: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
        spec = tasks.find_spec(loaded.version.task)
        ids = []
        for raw_parameters in parameters:
            checked = spec.check_parameters(raw_parameters)
            stored = [spec.normalise(raw_input, checked) for raw_input in inputs]
            columns = {"task": loaded.version.task, "revision": None, "parameters": checked}
            ids.append(insert_batch(database, stored, slice_size=SLICE_JOBS, **columns))
        run_engine_until_completed(database, loaded, ids)
        for batch_id in ids:
            assert_consistent(database, batch_id)
            assert get_batch(database, batch_id).revision == loaded.version.revision
        return [get_results(database, batch_id) for batch_id in ids]

    yield run
    database.close()


def run_engine_until_completed(database: Database, runtime: Runtime, batch_ids: Sequence[str]) -> None:
    """Run an engine until these batches are completed."""
    context = make_context(database, slice_size=SLICE_JOBS, poll_interval_seconds=0.01)
    engine = Engine(context, make_loaded_pipeline(database, runtime))
    with capture_logs() as events:
        engine.start()
        try:
            wait_until(
                lambda: all(get_batch(database, each).status == "completed" for each in batch_ids), "the batches to end"
            )
        finally:
            engine.stop()
            engine.join()
    # One by one, the outputs would be right too, only much later.
    assert "outputs.bulk_decoding_failed" not in {event["event"] for event in events}
