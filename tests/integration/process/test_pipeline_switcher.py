"""Several pipelines in one process: one is pinned at a time, all backlogs are worked through, nobody starves."""

import errno
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from sqlalchemy import select

from models.db import Database
from models.errors import BatchmillError, LoadFailed, ModelError, Unreachable
from models.pipelines.pipeline import Pipeline
from models.tables.results import ModelVersion, Result
from models.tables.workers import LoadFailure, Worker
from tests.factories.batch_rows import (
    LEASE_SECONDS,
    MODEL_VERSION,
    REVISION,
    assert_consistent,
    get_batch,
    get_results,
    insert_batch,
)
from tests.factories.engines import end_switcher, make_context
from tests.fakes import FakeAdapter, ForwardGate
from tests.servers import WAIT_TIMEOUT_SECONDS, wait_until
from worker.leasing.leases import Lease
from worker.leasing.load_problems import load_backoff
from worker.leasing.load_problems import load_failures as failing
from worker.loading.runtime import Runtime
from worker.metrics.recorder import MetricsRecorder
from worker.process.heartbeat import Heartbeat
from worker.process.pipeline_loader import PipelineLoader
from worker.process.pipeline_switcher import PipelineSwitcher
from worker.process.switch_policy import LoadTarget

NAMES = ("first", "second", "third")


class Panic(BaseException):
    """What libraries written in Rust raise: no Exception."""


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loads that failed are tried again soon."""
    monkeypatch.setattr(load_backoff, "INITIAL_SECONDS", 0.2)
    monkeypatch.setattr(load_backoff, "MAX_SECONDS", 0.4)
    monkeypatch.setattr(load_backoff, "PAUSE_TO_LOAD_RATIO", 0)


class SwitchingProcess:
    """A process with made models; `loads` tells in which order they were loaded."""

    def __init__(self, database: Database, *, folders: bool = False, **settings: Any) -> None:
        self.database = database
        self.adapters = {name: FakeAdapter() for name in NAMES}
        self.broken: dict[str, BaseException] = {}
        self.problems: dict[str, BatchmillError] = {}  # known before a load
        self.slow: threading.Event | None = None  # loads take until it is set
        self.loads: list[str] = []
        self.guards: dict[str, Runtime] = {}  # of every pipeline
        self.crashes: list[str] = []
        self.expects_crash = False  # a real process would then have ended before its next load
        context = make_context(
            database,
            worker_id="worker-1#2",
            pipelines=NAMES,
            on_fatal_error=lambda: self.crashes.append("crash"),
            on_hang=lambda pipeline, _role: self.crashes.append(f"hung {pipeline}"),
            poll_interval_seconds=0.05,
            slice_size=4,
            **settings,
        )
        self.wakeup_signal, held_leases = context.wakeup_signal, context.held_leases
        heartbeat = Heartbeat(
            database, held_leases, dict.fromkeys(NAMES, "hash"), lease_seconds=LEASE_SECONDS, heartbeat_seconds=5.0
        )
        models = {name: f"/made/{name}" if folders else f"made/{name}" for name in NAMES}
        entries = {name: Pipeline(name=name, task="sentiment-analysis", model=models[name]) for name in NAMES}
        self.switcher = PipelineSwitcher(context, entries, PipelineLoader(context, heartbeat, self.load, self.check))

    def check(self, pipeline: Pipeline) -> BatchmillError | None:
        return self.problems.get(pipeline.name)

    def load(self, pipeline: Pipeline) -> Runtime:
        self.loads.append(pipeline.name)
        if self.slow is not None:
            self.slow.wait(WAIT_TIMEOUT_SECONDS)
        if pipeline.name in self.broken:
            raise self.broken[pipeline.name]
        version = replace(MODEL_VERSION, model=pipeline.model, revision=pipeline.revision or REVISION)
        return Parkable(self.adapters[pipeline.name], version, 1000, None, None, 1, 1, tunable=True, guards=self.guards)

    def versions(self, batch_id: str) -> list[Any]:
        query = select(ModelVersion.__table__).join(Result, Result.model_version_id == ModelVersion.id)
        with self.database.read() as connection:
            return list(connection.execute(query.where(Result.batch_id == batch_id)))

    def close(self) -> None:
        end_switcher(self.switcher, self.wakeup_signal)
        assert self.expects_crash or self.crashes == []


class Parkable(Runtime):
    """A runtime without a model to move."""

    can_offload = True

    shared_sizes: ClassVar[dict[int, int]] = {}

    def offload(self, *, keeps_shared: bool = False) -> None: ...

    def restore(self) -> None: ...


@pytest.fixture
def start_process(database_url: str) -> Iterator[Callable[..., SwitchingProcess]]:
    """Makes processes, and ends them."""
    database = Database(database_url)
    processes: list[SwitchingProcess] = []

    def make(**settings: Any) -> SwitchingProcess:
        processes.append(SwitchingProcess(database, **settings))
        return processes[-1]

    yield make
    for process in processes:
        process.close()
    database.close()


def submit(process: SwitchingProcess, name: str, jobs: int = 10, **columns: Any) -> str:
    return insert_batch(process.database, jobs, pipeline=name, model=f"made/{name}", revision=None, **columns)


def load_failures(process: SwitchingProcess) -> list[Any]:
    with process.database.read() as connection:
        return list(connection.execute(select(LoadFailure.__table__)))


def workers(process: SwitchingProcess) -> list[Any]:
    with process.database.read() as connection:
        return list(connection.execute(select(Worker.__table__)))


def until_ended(process: SwitchingProcess, *batch_ids: str) -> None:
    wait_until(
        lambda: all(get_batch(process.database, each).status != "in_progress" for each in batch_ids),
        "the batches to end",
    )


def test_every_pipeline_s_backlog_is_worked_through_with_its_own_model(
    start_process: Callable[..., SwitchingProcess],
) -> None:
    process = start_process()
    ids = {name: submit(process, name) for name in NAMES}

    process.switcher.start()
    until_ended(process, *ids.values())

    for name, batch_id in ids.items():
        assert_consistent(process.database, batch_id)
        assert get_batch(process.database, batch_id).model == f"made/{name}"
        assert set(process.adapters[name].computed) == {(batch_id, index) for index in range(10)}
    assert sorted(process.loads) == sorted(NAMES)


def test_the_first_with_work_is_pinned_first(start_process: Callable[..., SwitchingProcess]) -> None:
    process = start_process()
    until = submit(process, "third")

    process.switcher.start()
    until_ended(process, until)

    assert process.loads == ["third"]


def test_what_was_pinned_before_is_not_loaded_again(start_process: Callable[..., SwitchingProcess]) -> None:
    process = start_process()
    process.switcher.start()
    for name in ("first", "second", "first", "second"):
        until_ended(process, submit(process, name))

    assert process.loads == ["first", "second"]


def test_without_a_cache_it_is(start_process: Callable[..., SwitchingProcess]) -> None:
    process = start_process(model_cache_gb=0)
    process.switcher.start()
    for name in ("first", "second", "first"):
        until_ended(process, submit(process, name))

    assert process.loads == ["first", "second", "first"]


def test_nobody_starves_behind_a_long_backlog_and_no_attempt_is_lost(
    start_process: Callable[..., SwitchingProcess],
) -> None:
    process = start_process(switch_after_seconds=0.1)
    gate = ForwardGate(process.adapters["first"])
    long = submit(process, "first", jobs=400)
    process.switcher.start()
    gate.wait()
    first = process.switcher._active
    assert first is not None
    small = submit(process, "second")
    wait_until(first.engine._stopping.is_set, "the first to be told to stop in the middle of its backlog")
    process.switcher._switch_policy._switch_after_seconds = 3600.0  # a slow machine would stop the second as well
    gate.open()

    until_ended(process, small, long)

    finished = {
        name: get_batch(process.database, batch_id).completed_at for name, batch_id in (("a", small), ("b", long))
    }
    assert finished["a"] < finished["b"]
    assert_consistent(process.database, long)
    assert {row.attempts for row in get_results(process.database, long)} == {1}


def test_slices_that_are_claimed_during_the_look_for_work_keep_their_pipeline_loaded(
    start_process: Callable[..., SwitchingProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start_process()
    process.switcher.run_once(time.monotonic())
    held_leases, lease = process.switcher._context.held_leases, Lease(1, "batch", 0, 4, 1, 1)

    def find_work_of_another(_now: float) -> set[LoadTarget]:
        held_leases.add([lease], ())
        return {LoadTarget("second")}

    monkeypatch.setattr(process.switcher, "_claimable_targets", find_work_of_another)

    assert not process.switcher.run_once(time.monotonic())
    assert process.loads == ["first"]
    held_leases.discard([lease])


def test_the_versions_of_guards_are_recorded(start_process: Callable[..., SwitchingProcess]) -> None:
    process = start_process()
    version = replace(MODEL_VERSION, model="made/checker", revision="e" * 40)
    process.guards = {"checker": Parkable(FakeAdapter(), version, 1000, None, None, 1, 1)}

    process.switcher.start()
    until_ended(process, batch_id := submit(process, "first"))

    with process.database.read() as connection:
        recorded = connection.execute(select(ModelVersion.model, ModelVersion.revision)).all()
    assert set(recorded) == {("made/first", REVISION), ("made/checker", "e" * 40)}
    assert {row.model for row in process.versions(batch_id)} == {"made/first"}


TROUBLES = [Unreachable("the Hub does not answer"), OSError(errno.EMFILE, "Too many open files"), Panic("of a library")]
TROUBLES.append(SystemExit(3))
TROUBLES.append(LoadFailed("guard injection (checker): made/checker has no config.json"))


@pytest.mark.parametrize("error", TROUBLES, ids=lambda error: type(error).__name__)
def test_one_that_cannot_be_loaded_waits_and_the_others_are_served(
    start_process: Callable[..., SwitchingProcess], error: BaseException
) -> None:
    process = start_process()
    process.broken["second"] = error
    bad, good = submit(process, "second"), submit(process, "third")

    process.switcher.start()
    until_ended(process, good)
    until_ended(process, submit(process, "first"))
    wait_until(lambda: process.loads.count("second") > 1, "another try")

    assert get_batch(process.database, bad).status == "in_progress"
    [failure] = load_failures(process)
    assert failure.pipeline == "second"
    assert failure.error_code in ("load_failed", "unreachable")
    del process.broken["second"]
    until_ended(process, bad)
    assert_consistent(process.database, bad)
    assert load_failures(process) == []


def test_the_loaded_one_stays_if_a_check_shows_that_the_next_can_not_be_loaded(
    start_process: Callable[..., SwitchingProcess],
) -> None:
    process = start_process(model_cache_gb=0)
    process.problems["second"] = LoadFailed("it needs a CUDA device")
    process.switcher.start()
    until_ended(process, submit(process, "first"))

    bad = submit(process, "second")
    wait_until(lambda: bool(load_failures(process)), "the failure")
    until_ended(process, submit(process, "first"))

    assert process.loads == ["first"]
    with process.database.read() as connection:
        assert connection.execute(select(Worker.state, Worker.pipeline)).all() == [("ready", "first")]
    del process.problems["second"]
    until_ended(process, bad)
    assert process.loads == ["first", "second"]
    assert load_failures(process) == []


def test_a_load_that_loses_the_device_ends_the_process(start_process: Callable[..., SwitchingProcess]) -> None:
    process = start_process()
    process.expects_crash = True
    error = LoadFailed("its device does not work")
    error.__cause__ = RuntimeError("CUDA error: device-side assert triggered")
    process.broken["second"] = error
    bad = submit(process, "second")

    process.switcher.start()
    wait_until(lambda: bool(process.crashes), "the end of the process")

    assert get_batch(process.database, bad).status == "in_progress"
    assert [failure.pipeline for failure in load_failures(process)] == ["second"]


def test_content_that_is_unusable_fails_its_batches_and_the_others_are_served(
    start_process: Callable[..., SwitchingProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failing, "FAILURE_GRACE_SECONDS", 0.0)
    process = start_process()
    process.broken["second"] = ModelError("made/second is broken")
    bad, good = submit(process, "second"), submit(process, "third")

    process.switcher.start()
    until_ended(process, bad, good)

    assert (get_batch(process.database, bad).status, get_batch(process.database, good).status) == (
        "failed",
        "completed",
    )
    assert "made/second is broken" in get_batch(process.database, bad).error_message
    until_ended(process, submit(process, "first"))


def test_when_none_can_be_loaded_it_stays_and_tries_again(start_process: Callable[..., SwitchingProcess]) -> None:
    process = start_process()
    process.broken |= dict.fromkeys(NAMES, LoadFailed("no device"))
    process.switcher.start()
    wait_until(lambda: set(process.loads) == set(NAMES), "a try of each")

    process.broken.clear()
    until_ended(process, submit(process, "third"))


def test_a_process_is_seen_in_each_of_its_states(start_process: Callable[..., SwitchingProcess]) -> None:
    process = start_process()
    process.broken |= dict.fromkeys(NAMES, LoadFailed("no device"))
    process.switcher.start()
    wait_until(lambda: [row.state for row in workers(process)] == ["idle"], "a worker with nothing loaded")

    process.broken.clear()
    wait_until(lambda: [row.state for row in workers(process)] == ["ready"], "a worker that is ready")


def test_a_stop_does_not_wait_for_a_load(start_process: Callable[..., SwitchingProcess]) -> None:
    process = start_process()
    process.slow = threading.Event()
    process.switcher.start()
    wait_until(lambda: process.loads == ["first"], "the load to begin")
    assert [row.state for row in workers(process)] == ["loading"]

    process.switcher.stop()
    process.switcher.join()

    assert process.switcher._active is None
    process.slow.set()


def test_a_pipeline_over_which_a_process_before_ended_comes_last(
    start_process: Callable[..., SwitchingProcess],
) -> None:
    process = start_process()
    index = failing.LoadLocation("worker-1#1", "host", "cpu")
    failing.record(process.database, index, "first", "made/first", LoadFailed("it ended"), 3600.0)
    waiting = submit(process, "first")

    process.switcher.start()
    until_ended(process, submit(process, "second"))

    assert "first" not in process.loads
    assert get_batch(process.database, waiting).status == "in_progress"


def test_a_batch_that_began_with_another_commit_is_computed_with_it(
    start_process: Callable[..., SwitchingProcess],
) -> None:
    process = start_process()
    older = insert_batch(process.database, 4, pipeline="second", model="made/second", revision="f" * 40)
    process.switcher.start()
    until_ended(process, submit(process, "second"), older)

    until_ended(process, younger := submit(process, "second"))

    assert {row.revision for row in process.versions(older)} == {"f" * 40}
    assert {row.revision for row in process.versions(younger)} == {REVISION}


def test_a_batch_of_a_folder_s_other_content_does_not_pin_again_and_again(
    start_process: Callable[..., SwitchingProcess],
) -> None:
    process = start_process(folders=True)
    foreign = insert_batch(process.database, 4, pipeline="second", model="/made/second", revision="sha256:ff")
    process.switcher.start()
    until_ended(process, submit(process, "first"))
    wait_until(lambda: "second" in process.loads, "a look at the foreign revision")

    until_ended(process, submit(process, "first"))

    assert process.loads.count("second") == 1
    assert get_batch(process.database, foreign).status == "in_progress"


def test_the_budget_that_was_found_is_where_the_next_process_begins(
    start_process: Callable[..., SwitchingProcess],
) -> None:
    first = start_process()
    first.switcher.start()
    wait_until(lambda: first.switcher._active, "the first pipeline to be loaded")
    assert first.switcher._active is not None
    assert first.switcher._active.loaded.token_budget.tokens == 1000
    first.switcher._active.loaded.token_budget.tokens = 4096
    first.close()

    second = start_process()
    second.switcher.start()
    wait_until(lambda: second.switcher._active, "the first pipeline to be loaded")

    assert second.switcher._active is not None
    assert second.switcher._active.loaded.token_budget.tokens == 4096


def test_metrics_name_the_folder_of_a_model_without_its_path(start_process: Callable[..., SwitchingProcess]) -> None:
    shown: list[str] = []

    class Recorder(MetricsRecorder):
        def record_load(self, pipeline: str, model: str, revision: str, dtype: str, device: str) -> None:
            shown.append(model)

    for folders in (True, False):
        process = start_process(folders=folders)
        process.switcher._context = replace(process.switcher._context, metrics=Recorder())
        process.switcher.run_once(time.monotonic())

    assert shown == ["first", "made/first"]
