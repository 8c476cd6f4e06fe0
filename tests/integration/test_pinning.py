"""Several pipelines in one process: one is pinned at a time, all backlogs are worked through, nobody starves."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from models.db import Database
from models.errors import ModelError
from models.pipeline import Pipeline
from models.settings import Settings
from tests.batches_made import LEASE_SECONDS, REVISION, VERSION, audit, batch, insert_batch, results
from tests.integration.test_engine import Gate, MadeAdapter
from tests.servers import wait_until
from worker.doorbell import Doorbell
from worker.heartbeat import Heartbeat
from worker.holdings import Holdings
from worker.pinning import Pinning, Process
from worker.runtime import Runtime

NAMES = ("first", "second", "third")


class Works:
    """A process with made models; `loads` tells in which order they were loaded."""

    def __init__(self, database: Database, **settings: Any) -> None:
        self.database = database
        self.adapters = {name: MadeAdapter() for name in NAMES}
        self.broken: set[str] = set()
        self.loads: list[str] = []
        self.defects: list[str] = []
        in_force = Settings.load(duty_seconds=0.05, slice_jobs=4, lease_seconds=LEASE_SECONDS, **settings)
        holdings = Holdings()
        heartbeat = Heartbeat(database, holdings, NAMES, lease_seconds=LEASE_SECONDS, beat_seconds=5.0)
        self.doorbell = Doorbell()
        process = Process(
            "worker-1",
            in_force,
            database,
            self.doorbell,
            holdings,
            heartbeat,
            lambda: self.defects.append("defect"),
            lambda: self.defects.append("hung"),
        )
        entries = {name: Pipeline(name=name, task="sentiment-analysis", model=f"made/{name}") for name in NAMES}
        self.pinning = Pinning(process, entries, self.load)

    def load(self, pipeline: Pipeline) -> Runtime:
        self.loads.append(pipeline.name)
        if pipeline.name in self.broken:
            raise ModelError(f"{pipeline.model} is broken")
        version = replace(VERSION, model=pipeline.model)
        return Parkable(self.adapters[pipeline.name], version, 1000, None, None, 1, 1, tunes=True)

    def close(self) -> None:
        self.pinning.stop()
        self.doorbell.close()
        self.pinning.join()
        assert self.defects == []


class Parkable(Runtime):
    """A runtime without a model to move."""

    movable = True

    def park(self) -> None: ...

    def unpark(self) -> None: ...


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


def until_ended(ours: Works, *batch_ids: str) -> None:
    wait_until(
        lambda: all(batch(ours.database, each).status != "in_progress" for each in batch_ids), "the batches to end"
    )


def test_every_pipeline_s_backlog_is_worked_through_with_its_own_model(works: Callable[..., Works]) -> None:
    ours = works()
    ids = {name: submit(ours, name) for name in NAMES}

    ours.pinning.start()
    until_ended(ours, *ids.values())

    for name, batch_id in ids.items():
        audit(ours.database, batch_id)
        assert batch(ours.database, batch_id).model == f"made/{name}"
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
    ours = works(cache_gb=0)
    ours.pinning.start()
    for name in ("first", "second", "first"):
        until_ended(ours, submit(ours, name))

    assert ours.loads == ["first", "second", "first"]


def test_nobody_starves_behind_a_long_backlog_and_no_attempt_is_lost(works: Callable[..., Works]) -> None:
    ours = works(max_wait_seconds=0.1)
    gate = Gate(ours.adapters["first"])
    long = submit(ours, "first", jobs=400)
    ours.pinning.start()
    gate.wait()
    first = ours.pinning._pinned
    assert first is not None
    small = submit(ours, "second")
    wait_until(first.engine._stopping.is_set, "the first to be told to stop in the middle of its backlog")
    gate.open()

    until_ended(ours, small, long)

    finished = {name: batch(ours.database, batch_id).completed_at for name, batch_id in (("a", small), ("b", long))}
    assert finished["a"] < finished["b"]
    audit(ours.database, long)
    assert {row.attempts for row in results(ours.database, long)} == {1}


def test_a_broken_one_fails_its_batches_and_the_others_are_served(works: Callable[..., Works]) -> None:
    ours = works()
    ours.broken.add("second")
    bad, good = submit(ours, "second"), submit(ours, "third")

    ours.pinning.start()
    until_ended(ours, bad, good)

    assert (batch(ours.database, bad).status, batch(ours.database, good).status) == ("failed", "completed")
    assert "made/second is broken" in batch(ours.database, bad).error_message
    later = submit(ours, "first")
    until_ended(ours, later)
    assert batch(ours.database, later).status == "completed"


def test_when_all_are_broken_it_says_so(works: Callable[..., Works]) -> None:
    ours = works()
    ours.broken |= set(NAMES)

    with pytest.raises(ModelError):
        ours.pinning.start()


def test_a_batch_of_another_revision_does_not_pin_again_and_again(works: Callable[..., Works]) -> None:
    ours = works()
    foreign = insert_batch(ours.database, 4, pipeline="second", model="made/second", revision="f" * 40)
    mine = submit(ours, "first")
    ours.pinning.start()
    until_ended(ours, mine)
    wait_until(lambda: "second" in ours.loads, "a look at the foreign revision")

    until_ended(ours, submit(ours, "first"))

    assert ours.loads.count("second") == 1
    assert batch(ours.database, foreign).status == "in_progress"
    assert VERSION.revision == REVISION != "f" * 40


def test_the_budget_that_was_found_is_where_the_next_process_begins(works: Callable[..., Works]) -> None:
    first = works()
    first.pinning.start()
    assert first.pinning._pinned is not None
    assert first.pinning._pinned.budget.tokens == 1000
    first.pinning._pinned.budget.tokens = 4096
    first.close()

    second = works()
    second.pinning.start()

    assert second.pinning._pinned is not None
    assert second.pinning._pinned.budget.tokens == 4096
