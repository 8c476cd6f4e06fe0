"""A tick that is killed at each of its steps: the next one, another process, makes the night whole, and only once."""

import signal
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
def nights(database_url: str, tmp_path: Path) -> Iterator[ScheduleHarness]:
    made = ScheduleHarness(database_url, tmp_path)
    for _ in range(TICKETS):
        made.tickets.insert_ticket(utc("03-01 21:00"))
    yield made
    made.close()


def die(nights: ScheduleHarness, point: str) -> None:
    """A tick that dies there."""
    assert nights.start_tick_process(LATER, f"{point}:kill").wait(60) == -signal.SIGKILL


def check(nights: ScheduleHarness, table: list[int]) -> None:
    """One run, completed, over all tickets, each once; `table` is what the night's table has."""
    [run] = nights.runs()
    ids = list(range(1, TICKETS + 1))
    assert (run.state, run.scheduled_at, run.error_code) == (RunState.COMPLETED, SCHEDULED_AT, None)
    assert nights.input_ids(run) == [str(number) for number in ids]
    assert sorted(table) == ids, "integers, as in the source"
    assert run.summary is not None
    assert (run.summary["total"], run.summary["computed"], run.summary["failed"]) == (TICKETS, TICKETS, 0)
    assert [row.id for row in nights.query("SELECT id FROM batches")] == [run.batch_id]
    assert registry.get(nights.database, "nightly").watermark == SCHEDULED_AT
    assert nights.query("SELECT holder_id FROM runs WHERE holder_id IS NOT NULL OR next_check_at IS NOT NULL") == []
    nights.assert_consistent()


@pytest.mark.parametrize("point", READING)
def test_on_the_way_in(nights: ScheduleHarness, point: str) -> None:
    nights.create_schedule(into="ticket_labels")
    die(nights, point)

    nights.tick(LATER)
    nights.answer_jobs()
    nights.tick(LATER)

    check(nights, [row.id for row in nights.query("SELECT id FROM ticket_labels")])


@pytest.mark.parametrize("elsewhere", [False, True], ids=["ours", "theirs"])
@pytest.mark.parametrize("point", FINISHING)
def test_on_the_way_out(nights: ScheduleHarness, point: str, elsewhere: bool) -> None:
    nights.create_schedule(into="ticket_labels", into_source="tickets" if elsewhere else None)
    nights.tick(LATER)
    nights.answer_jobs()
    die(nights, point)
    [run] = nights.runs()
    assert (run.state is RunState.COMPLETED) == (point == "after_commit_run")

    nights.tick(LATER)

    if elsewhere:
        check(nights, [row[0] for row in nights.tickets.query("SELECT id FROM ticket_labels")])
        assert nights.tickets.query("SELECT schedule, batch_id FROM batchmill_merged_runs") == [
            ("nightly", run.batch_id)
        ]
    else:
        check(nights, [row.id for row in nights.query("SELECT id FROM ticket_labels")])
