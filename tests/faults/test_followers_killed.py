"""A chain of three schedules and a tick that is killed at a step: each has one run, and no row is lost or doubled."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from models.states import RunState
from tests.factories.schedules import ScheduleHarness, utc

# From the end of the run that is followed to the follower's rows.
FOLLOWING = (
    "before_finish_run",
    "before_commit_run",
    "after_commit_run",
    "during_opening",
    "after_opening",
    "before_read_source",
    "after_read_source",
)
TICKETS = 30
NIGHT, LATER = utc("03-02 02:00"), utc("03-02 02:05")
CHAIN = ("nightly", "second", "third")


@pytest.fixture
def harness(database_url: str, tmp_path: Path) -> Iterator[ScheduleHarness]:
    created = ScheduleHarness(database_url, tmp_path)
    for _ in range(TICKETS):
        created.tickets.insert_ticket(utc("03-01 21:00"))
    created.create_schedule(into="first_labels")
    created.create_schedule("second", after="nightly", into="second_labels")
    created.create_schedule("third", after="second")
    yield created
    created.close()


@pytest.mark.parametrize("point", FOLLOWING)
def test_each_link_of_a_chain_is_run_once_over_all_rows(harness: ScheduleHarness, point: str) -> None:
    harness.tick(NIGHT)
    harness.answer_jobs()
    harness.kill_tick(LATER, point)
    harness.tick(LATER)
    for _ in CHAIN[1:]:
        harness.answer_jobs()
        harness.tick(LATER)

    runs = [run for name in CHAIN for run in harness.runs(name)]
    assert [(run.schedule, run.state, run.scheduled_at) for run in runs] == [
        (name, RunState.COMPLETED, NIGHT) for name in CHAIN
    ]
    assert [run.source_batch_id for run in runs] == [None, runs[0].batch_id, runs[1].batch_id]
    ids = [str(number + 1) for number in range(TICKETS)]
    assert [harness.input_ids(run) for run in runs] == [ids] * 3
    assert {row.id for row in harness.query("SELECT id FROM batches")} == {run.batch_id for run in runs}
    assert sorted(row.id for row in harness.query("SELECT id FROM second_labels")) == list(range(1, TICKETS + 1))
    links = "SELECT source_batch_id, source_position, position FROM job_results WHERE batch_id = :id ORDER BY position"
    for run in runs[1:]:
        rows = harness.query(links, id=run.batch_id)
        assert [tuple(row) for row in rows] == [(run.source_batch_id, place, place) for place in range(TICKETS)]
    assert harness.query("SELECT 1 FROM runs WHERE holder_id IS NOT NULL OR next_check_at IS NOT NULL") == []
    harness.assert_consistent()
