"""A tick that is killed at each of its steps: the next one, another process, makes the night whole, and only once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from models.states import RunState
from producer.schedules import registry
from tests.factories.schedules import ScheduleHarness, utc

READING = ("during_planning", "after_planning", "before_read_source", "after_read_source")
FINISHING = ("before_finish_run", "before_commit_run", "after_commit_run")
TICKETS = 30
SCHEDULED_AT, LATER = utc("03-02 02:00"), utc("03-02 02:05")


@pytest.fixture
def harness(database_url: str, tmp_path: Path) -> Iterator[ScheduleHarness]:
    made = ScheduleHarness(database_url, tmp_path)
    for _ in range(TICKETS):
        made.tickets.insert_ticket(utc("03-01 21:00"))
    yield made
    made.close()


def die(harness: ScheduleHarness, point: str) -> None:
    """A tick that dies there."""
    harness.kill_tick(LATER, point)


def check(harness: ScheduleHarness, table: list[int]) -> None:
    """One run, completed, over all tickets, each once; `table` is what the night's table has."""
    [run] = harness.runs()
    ids = list(range(1, TICKETS + 1))
    assert (run.state, run.scheduled_at, run.error_code) == (RunState.COMPLETED, SCHEDULED_AT, None)
    assert harness.input_ids(run) == [str(number) for number in ids]
    assert sorted(table) == ids, "integers, as in the source"
    assert run.summary is not None
    assert (run.summary["total"], run.summary["computed"], run.summary["failed"]) == (TICKETS, TICKETS, 0)
    assert [row.id for row in harness.query("SELECT id FROM batches")] == [run.batch_id]
    assert registry.get(harness.database, "nightly").watermark == SCHEDULED_AT
    assert harness.query("SELECT holder_id FROM runs WHERE holder_id IS NOT NULL OR next_check_at IS NOT NULL") == []
    harness.assert_consistent()


@pytest.mark.parametrize("point", READING)
def test_on_the_way_in(harness: ScheduleHarness, point: str) -> None:
    harness.create_schedule(into="ticket_labels")
    die(harness, point)

    harness.tick(LATER)
    harness.answer_jobs()
    harness.tick(LATER)

    check(harness, [row.id for row in harness.query("SELECT id FROM ticket_labels")])


@pytest.mark.parametrize("elsewhere", [False, True], ids=["same database", "other database"])
@pytest.mark.parametrize("point", FINISHING)
def test_on_the_way_out(harness: ScheduleHarness, point: str, elsewhere: bool) -> None:
    harness.create_schedule(into="ticket_labels", into_source="tickets" if elsewhere else None)
    harness.tick(LATER)
    harness.answer_jobs()
    die(harness, point)
    [run] = harness.runs()
    assert (run.state is RunState.COMPLETED) == (point == "after_commit_run")

    harness.tick(LATER)

    if elsewhere:
        check(harness, [row[0] for row in harness.tickets.query("SELECT id FROM ticket_labels")])
        assert harness.tickets.query("SELECT schedule, batch_id FROM batchmill_merged_runs") == [
            ("nightly", run.batch_id)
        ]
    else:
        check(harness, [row.id for row in harness.query("SELECT id FROM ticket_labels")])
