"""Several pipelines in one process: one is pinned at a time, all backlogs are worked through, nobody starves."""

import errno
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from models.db import Database
from models.errors import LoadFailed, ModelError, Unreachable
from models.pipelines.pipeline import Pipeline
from models.settings import Settings
from models.tables import LoadFailure, ModelVersion, Result, Worker
from tests.factories.batch_rows import (
    LEASE_SECONDS,
    MODEL_VERSION,
    REVISION,
    assert_consistent,
    get_batch,
    get_results,
    insert_batch,
)
from tests.fakes import FakeAdapter, ForwardGate
from tests.servers import wait_until
from worker.engine.wakeup import WakeupSignal
from worker.leasing import load_backoff
from worker.leasing import load_failures as failing
from worker.leasing.leases import HeldLeases
from worker.loading.runtime import Runtime
from worker.process.heartbeat import Heartbeat
from worker.process.pipeline_switcher import PipelineSwitcher, WorkerContext

NAMES = ("first", "second", "third")


class Panic(BaseException):
    """What libraries written in Rust raise: no Exception."""


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loads that failed are tried again soon."""
    monkeypatch.setattr(load_backoff, "INITIAL_SECONDS", 0.2)
    monkeypatch.setattr(load_backoff, "MAX_SECONDS", 0.4)
    monkeypatch.setattr(load_backoff, "PAUSE_TO_LOAD_RATIO", 0)


class Works:
    """A process with made models; `loads` tells in which order they were loaded."""

    def __init__(self, database: Database, *, folders: bool = False, **settings: Any) -> None:
        self.database = database
        self.adapters = {name: FakeAdapter() for name in NAMES}
        self.broken: dict[str, BaseException] = {}
        self.slow: threading.Event | None = None  # loads take until it is set
        self.loads: list[str] = []
        self.defects: list[str] = []
        in_force = Settings.load(poll_interval_seconds=0.05, slice_size=4, lease_seconds=LEASE_SECONDS, **settings)
        holdings = HeldLeases()
        heartbeat = Heartbeat(database, holdings, NAMES, lease_seconds=LEASE_SECONDS, heartbeat_seconds=5.0)
        self.doorbell = WakeupSignal()
        process = WorkerContext(
            "worker-1#2",
            in_force,
            database,
            self.doorbell,
            holdings,
            heartbeat,
            lambda: self.defects.append("defect"),
            lambda: self.defects.append("hung"),
        )
        models = {name: f"/made/{name}" if folders else f"made/{name}" for name in NAMES}
        entries = {name: Pipeline(name=name, task="sentiment-analysis", model=models[name]) for name in NAMES}
        self.pinning = PipelineSwitcher(process, entries, self.load)

    def load(self, pipeline: Pipeline) -> Runtime:
        self.loads.append(pipeline.name)
        if self.slow is not None:
            self.slow.wait(60)
        if pipeline.name in self.broken:
            raise self.broken[pipeline.name]
        version = replace(MODEL_VERSION, model=pipeline.model, revision=pipeline.revision or REVISION)
        return Parkable(self.adapters[pipeline.name], version, 1000, None, None, 1, 1, tunable=True)

    def versions(self, batch_id: str) -> list[Any]:
        query = select(ModelVersion.__table__).join(Result, Result.model_version_id == ModelVersion.id)
        with self.database.read() as connection:
            return list(connection.execute(query.where(Result.batch_id == batch_id)))

    def close(self) -> None:
        self.pinning.stop()
        self.doorbell.close()
        self.pinning.join()
        assert self.defects == []


class Parkable(Runtime):
    """A runtime without a model to move."""

    can_offload = True

    def offload(self) -> None: ...

    def restore(self) -> None: ...


@pytest.fixture
def works(database_url: str) -> Iterator[Callable[..., Works]]:
    """Makes processes, and ends them."""
    database = Database(database_url)
    made: list[Works] = []

    def make(**settings: Any) -> Works:
        made.append(Works(database, **settings))
        return made[-1]

    yield make
    for each in made:
        each.close()
    database.close()


def submit(ours: Works, name: str, jobs: int = 10, **columns: Any) -> str:
    return insert_batch(ours.database, jobs, pipeline=name, model=f"made/{name}", revision=None, **columns)


def load_failures(ours: Works) -> list[Any]:
    with ours.database.read() as connection:
        return list(connection.execute(select(LoadFailure.__table__)))


def workers(ours: Works) -> list[Any]:
    with ours.database.read() as connection:
        return list(connection.execute(select(Worker.__table__)))


def until_ended(ours: Works, *batch_ids: str) -> None:
    wait_until(
        lambda: all(get_batch(ours.database, each).status != "in_progress" for each in batch_ids), "the batches to end"
    )


def test_every_pipeline_s_backlog_is_worked_through_with_its_own_model(works: Callable[..., Works]) -> None:
    ours = works()
    ids = {name: submit(ours, name) for name in NAMES}

    ours.pinning.start()
    until_ended(ours, *ids.values())

    for name, batch_id in ids.items():
        assert_consistent(ours.database, batch_id)
        assert get_batch(ours.database, batch_id).model == f"made/{name}"
        assert set(ours.adapters[name].computed) == {(batch_id, place) for place in range(10)}
    assert sorted(ours.loads) == sorted(NAMES)


def test_the_first_with_work_is_pinned_first(works: Callable[..., Works]) -> None:
    ours = works()
    until = submit(ours, "third")

    ours.pinning.start()
    until_ended(ours, until)

    assert ours.loads == ["third"]


def test_what_was_pinned_before_is_not_loaded_again(works: Callable[..., Works]) -> None:
    ours = works()
    ours.pinning.start()
    for name in ("first", "second", "first", "second"):
        until_ended(ours, submit(ours, name))

    assert ours.loads == ["first", "second"]


def test_without_a_cache_it_is(works: Callable[..., Works]) -> None:
    ours = works(model_cache_gb=0)
    ours.pinning.start()
    for name in ("first", "second", "first"):
        until_ended(ours, submit(ours, name))

    assert ours.loads == ["first", "second", "first"]


def test_nobody_starves_behind_a_long_backlog_and_no_attempt_is_lost(works: Callable[..., Works]) -> None:
    ours = works(switch_after_seconds=0.1)
    gate = ForwardGate(ours.adapters["first"])
    long = submit(ours, "first", jobs=400)
    ours.pinning.start()
    gate.wait()
    first = ours.pinning._active
    assert first is not None
    small = submit(ours, "second")
    wait_until(first.engine._stopping.is_set, "the first to be told to stop in the middle of its backlog")
    gate.open()

    until_ended(ours, small, long)

    finished = {name: get_batch(ours.database, batch_id).completed_at for name, batch_id in (("a", small), ("b", long))}
    assert finished["a"] < finished["b"]
    assert_consistent(ours.database, long)
    assert {row.attempts for row in get_results(ours.database, long)} == {1}


TROUBLES = [Unreachable("the Hub does not answer"), OSError(errno.EMFILE, "Too many open files"), Panic("of a library")]


@pytest.mark.parametrize("error", TROUBLES, ids=lambda error: type(error).__name__)
def test_one_that_cannot_be_loaded_waits_and_the_others_are_served(
    works: Callable[..., Works], error: BaseException
) -> None:
    ours = works()
    ours.broken["second"] = error
    bad, good = submit(ours, "second"), submit(ours, "third")

    ours.pinning.start()
    until_ended(ours, good)
    until_ended(ours, submit(ours, "first"))
    wait_until(lambda: ours.loads.count("second") > 1, "another try")

    assert get_batch(ours.database, bad).status == "in_progress"
    [failure] = load_failures(ours)
    assert failure.pipeline == "second"
    assert failure.error_code in ("load_failed", "unreachable")
    del ours.broken["second"]
    until_ended(ours, bad)
    assert_consistent(ours.database, bad)
    assert load_failures(ours) == []


def test_content_that_is_unusable_fails_its_batches_and_the_others_are_served(
    works: Callable[..., Works], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failing, "FAILURE_GRACE_SECONDS", 0.0)
    ours = works()
    ours.broken["second"] = ModelError("made/second is broken")
    bad, good = submit(ours, "second"), submit(ours, "third")

    ours.pinning.start()
    until_ended(ours, bad, good)

    assert (get_batch(ours.database, bad).status, get_batch(ours.database, good).status) == ("failed", "completed")
    assert "made/second is broken" in get_batch(ours.database, bad).error_message
    until_ended(ours, submit(ours, "first"))


def test_when_none_can_be_loaded_it_stays_and_tries_again(works: Callable[..., Works]) -> None:
    ours = works()
    ours.broken |= dict.fromkeys(NAMES, LoadFailed("no device"))
    ours.pinning.start()
    wait_until(lambda: set(ours.loads) == set(NAMES), "a try of each")

    ours.broken.clear()
    until_ended(ours, submit(ours, "third"))


def test_a_process_is_seen_in_each_of_its_states(works: Callable[..., Works]) -> None:
    ours = works()
    ours.broken |= dict.fromkeys(NAMES, LoadFailed("no device"))
    ours.pinning.start()
    wait_until(lambda: [row.state for row in workers(ours)] == ["idle"], "a worker with nothing loaded")

    ours.broken.clear()
    wait_until(lambda: [row.state for row in workers(ours)] == ["ready"], "a worker that is ready")


def test_a_stop_does_not_wait_for_a_load(works: Callable[..., Works]) -> None:
    ours = works()
    ours.slow = threading.Event()
    ours.pinning.start()
    wait_until(lambda: ours.loads == ["first"], "the load to begin")
    assert [row.state for row in workers(ours)] == ["loading"]

    ours.pinning.stop()
    ours.pinning.join()

    assert ours.pinning._active is None
    ours.slow.set()


def test_a_pipeline_over_which_a_process_before_ended_comes_last(works: Callable[..., Works]) -> None:
    ours = works()
    place = failing.LoadLocation("worker-1#1", "host", "cpu")
    failing.record(ours.database, place, "first", "made/first", LoadFailed("it ended"), 60.0)
    waiting = submit(ours, "first")

    ours.pinning.start()
    until_ended(ours, submit(ours, "second"))

    assert "first" not in ours.loads
    assert get_batch(ours.database, waiting).status == "in_progress"


def test_a_batch_that_began_with_another_commit_is_computed_with_it(works: Callable[..., Works]) -> None:
    ours = works()
    older = insert_batch(ours.database, 4, pipeline="second", model="made/second", revision="f" * 40)
    ours.pinning.start()
    until_ended(ours, submit(ours, "second"), older)

    until_ended(ours, younger := submit(ours, "second"))

    assert {row.revision for row in ours.versions(older)} == {"f" * 40}
    assert {row.revision for row in ours.versions(younger)} == {REVISION}


def test_a_batch_of_a_folder_s_other_content_does_not_pin_again_and_again(works: Callable[..., Works]) -> None:
    ours = works(folders=True)
    foreign = insert_batch(ours.database, 4, pipeline="second", model="/made/second", revision="sha256:ff")
    ours.pinning.start()
    until_ended(ours, submit(ours, "first"))
    wait_until(lambda: "second" in ours.loads, "a look at the foreign revision")

    until_ended(ours, submit(ours, "first"))

    assert ours.loads.count("second") == 1
    assert get_batch(ours.database, foreign).status == "in_progress"


def test_the_budget_that_was_found_is_where_the_next_process_begins(works: Callable[..., Works]) -> None:
    first = works()
    first.pinning.start()
    wait_until(lambda: first.pinning._active, "the first pipeline to be loaded")
    assert first.pinning._active is not None
    assert first.pinning._active.token_budget.tokens == 1000
    first.pinning._active.token_budget.tokens = 4096
    first.close()

    second = works()
    second.pinning.start()
    wait_until(lambda: second.pinning._active, "the first pipeline to be loaded")

    assert second.pinning._active is not None
    assert second.pinning._active.token_budget.tokens == 4096
