"""A night of re-embedding that is killed at each of its steps: others finish it, and the table is as without a kill."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models import vectors
from models.states import RunState
from tests.factories.batch_rows import expire_leases
from tests.factories.schedules import ScheduleHarness, utc
from worker.leasing import reclaim
from worker.leasing.claiming import claims
from worker.leasing.leases import Claimant

OLD, NEW = "1" * 40, "2" * 40
READING = ("before_read_source", "after_read_source")
FINISHING = ("before_finish_run", "before_commit_run", "after_commit_run")
FIRST, SECOND, LATER = utc("03-02 02:00"), utc("03-03 02:00"), utc("03-03 02:05")
SELECT_TABLE = "SELECT id, text, embedding, revision, scheduled_at FROM embedded ORDER BY id"
TICKETS, NEW_TICKETS = 30, 5


def embed(first: float) -> Any:
    return lambda job_input: vectors.from_numbers([first, len(job_input["text"]), 0.5])


@pytest.fixture
def harness(database_url: str, tmp_path: Path) -> Iterator[ScheduleHarness]:
    """A table of the old model, and tickets that are new since."""
    made = ScheduleHarness(database_url, tmp_path)
    made.settings = made.settings.model_copy(update={"slice_size": 8})
    made.use_pipeline(OLD)
    yield made
    made.close()


def play_first_night(harness: ScheduleHarness, **schedule: Any) -> None:
    harness.create_schedule(into="embedded", **schedule)
    for number in range(TICKETS):
        harness.tickets.insert_ticket(utc("03-01 21:00"), "x" * (number + 1))
    harness.run_schedule(FIRST, embed(1))
    for number in range(NEW_TICKETS):
        harness.tickets.insert_ticket(utc("03-02 21:00"), "y" * (number + 1))
    harness.use_pipeline(NEW)


def die(harness: ScheduleHarness, point: str) -> None:
    """A tick that dies there."""
    harness.kill_tick(SECOND, point)


def table(harness: ScheduleHarness) -> list[Any]:
    in_source = harness.runs()[0].definition.get("into_source") is not None
    rows = harness.tickets.query(SELECT_TABLE) if in_source else harness.query(SELECT_TABLE)
    return [
        (key, text, vectors.to_numbers(vector) if isinstance(vector, bytes) else list(vector), revision)
        for key, text, vector, revision, _ in rows
    ]


def check_old(harness: ScheduleHarness) -> None:
    assert {row[3] for row in table(harness)} == {OLD}
    assert len(table(harness)) == TICKETS


def check_new(harness: ScheduleHarness) -> None:
    """Every row is of the new model, and the run has embedded each once."""
    texts = [letter * (number + 1) for letter, count in (("x", TICKETS), ("y", NEW_TICKETS)) for number in range(count)]
    expected = [(key, text, [2.0, float(len(text)), 0.5], NEW) for key, text in enumerate(texts, start=1)]
    run = harness.runs()[-1]
    assert table(harness) == expected
    assert run.state is RunState.COMPLETED
    assert run.summary is not None
    assert (run.summary["total"], run.summary["computed"]) == (len(texts), len(texts))
    harness.assert_consistent()


@pytest.mark.parametrize("point", READING)
def test_while_the_table_is_read(harness: ScheduleHarness, point: str) -> None:
    play_first_night(harness)
    die(harness, point)
    check_old(harness)

    harness.tick(LATER)
    harness.answer_jobs(embed(2))
    check_old(harness)
    harness.tick(LATER)

    check_new(harness)


@pytest.mark.parametrize(
    ("point", "elsewhere"), [*((point, False) for point in FINISHING), ("before_commit_run", True)]
)
def test_while_the_table_is_written(harness: ScheduleHarness, point: str, elsewhere: bool) -> None:
    play_first_night(harness, into_source="tickets" if elsewhere else None)
    harness.tick(SECOND)
    harness.answer_jobs(embed(2))
    die(harness, point)
    if point != "after_commit_run" and not elsewhere:
        check_old(harness)

    harness.tick(LATER)

    check_new(harness)


def test_while_the_model_runs(harness: ScheduleHarness) -> None:
    play_first_night(harness)
    harness.tick(SECOND)
    pipeline = harness.catalogue[harness.pipeline]
    lost = Claimant("killed", harness.pipeline, pipeline.task, pipeline.model, NEW, lease_seconds=60.0)
    leases = claims.claim(harness.database, lost, 16, harness.settings.slice_size)
    assert leases, "a worker that will not write anything"
    harness.answer_jobs(embed(2))
    harness.tick(SECOND)
    check_old(harness)

    expire_leases(harness.database, *leases)
    reclaim.reclaim_expired(harness.database, max_attempts=5)
    harness.answer_jobs(embed(2))
    harness.tick(LATER)

    check_new(harness)
