"""Schedules from planning to table, on both databases, by a clock that is handed in."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.errors import NotFound, UsageError
from models.lifecycle import retention
from models.pipelines.catalogue import Catalogue
from models.states import BatchStatus, RunState
from producer.schedules import config_sync, registry, status
from producer.schedules.runs import manual_runs
from producer.times import TimeRange
from tests.factories.schedules import CREATED_AT, PIPELINE, ScheduleHarness, utc
from tests.fake_worker import end_batch
from tests.threads import run_concurrently


@pytest.fixture
def harness(database_url: str, tmp_path: Path) -> Iterator[ScheduleHarness]:
    created = ScheduleHarness(database_url, tmp_path)
    yield created
    created.close()


class TestRun:
    def test_takes_in_what_is_new_and_ends_marked(self, harness: ScheduleHarness) -> None:
        harness.create_schedule()
        harness.tickets.insert_ticket(utc("03-01 21:00"))
        harness.tickets.insert_ticket(utc("03-02 01:59"))
        harness.tickets.insert_ticket(utc("03-02 02:00"))  # belongs to the next run

        assert not harness.tick(utc("03-02 01:59"))
        assert harness.tick(utc("03-02 02:00"))
        harness.answer_jobs()
        harness.tick(utc("03-02 02:05"))

        [run] = harness.runs()
        assert (run.state, run.scheduled_at, run.until) == (RunState.COMPLETED, utc("03-02 02:00"), utc("03-02 02:00"))
        assert harness.input_ids(run) == ["1", "2"]
        assert run.summary is not None
        assert (run.summary["total"], run.summary["computed"], run.summary["failed"]) == (2, 2, 0)
        assert registry.get(harness.database, "nightly").watermark == utc("03-02 02:00")
        harness.assert_consistent()

    def test_goes_on_where_the_last_one_stopped(self, harness: ScheduleHarness) -> None:
        harness.create_schedule()
        for day in range(2, 7):
            harness.tickets.insert_ticket(utc(f"03-0{day} 01:00"))
            harness.tickets.insert_ticket(utc(f"03-0{day} 02:00"))
            harness.run_schedule(utc(f"03-0{day} 02:00"))

        assert [harness.input_ids(run) for run in harness.runs()] == [
            ["1"],
            ["2", "3"],
            ["4", "5"],
            ["6", "7"],
            ["8", "9"],
        ]

    def test_without_news_is_a_run_without_rows(self, harness: ScheduleHarness) -> None:
        harness.create_schedule()
        harness.tick(utc("03-02 02:00"))

        [run] = harness.runs()
        assert run.state is RunState.COMPLETED
        assert run.summary is not None
        assert run.summary["total"] == 0
        harness.assert_consistent()

    def test_that_failed_is_made_up_for_by_the_next(self, harness: ScheduleHarness) -> None:
        harness.create_schedule(max_failures="0")
        harness.tickets.insert_ticket(utc("03-01 21:00"))
        harness.tick(utc("03-02 02:00"))
        end_batch(harness.database, harness.runs()[0].batch_id or "", BatchStatus.FAILED)
        harness.tick(utc("03-02 02:05"))
        assert harness.run_states() == ["failed"]
        harness.tickets.insert_ticket(utc("03-02 21:00"))

        harness.run_schedule(utc("03-03 02:00"))

        assert harness.run_states() == ["failed", "completed"]
        assert harness.input_ids(harness.runs()[1]) == ["1", "2"]
        assert harness.event_kinds() == ["failed", "recovered"]

    def test_whose_batch_is_cancelled_or_deleted_has_failed(self, harness: ScheduleHarness) -> None:
        harness.create_schedule()
        harness.tickets.insert_ticket(utc("03-01 21:00"))
        harness.tick(utc("03-02 02:00"))
        harness.execute("DELETE FROM batches")
        harness.tick(utc("03-02 02:01"))

        assert harness.runs()[0].error_code == "batch_deleted"


class TestAScheduledTime:
    def test_has_one_run_whoever_comes(self, harness: ScheduleHarness) -> None:
        """Eight tickers at the same moment, each with connections of its own."""
        harness.create_schedule()
        harness.tickets.insert_ticket(utc("03-01 21:00"))

        run_concurrently(*[lambda: harness.tick(utc("03-02 02:00"))] * 8)

        assert harness.run_states() == ["running"]
        assert [row.total for row in harness.query("SELECT total FROM batches")] == [1]

    def test_by_a_clock_that_was_put_back_comes_no_second_time(self, harness: ScheduleHarness) -> None:
        harness.create_schedule()
        harness.tick(utc("03-02 02:00"))
        harness.tick(utc("03-01 23:00"))
        harness.tick(utc("03-02 02:00"))

        assert harness.run_states() == ["completed"]

    def test_is_in_sql_together_with_its_batch(self, harness: ScheduleHarness, monkeypatch: pytest.MonkeyPatch) -> None:
        harness.create_schedule()
        monkeypatch.setattr("producer.schedules.runs.planning.failpoint", _dies("during_planning"))
        with pytest.raises(SystemExit):
            harness.tick(utc("03-02 02:00"))

        assert harness.run_states() == []
        assert harness.query("SELECT id FROM batches") == []

    def test_that_its_pipeline_takes_no_more_has_failed_and_keeps_no_other_waiting(
        self, harness: ScheduleHarness
    ) -> None:
        harness.create_schedule("a", params={"top_k": 1})
        harness.create_schedule("b")
        harness.catalogue = Catalogue({PIPELINE: harness.catalogue["sample-ner"].model_copy(update={"name": PIPELINE})})
        harness.tick(utc("03-02 02:00"))

        assert harness.run_states("a") == ["failed"]
        assert "top_k" in (harness.runs("a")[0].error_message or "")
        assert len(harness.run_states("b")) == 1
        assert not harness.tick(utc("03-02 02:01"))


class TestTrouble:
    """One schedule's keeps no other from its turn, however many have it."""

    MANY = 5

    def test_with_what_a_schedule_says(self, harness: ScheduleHarness) -> None:
        for number in range(self.MANY):
            harness.create_schedule(f"broken-{number:02}")
        harness.create_schedule()
        harness.execute("UPDATE schedules SET definition = '{}' WHERE name <> 'nightly'")
        harness.tick(utc("03-02 02:00"))

        assert harness.run_states() == ["completed"]

    def test_with_runs_that_cannot_go_on(self, harness: ScheduleHarness, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("producer.schedules.runs.run_views.PAGE_SIZE", self.MANY - 1)
        for number in range(self.MANY):
            harness.create_schedule(f"broken-{number:02}")
        harness.create_schedule()
        monkeypatch.setattr("producer.schedules.runs.read_source.failpoint", _dies("before_read_source"))
        with pytest.raises(SystemExit):
            harness.tick(utc("03-02 02:00"))
        assert harness.run_states() == ["waiting"]
        monkeypatch.undo()
        harness.execute("UPDATE runs SET definition = '{}' WHERE schedule <> 'nightly'")
        harness.tick(utc("03-02 02:01"))

        assert harness.run_states() == ["completed"]


class TestMissedRuns:
    def test_latest_runs_the_last_one_over_all_that_came(self, harness: ScheduleHarness) -> None:
        harness.create_schedule(catchup="latest")
        for day in (1, 2, 3):
            harness.tickets.insert_ticket(utc(f"03-0{day} 21:00"))
        harness.run_schedule(utc("03-04 09:00"))

        assert harness.run_states() == ["missed", "missed", "completed"]
        assert harness.input_ids(harness.runs()[-1]) == ["1", "2", "3"]
        assert "missed" in harness.event_kinds()

    def test_all_runs_each_one_after_the_other(self, harness: ScheduleHarness) -> None:
        harness.create_schedule(catchup="all", catchup_window="7d")
        for day in (1, 2, 3):
            harness.tickets.insert_ticket(utc(f"03-0{day} 21:00"))
        harness.tick(utc("03-04 09:00"))
        assert harness.run_states() == ["running", "waiting", "waiting"]
        for minute in range(3):
            harness.answer_jobs()
            harness.tick(utc(f"03-04 09:0{minute + 1}"))

        assert harness.run_states() == ["completed"] * 3
        assert [harness.input_ids(run) for run in harness.runs()] == [["1"], ["2"], ["3"]]

    def test_none_runs_nothing_late(self, harness: ScheduleHarness) -> None:
        harness.create_schedule(catchup="none")
        harness.tick(utc("03-04 09:00"))

        assert harness.run_states() == ["missed"] * 3

    def test_older_than_the_window_are_missed(self, harness: ScheduleHarness) -> None:
        harness.create_schedule(catchup="all", catchup_window="24h")
        harness.tick(utc("03-04 09:00"))

        assert harness.run_states() == ["missed", "missed", "completed"]


class TestOverlap:
    def test_skip_leaves_a_run_out_while_one_is_at_it(self, harness: ScheduleHarness) -> None:
        harness.create_schedule(overlap="skip")
        harness.tickets.insert_ticket(utc("03-01 21:00"))
        harness.tick(utc("03-02 02:00"))
        harness.tick(utc("03-03 02:00"))
        assert harness.run_states() == ["running", "skipped"]
        harness.answer_jobs()
        harness.tick(utc("03-03 02:10"))
        harness.tick(utc("03-04 02:00"))

        assert harness.run_states() == ["completed", "skipped", "completed"]
        assert harness.event_kinds() == ["skipped"]

    def test_queue_runs_it_afterwards(self, harness: ScheduleHarness) -> None:
        harness.create_schedule(overlap="queue")
        harness.tickets.insert_ticket(utc("03-01 21:00"))
        harness.tickets.insert_ticket(utc("03-02 21:00"))
        harness.tick(utc("03-02 02:00"))
        harness.tick(utc("03-03 02:00"))
        assert harness.run_states() == ["running", "waiting"]
        harness.answer_jobs()
        harness.tick(utc("03-03 02:10"))
        assert harness.run_states() == ["completed", "running"]

        assert [harness.input_ids(run) for run in harness.runs()] == [["1"], ["2"]]

    def test_allow_runs_it_beside(self, harness: ScheduleHarness, tmp_path: Path) -> None:
        for day in (2, 3):
            (tmp_path / f"2026-03-0{day}.jsonl").write_text('{"id": "a", "body": "x"}\n')
        _settled(tmp_path)
        harness.create_schedule(overlap="allow", file=str(tmp_path / "{time:%Y-%m-%d}.jsonl"))
        harness.tick(utc("03-02 02:00"))
        harness.tick(utc("03-03 02:00"))

        assert harness.run_states() == ["running", "running"]

    def test_allow_is_refused_where_rows_would_be_taken_twice(self, harness: ScheduleHarness) -> None:
        with pytest.raises(UsageError, match="overlap"):
            harness.create_schedule(overlap="allow")


class TestDeadlines:
    def test_expire_the_batch_and_fail_the_run(self, harness: ScheduleHarness) -> None:
        harness.create_schedule(deadline="4h")
        harness.tickets.insert_ticket(utc("03-01 21:00"))
        harness.tick(utc("03-02 02:00"))
        [remaining] = harness.query(
            f"SELECT expires_at > {harness.database.sql.now_plus_seconds} AS enough FROM batches", seconds=4 * 3600 - 60
        )
        assert remaining.enough  # by the database's clock, whatever the schedule's says

        end_batch(harness.database, harness.runs()[0].batch_id or "", BatchStatus.EXPIRED)
        harness.tick(utc("03-02 06:01"))
        assert harness.runs()[0].error_code == "deadline_exceeded"
        assert harness.event_kinds() == ["failed"]

    def test_that_will_be_missed_are_told_of_before(self, harness: ScheduleHarness) -> None:
        harness.create_schedule(deadline="06:00")
        harness.tickets.insert_ticket(utc("03-01 21:00"))
        harness.tick(utc("03-02 02:00"))
        assert harness.runs()[0].deadline_at == utc("03-02 06:00")

        harness.tick(utc("03-02 04:30"))  # more than half of the time, and no worker has begun
        harness.tick(utc("03-02 06:30"))

        assert harness.event_kinds() == ["late", "overdue"]

    def test_that_passed_before_a_run_was_caught_up_do_not_expire_it(self, harness: ScheduleHarness) -> None:
        harness.create_schedule(deadline="06:00")
        harness.tickets.insert_ticket(utc("03-01 21:00"))
        harness.run_schedule(utc("03-02 09:00"))

        assert harness.run_states() == ["completed"]
        assert harness.event_kinds() == ["overdue"]


class TestByHand:
    def test_trigger_runs_at_once_and_moves_the_watermark(self, harness: ScheduleHarness) -> None:
        harness.create_schedule()
        harness.tickets.insert_ticket(utc("03-01 19:00"))
        run = manual_runs.trigger(harness.database, harness.catalogue, "nightly", CREATED_AT)
        harness.run_schedule(CREATED_AT)
        assert harness.runs()[0].batch_id == run.batch_id
        harness.tickets.insert_ticket(utc("03-01 23:00"))
        harness.run_schedule(utc("03-02 02:00"))

        assert [harness.input_ids(run) for run in harness.runs()] == [["1"], ["2"]]
        with pytest.raises(UsageError, match="very second"):
            manual_runs.trigger(harness.database, harness.catalogue, "nightly", CREATED_AT)

    def test_backfill_runs_what_never_completed_over_its_own_span(self, harness: ScheduleHarness) -> None:
        harness.create_schedule(catchup="none")
        for day in (1, 2, 3):
            harness.tickets.insert_ticket(utc(f"03-0{day} 21:00"))
        harness.run_schedule(utc("03-04 02:00"))
        assert harness.run_states() == ["missed", "missed", "completed"]

        span = TimeRange(utc("03-02 00:00"), utc("03-04 02:01"))
        result = manual_runs.backfill(harness.database, harness.catalogue, "nightly", span, utc("03-04 12:00"))
        assert [run.scheduled_at for run in result.started] == [utc("03-02 02:00"), utc("03-03 02:00")]
        assert result.skipped == [utc("03-04 02:00")]
        for minute in range(3):
            harness.tick(utc(f"03-04 12:0{minute}"))
            harness.answer_jobs()
        harness.tick(utc("03-04 12:09"))

        assert harness.run_states() == ["completed"] * 3
        assert [harness.input_ids(run) for run in harness.runs()[:2]] == [["1"], ["2"]]
        assert registry.get(harness.database, "nightly").watermark == utc("03-04 02:00")

    @pytest.mark.parametrize("days", [("03",), ("02", "03")], ids=["the last one", "both"])
    def test_the_next_run_does_not_read_again_what_a_backfill_read(
        self, harness: ScheduleHarness, days: tuple[str, ...]
    ) -> None:
        harness.create_schedule(max_failures="0")
        for day in (2, 3):
            harness.tickets.insert_ticket(utc(f"03-0{day - 1} 21:00"))
            harness.tick(utc(f"03-0{day} 02:00"))
            harness.answer_jobs(failures_per_claim=1)
            harness.tick(utc(f"03-0{day} 02:05"))
        assert harness.run_states() == ["failed", "failed"]

        for day in days:
            harness.backfill(f"03-{day} 02:00", now=utc("03-03 12:00"))
            harness.tick(utc("03-03 12:00"))
            harness.answer_jobs()
            harness.tick(utc("03-03 12:05"))
        harness.tickets.insert_ticket(utc("03-03 21:00"))
        harness.run_schedule(utc("03-04 02:00"))

        completed = [run for run in harness.runs() if run.state is RunState.COMPLETED]
        read = [input_id for run in completed for input_id in harness.input_ids(run)]
        assert read == ["1", "2", "3"], "each row once, in any choice of runs to repeat"

    def test_a_gap_before_a_backfilled_run_is_read_by_the_next_one(self, harness: ScheduleHarness) -> None:
        harness.create_schedule(catchup="none")
        for day in (1, 2, 3):
            harness.tickets.insert_ticket(utc(f"03-0{day} 21:00"))
        harness.tick(utc("03-03 12:00"))
        assert harness.run_states() == ["missed", "missed"]

        harness.backfill("03-03 02:00", now=utc("03-03 12:00"))
        harness.run_schedule(utc("03-03 12:00"))
        assert registry.get(harness.database, "nightly").watermark is None
        harness.run_schedule(utc("03-04 02:00"))

        assert [harness.input_ids(run) for run in harness.runs()[1:]] == [["2"], ["1", "2", "3"]]

    def test_backfill_again_replaces_what_completed_over_what_it_took_in_then(self, harness: ScheduleHarness) -> None:
        """Also where that was more than its own run, since the one before was missed."""
        harness.create_schedule(into="labels", max_failures="0")
        harness.tickets.insert_ticket(utc("03-01 21:00"))
        harness.tickets.insert_ticket(utc("03-02 21:00"))
        harness.run_schedule(utc("03-03 02:00"), {"label": "WRONG", "score": 0.9})
        harness.tickets.insert_ticket(utc("03-03 21:00"))
        harness.run_schedule(utc("03-04 02:00"), {"label": "WRONG", "score": 0.9})
        previous = harness.runs()

        started = harness.backfill("03-03 02:00", now=utc("03-04 12:00"), include_completed=True)
        assert started == [utc("03-03 02:00")]
        harness.tick(utc("03-04 12:00"))
        harness.answer_jobs({"label": "RIGHT", "score": 0.9})
        harness.tick(utc("03-04 12:01"))

        again = harness.runs()[1]
        assert (again.state, again.since, again.until) == (RunState.COMPLETED, previous[1].since, previous[1].until)
        assert again.batch_id != previous[1].batch_id
        assert harness.input_ids(again) == ["1", "2"]
        labels = [tuple(row) for row in harness.query("SELECT id, label FROM labels ORDER BY id")]
        assert labels == [(1, "RIGHT"), (2, "RIGHT"), (3, "WRONG")]
        assert registry.get(harness.database, "nightly").watermark == utc("03-04 02:00")
        harness.assert_consistent()

    def test_suspended_it_rests_and_does_not_catch_up(self, harness: ScheduleHarness) -> None:
        harness.create_schedule(catchup="all", catchup_window="30d")
        registry.suspend(harness.database, "nightly", CREATED_AT)
        assert not harness.tick(utc("03-05 02:00"))
        assert registry.resume(harness.database, "nightly", utc("03-05 02:00")) == utc("03-06 02:00")
        harness.tick(utc("03-06 02:00"))

        assert [run.scheduled_at for run in harness.runs()] == [utc("03-06 02:00")]

    def test_resumed_while_it_is_active_it_keeps_the_times_that_are_due(self, harness: ScheduleHarness) -> None:
        harness.create_schedule(catchup="all", catchup_window="30d")
        assert registry.resume(harness.database, "nightly", utc("03-05 02:00")) == utc("03-02 02:00")
        harness.tick(utc("03-03 02:00"))

        assert [run.scheduled_at for run in harness.runs()] == [utc("03-02 02:00"), utc("03-03 02:00")]

    def test_suspended_twice_it_is_so_since_the_first_time(self, harness: ScheduleHarness) -> None:
        harness.create_schedule()
        for hour in (21, 22):
            registry.suspend(harness.database, "nightly", utc(f"03-01 {hour}:00"))

        assert registry.get(harness.database, "nightly").suspended_at == utc("03-01 21:00")

    def test_suspended_it_is_no_longer_failed(self, harness: ScheduleHarness) -> None:
        harness.create_schedule()
        harness.tick(utc("03-02 02:00"))
        harness.execute("UPDATE runs SET state = 'failed', next_check_at = NULL")
        [failed] = status.list_statuses(harness.database, utc("03-02 03:00"))
        registry.suspend(harness.database, "nightly", utc("03-02 03:00"))
        [suspended] = status.list_statuses(harness.database, utc("03-02 03:00"))

        assert (failed.state, failed.needs_attention) == ("failed", True)
        assert (suspended.state, suspended.needs_attention) == ("suspended", False)

    def test_deleted_it_leaves_batches_and_no_unread_one(self, harness: ScheduleHarness) -> None:
        harness.create_schedule(overlap="queue")
        harness.tickets.insert_ticket(utc("03-01 21:00"))
        harness.tick(utc("03-02 02:00"))
        harness.tick(utc("03-03 02:00"))
        registry.delete(harness.database, "nightly", utc("03-03 03:00"))

        statuses = sorted(row.status for row in harness.query("SELECT status FROM batches"))
        assert statuses == ["cancelled", "in_progress"]
        with pytest.raises(NotFound):
            registry.get(harness.database, "nightly")


def test_the_output_table_joins_its_source_by_id(harness: ScheduleHarness) -> None:
    harness.create_schedule(into="labels", into_source="tickets")
    harness.tickets.insert_ticket(utc("03-01 21:00"))
    harness.run_schedule(utc("03-02 02:00"))

    assert harness.tickets.query("SELECT t.id, l.label FROM tickets t JOIN labels l ON l.id = t.id") == [
        (1, "NEGATIVE")
    ]
    assert harness.tickets.query("SELECT typeof(id) FROM labels") == [("integer",)]


class TestDeclared:
    def test_sync_makes_changes_and_deletes(self, harness: ScheduleHarness) -> None:
        item = harness.create_schedule("one")
        config = {name: item.model_copy(update={"name": name}) for name in ("one", "two")}

        plan = config_sync.sync(harness.database, config, CREATED_AT)
        assert (plan.changed, plan.created) == (("one",), ("two",))
        assert not config_sync.sync(harness.database, config, CREATED_AT)

        for prune, names in ((False, ["one", "two"]), (True, ["two"])):
            plan = config_sync.sync(harness.database, {"two": config["two"]}, CREATED_AT, prune=prune)
            assert plan.undeclared == ("one",)
            assert [view.name for view in registry.list_schedules(harness.database)] == names
        assert not config_sync.sync(harness.database, {"two": config["two"]}, CREATED_AT, prune=True)

    def test_one_that_comes_back_takes_up_its_watermark_and_history(self, harness: ScheduleHarness) -> None:
        definition = harness.create_schedule()
        harness.tickets.insert_ticket(utc("03-01 21:00"))
        harness.run_schedule(utc("03-02 02:00"))
        config_sync.sync(harness.database, {}, CREATED_AT)
        config_sync.sync(harness.database, {"nightly": definition}, CREATED_AT)
        config_sync.sync(harness.database, {}, utc("03-02 03:00"), prune=True)
        harness.tickets.insert_ticket(utc("03-02 21:00"))
        harness.tick(utc("03-03 02:00"))
        assert len(harness.runs()) == 1, "a deleted schedule does not run"

        plan = config_sync.sync(harness.database, {"nightly": definition}, utc("03-03 12:00"))
        harness.run_schedule(utc("03-04 02:00"))

        assert plan.restored == ("nightly",)
        assert [harness.input_ids(run) for run in harness.runs()] == [["1"], ["2"]]
        assert registry.get(harness.database, "nightly").watermark == utc("03-04 02:00")

    def test_several_syncs_at_once_come_to_the_same(self, harness: ScheduleHarness) -> None:
        item = harness.create_schedule("old")
        config_sync.sync(harness.database, {"old": item}, CREATED_AT)
        config = {name: item.model_copy(update={"name": name}) for name in ("one", "two")}

        run_concurrently(*[lambda: config_sync.sync(harness.database, config, CREATED_AT, prune=True)] * 4)

        assert [view.name for view in registry.list_schedules(harness.database)] == ["one", "two"]
        assert not config_sync.sync(harness.database, config, CREATED_AT)

    def test_an_unreadable_definition_can_be_replaced_and_declared_again(self, harness: ScheduleHarness) -> None:
        definition = harness.create_schedule()
        spoil = 'UPDATE schedules SET definition = \'{"of": "an earlier version"}\''
        now = utc("03-02 03:00")

        harness.execute(spoil)
        with pytest.raises(UsageError, match="batchmill schedule delete nightly"):
            registry.list_schedules(harness.database)
        assert config_sync.sync(harness.database, {"nightly": definition}, now).changed == ("nightly",)
        harness.execute(spoil)
        registry.delete(harness.database, "nightly", now)
        assert config_sync.sync(harness.database, {"nightly": definition}, now).restored == ("nightly",)
        assert registry.get(harness.database, "nightly").definition == definition

    def test_one_that_was_purged_starts_over(self, harness: ScheduleHarness) -> None:
        harness.create_schedule()
        harness.run_schedule(utc("03-02 02:00"))
        registry.delete(harness.database, "nightly", utc("03-02 03:00"))
        registry.delete(harness.database, "nightly", utc("03-02 03:00"), purge=True)
        with pytest.raises(NotFound):
            registry.delete(harness.database, "nightly", utc("03-02 03:00"), purge=True)

        harness.create_schedule(now=utc("03-02 12:00"))

        assert harness.runs() == []
        assert registry.get(harness.database, "nightly").watermark is None

    def test_a_run_that_was_open_ends_though_its_schedule_was_deleted(self, harness: ScheduleHarness) -> None:
        harness.create_schedule(into="labels")
        harness.tickets.insert_ticket(utc("03-01 21:00"))
        harness.tick(utc("03-02 02:00"))
        registry.delete(harness.database, "nightly", utc("03-02 03:00"))
        retention.delete_old_runs(harness.database, 0.0)
        assert harness.run_states() == ["running"], "an open run is not purged"

        harness.answer_jobs()
        harness.tick(utc("03-02 02:05"))

        assert harness.run_states() == ["completed"]
        assert harness.query("SELECT count(*) AS rows FROM labels")[0].rows == 1
        retention.delete_old_runs(harness.database, 0.0)
        assert harness.runs() == []

    def test_new_times_begin_now(self, harness: ScheduleHarness) -> None:
        item = harness.create_schedule("one", catchup="all", catchup_window="30d")
        changed = item.model_copy(update={"cron": "0 3 * * *"})
        registry.create(harness.database, changed, utc("03-05 12:00"), replace=True)

        assert registry.get(harness.database, "one").next_run_at == utc("03-06 03:00")
        with pytest.raises(UsageError, match="--replace"):
            registry.create(harness.database, item, CREATED_AT)


class TestSources:
    def test_that_are_late_are_waited_for(self, harness: ScheduleHarness, tmp_path: Path) -> None:
        harness.create_schedule(file=str(tmp_path / "{time:%Y-%m-%d}.jsonl"), source_timeout="1h")
        harness.tick(utc("03-02 02:00"))
        assert harness.run_states() == ["waiting"]
        assert harness.event_kinds() == ["waiting"]
        (tmp_path / "2026-03-02.jsonl").write_text('{"id": "a", "body": "x"}\n')
        _settled(tmp_path)

        harness.run_schedule(utc("03-02 02:30"))

        assert harness.run_states() == ["completed"]

    def test_that_never_come_fail_the_run(self, harness: ScheduleHarness, tmp_path: Path) -> None:
        harness.create_schedule(file=str(tmp_path / "{time:%Y-%m-%d}.jsonl"), source_timeout="1h")
        harness.tick(utc("03-02 02:00"))
        harness.tick(utc("03-02 03:01"))

        [run] = harness.runs()
        assert (run.state, run.error_code) == (RunState.FAILED, "source_not_ready")
        assert harness.event_kinds() == ["waiting", "failed"]
        harness.assert_consistent()

    def test_whose_query_is_wrong_fail_at_once(self, harness: ScheduleHarness) -> None:
        harness.tickets.execute("ALTER TABLE tickets RENAME COLUMN body TO words")
        harness.create_schedule()
        harness.tick(utc("03-02 02:00"))

        [run] = harness.runs()
        assert run.state is RunState.FAILED
        assert "body" in (run.error_message or "")

    def test_read_half_way_by_one_that_died_are_read_anew(
        self, harness: ScheduleHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What the dead one got in must be gone, and rows that changed in between are as they are now."""
        harness.create_schedule()
        for number in range(5):
            harness.tickets.insert_ticket(utc("03-01 21:00"), f"first {number}")
        monkeypatch.setattr("producer.submission.accept.accept_batch", _dies("accepting"))
        with pytest.raises(SystemExit):
            harness.tick(utc("03-02 02:00"))
        assert len(harness.query("SELECT position FROM jobs")) == 5
        monkeypatch.undo()
        harness.tickets.execute("DELETE FROM tickets WHERE id = 2")
        harness.tickets.execute("UPDATE tickets SET body = 'second'")

        harness.run_schedule(utc("03-02 02:01"))

        [run] = harness.runs()
        assert harness.input_ids(run) == ["1", "3", "4", "5"]
        assert {str(row.input) for row in harness.query("SELECT CAST(input AS text) AS input FROM jobs")} in (
            {'{"text": "second"}'},
            {'{"text":"second"}'},
        )
        harness.assert_consistent()


class TestTheTable:
    def test_has_the_newest_label_of_each_id(self, harness: ScheduleHarness) -> None:
        harness.create_schedule(into="ticket_labels")
        harness.tickets.insert_ticket(utc("03-01 21:00"))
        harness.run_schedule(utc("03-02 02:00"))
        harness.tickets.execute("UPDATE tickets SET created_at = '2026-03-02 21:00:00', body = 'thanks'")
        harness.run_schedule(utc("03-03 02:00"), {"label": "POSITIVE", "score": 0.8})

        [row] = harness.query("SELECT id, text, label, score FROM ticket_labels")
        assert tuple(row) == (1, "thanks", "POSITIVE", 0.8)

    def test_is_not_touched_by_a_run_that_failed(self, harness: ScheduleHarness) -> None:
        harness.create_schedule(into="ticket_labels", max_failures="0")
        harness.tickets.insert_ticket(utc("03-01 21:00"))
        harness.run_schedule(utc("03-02 02:00"))
        harness.tickets.execute("UPDATE tickets SET created_at = '2026-03-02 21:00:00'")
        harness.tick(utc("03-03 02:00"))
        end_batch(harness.database, harness.runs()[1].batch_id or "", BatchStatus.FAILED)
        harness.tick(utc("03-03 02:05"))

        assert harness.run_states() == ["completed", "failed"]
        assert [row.batch_id for row in harness.query("SELECT batch_id FROM ticket_labels")] == [
            harness.runs()[0].batch_id
        ]

    def test_may_be_in_the_source(self, harness: ScheduleHarness) -> None:
        harness.create_schedule(into="ticket_labels", into_source="tickets")
        harness.tickets.insert_ticket(utc("03-01 21:00"))
        harness.run_schedule(utc("03-02 02:00"))

        assert harness.tickets.query("SELECT id, label FROM ticket_labels") == [(1, "NEGATIVE")]
        assert harness.run_states() == ["completed"]

    @pytest.mark.parametrize("point", ["before_finish_run", "before_commit_run"])
    @pytest.mark.parametrize("elsewhere", [False, True])
    def test_and_the_mark_survive_a_death_at(
        self, harness: ScheduleHarness, monkeypatch: pytest.MonkeyPatch, point: str, elsewhere: bool
    ) -> None:
        harness.create_schedule(into="ticket_labels", into_source="tickets" if elsewhere else None)
        harness.tickets.insert_ticket(utc("03-01 21:00"))
        harness.tick(utc("03-02 02:00"))
        harness.answer_jobs()
        monkeypatch.setattr("producer.schedules.runs.finish.failpoint", _dies(point))
        with pytest.raises(SystemExit):
            harness.tick(utc("03-02 02:05"))
        assert harness.run_states() == ["running"]
        monkeypatch.undo()
        harness.tick(utc("03-02 02:06"))

        assert harness.run_states() == ["completed"]
        result = (
            harness.tickets.query("SELECT id FROM ticket_labels")
            if elsewhere
            else harness.query("SELECT id FROM ticket_labels")
        )
        assert [row[0] for row in result] == [1]


def _dies(point: str) -> object:
    def failpoint(*passed: object, **_: object) -> None:
        if point == "accepting" or passed == (point,):
            raise SystemExit(point)  # to the code the process ends here

    return failpoint


def _settled(folder: Path) -> None:
    """Files were written a while ago."""
    for file in folder.glob("*.jsonl"):
        os.utime(file, (1_700_000_000, 1_700_000_000))


class TestRetention:
    def test_takes_old_runs_and_their_events_but_the_newest_of_each_schedule(
        self, harness: ScheduleHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The harness are of March, by a clock that is handed in, and so long ago by the database's."""
        monkeypatch.setattr(retention, "MIN_KEPT_RUNS", 2)
        harness.create_schedule()
        harness.create_schedule("resting", cron="0 3 * * *")
        for day in range(2, 6):
            harness.run_schedule(utc(f"03-0{day} 03:00"))
        harness.execute(
            "INSERT INTO events (schedule, scheduled_at, kind, message, occurred_at) "
            "SELECT schedule, scheduled_at, 'late', '', scheduled_at FROM runs"
        )

        assert retention.delete_old_runs(harness.database, 3600.0) == 4

        assert [run.scheduled_at for run in harness.runs()] == [utc("03-04 02:00"), utc("03-05 02:00")]
        assert len(harness.runs("resting")) == 2
        assert len(harness.event_kinds()) == 4
        assert retention.delete_old_runs(harness.database, 3600.0) == 0

    def test_takes_no_batch_of_a_run_that_is_not_marked_yet(self, harness: ScheduleHarness) -> None:
        harness.create_schedule()
        harness.tickets.insert_ticket(utc("03-01 21:00"))
        harness.tick(utc("03-02 02:00"))
        harness.answer_jobs()
        assert list(retention.old_batches(harness.database, -3600.0)) == []
        harness.tick(utc("03-02 02:05"))

        assert [batch.id for batch in retention.old_batches(harness.database, -3600.0)] == [harness.runs()[0].batch_id]
