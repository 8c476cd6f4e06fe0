"""Schedules from planning to table, on both databases, by a clock that is handed in."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.errors import NotFound, UsageError
from models.lifecycle import retention
from models.pipelines.catalogue import Catalogue
from models.states import BatchStatus, RunState
from producer.schedules import registry
from producer.schedules.runs import manual_runs
from tests.factories.schedules import CREATED_AT, PIPELINE, ScheduleHarness, utc
from tests.fake_worker import end_batch
from tests.threads import run_concurrently


@pytest.fixture
def nights(database_url: str, tmp_path: Path) -> Iterator[ScheduleHarness]:
    made = ScheduleHarness(database_url, tmp_path)
    yield made
    made.close()


class TestANight:
    def test_takes_in_what_is_new_and_ends_marked(self, nights: ScheduleHarness) -> None:
        nights.create_schedule()
        nights.tickets.insert_ticket(utc("03-01 21:00"))
        nights.tickets.insert_ticket(utc("03-02 01:59"))
        nights.tickets.insert_ticket(utc("03-02 02:00"))  # belongs to the next night

        assert not nights.tick(utc("03-02 01:59"))
        assert nights.tick(utc("03-02 02:00"))
        nights.answer_jobs()
        nights.tick(utc("03-02 02:05"))

        [run] = nights.runs()
        assert (run.state, run.scheduled_at, run.until) == (RunState.COMPLETED, utc("03-02 02:00"), utc("03-02 02:00"))
        assert nights.input_ids(run) == ["1", "2"]
        assert run.summary is not None
        assert (run.summary["total"], run.summary["computed"], run.summary["failed"]) == (2, 2, 0)
        assert registry.get(nights.database, "nightly").watermark == utc("03-02 02:00")
        nights.assert_consistent()

    def test_goes_on_where_the_last_one_stopped(self, nights: ScheduleHarness) -> None:
        nights.create_schedule()
        for day in range(2, 7):
            nights.tickets.insert_ticket(utc(f"03-0{day} 01:00"))
            nights.tickets.insert_ticket(utc(f"03-0{day} 02:00"))
            nights.run_schedule(utc(f"03-0{day} 02:00"))

        assert [nights.input_ids(run) for run in nights.runs()] == [
            ["1"],
            ["2", "3"],
            ["4", "5"],
            ["6", "7"],
            ["8", "9"],
        ]

    def test_without_news_is_a_run_without_rows(self, nights: ScheduleHarness) -> None:
        nights.create_schedule()
        nights.tick(utc("03-02 02:00"))

        [run] = nights.runs()
        assert run.state is RunState.COMPLETED
        assert run.summary is not None
        assert run.summary["total"] == 0
        nights.assert_consistent()

    def test_that_failed_is_made_up_for_by_the_next(self, nights: ScheduleHarness) -> None:
        nights.create_schedule(max_failures="0")
        nights.tickets.insert_ticket(utc("03-01 21:00"))
        nights.tick(utc("03-02 02:00"))
        end_batch(nights.database, nights.runs()[0].batch_id or "", BatchStatus.FAILED)
        nights.tick(utc("03-02 02:05"))
        assert nights.run_states() == ["failed"]
        nights.tickets.insert_ticket(utc("03-02 21:00"))

        nights.run_schedule(utc("03-03 02:00"))

        assert nights.run_states() == ["failed", "completed"]
        assert nights.input_ids(nights.runs()[1]) == ["1", "2"]
        assert nights.event_kinds() == ["failed", "recovered"]

    def test_whose_batch_is_cancelled_or_deleted_has_failed(self, nights: ScheduleHarness) -> None:
        nights.create_schedule()
        nights.tickets.insert_ticket(utc("03-01 21:00"))
        nights.tick(utc("03-02 02:00"))
        nights.execute("DELETE FROM batches")
        nights.tick(utc("03-02 02:01"))

        assert nights.runs()[0].error_code == "batch_deleted"


class TestAScheduledTime:
    def test_has_one_run_whoever_comes(self, nights: ScheduleHarness) -> None:
        """Eight tickers at the same moment, each with connections of its own."""
        nights.create_schedule()
        nights.tickets.insert_ticket(utc("03-01 21:00"))

        run_concurrently(*[lambda: nights.tick(utc("03-02 02:00"))] * 8)

        assert nights.run_states() == ["running"]
        assert [row.total for row in nights.query("SELECT total FROM batches")] == [1]

    def test_by_a_clock_that_was_put_back_comes_no_second_time(self, nights: ScheduleHarness) -> None:
        nights.create_schedule()
        nights.tick(utc("03-02 02:00"))
        nights.tick(utc("03-01 23:00"))
        nights.tick(utc("03-02 02:00"))

        assert nights.run_states() == ["completed"]

    def test_is_in_sql_together_with_its_batch(self, nights: ScheduleHarness, monkeypatch: pytest.MonkeyPatch) -> None:
        nights.create_schedule()
        monkeypatch.setattr("producer.schedules.runs.planning.failpoint", _dies("during_planning"))
        with pytest.raises(SystemExit):
            nights.tick(utc("03-02 02:00"))

        assert nights.run_states() == []
        assert nights.query("SELECT id FROM batches") == []

    def test_that_its_pipeline_takes_no_more_has_failed_and_keeps_no_other_waiting(
        self, nights: ScheduleHarness
    ) -> None:
        nights.create_schedule("a", params={"top_k": 1})
        nights.create_schedule("b")
        nights.catalogue = Catalogue({PIPELINE: nights.catalogue["sample-ner"].model_copy(update={"name": PIPELINE})})
        nights.tick(utc("03-02 02:00"))

        assert nights.run_states("a") == ["failed"]
        assert "top_k" in (nights.runs("a")[0].error_message or "")
        assert len(nights.run_states("b")) == 1
        assert not nights.tick(utc("03-02 02:01"))


class TestTrouble:
    """One schedule's keeps no other from its turn, however many have it."""

    MANY = 5

    def test_with_what_a_schedule_says(self, nights: ScheduleHarness) -> None:
        for number in range(self.MANY):
            nights.create_schedule(f"broken-{number:02}")
        nights.create_schedule()
        nights.execute("UPDATE schedules SET definition = '{}' WHERE name <> 'nightly'")
        nights.tick(utc("03-02 02:00"))

        assert nights.run_states() == ["completed"]

    def test_with_runs_that_cannot_go_on(self, nights: ScheduleHarness, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("producer.schedules.runs.run_views.PAGE_SIZE", self.MANY - 1)
        for number in range(self.MANY):
            nights.create_schedule(f"broken-{number:02}")
        nights.create_schedule()
        monkeypatch.setattr("producer.schedules.runs.read_source.failpoint", _dies("before_read_source"))
        with pytest.raises(SystemExit):
            nights.tick(utc("03-02 02:00"))
        assert nights.run_states() == ["waiting"]
        monkeypatch.undo()
        nights.execute("UPDATE runs SET definition = '{}' WHERE schedule <> 'nightly'")
        nights.tick(utc("03-02 02:01"))

        assert nights.run_states() == ["completed"]


class TestMissedRuns:
    def test_latest_runs_the_last_one_over_all_that_came(self, nights: ScheduleHarness) -> None:
        nights.create_schedule(catchup="latest")
        for day in (1, 2, 3):
            nights.tickets.insert_ticket(utc(f"03-0{day} 21:00"))
        nights.run_schedule(utc("03-04 09:00"))

        assert nights.run_states() == ["missed", "missed", "completed"]
        assert nights.input_ids(nights.runs()[-1]) == ["1", "2", "3"]
        assert "missed" in nights.event_kinds()

    def test_all_runs_each_one_after_the_other(self, nights: ScheduleHarness) -> None:
        nights.create_schedule(catchup="all", catchup_window="7d")
        for day in (1, 2, 3):
            nights.tickets.insert_ticket(utc(f"03-0{day} 21:00"))
        nights.tick(utc("03-04 09:00"))
        assert nights.run_states() == ["running", "waiting", "waiting"]
        for minute in range(3):
            nights.answer_jobs()
            nights.tick(utc(f"03-04 09:0{minute + 1}"))

        assert nights.run_states() == ["completed"] * 3
        assert [nights.input_ids(run) for run in nights.runs()] == [["1"], ["2"], ["3"]]

    def test_none_runs_nothing_late(self, nights: ScheduleHarness) -> None:
        nights.create_schedule(catchup="none")
        nights.tick(utc("03-04 09:00"))

        assert nights.run_states() == ["missed"] * 3

    def test_older_than_the_window_are_missed(self, nights: ScheduleHarness) -> None:
        nights.create_schedule(catchup="all", catchup_window="24h")
        nights.tick(utc("03-04 09:00"))

        assert nights.run_states() == ["missed", "missed", "completed"]


class TestOverlap:
    def test_skip_leaves_a_run_out_while_one_is_at_it(self, nights: ScheduleHarness) -> None:
        nights.create_schedule(overlap="skip")
        nights.tickets.insert_ticket(utc("03-01 21:00"))
        nights.tick(utc("03-02 02:00"))
        nights.tick(utc("03-03 02:00"))
        assert nights.run_states() == ["running", "skipped"]
        nights.answer_jobs()
        nights.tick(utc("03-03 02:10"))
        nights.tick(utc("03-04 02:00"))

        assert nights.run_states() == ["completed", "skipped", "completed"]
        assert nights.event_kinds() == ["skipped"]

    def test_queue_runs_it_afterwards(self, nights: ScheduleHarness) -> None:
        nights.create_schedule(overlap="queue")
        nights.tickets.insert_ticket(utc("03-01 21:00"))
        nights.tickets.insert_ticket(utc("03-02 21:00"))
        nights.tick(utc("03-02 02:00"))
        nights.tick(utc("03-03 02:00"))
        assert nights.run_states() == ["running", "waiting"]
        nights.answer_jobs()
        nights.tick(utc("03-03 02:10"))
        assert nights.run_states() == ["completed", "running"]

        assert [nights.input_ids(run) for run in nights.runs()] == [["1"], ["2"]]

    def test_allow_runs_it_beside(self, nights: ScheduleHarness, tmp_path: Path) -> None:
        for day in (2, 3):
            (tmp_path / f"2026-03-0{day}.jsonl").write_text('{"id": "a", "body": "x"}\n')
        _settled(tmp_path)
        nights.create_schedule(overlap="allow", file=str(tmp_path / "{time:%Y-%m-%d}.jsonl"))
        nights.tick(utc("03-02 02:00"))
        nights.tick(utc("03-03 02:00"))

        assert nights.run_states() == ["running", "running"]

    def test_allow_is_refused_where_rows_would_be_taken_twice(self, nights: ScheduleHarness) -> None:
        with pytest.raises(UsageError, match="overlap"):
            nights.create_schedule(overlap="allow")


class TestDeadlines:
    def test_expire_the_batch_and_fail_the_run(self, nights: ScheduleHarness) -> None:
        nights.create_schedule(deadline="4h")
        nights.tickets.insert_ticket(utc("03-01 21:00"))
        nights.tick(utc("03-02 02:00"))
        [left] = nights.query(
            f"SELECT expires_at > {nights.database.sql.now_plus_seconds} AS enough FROM batches", seconds=4 * 3600 - 60
        )
        assert left.enough  # by the database's clock, whatever the schedule's says

        end_batch(nights.database, nights.runs()[0].batch_id or "", BatchStatus.EXPIRED)
        nights.tick(utc("03-02 06:01"))
        assert nights.runs()[0].error_code == "deadline_exceeded"
        assert nights.event_kinds() == ["failed"]

    def test_that_will_be_missed_are_told_of_before(self, nights: ScheduleHarness) -> None:
        nights.create_schedule(deadline="06:00")
        nights.tickets.insert_ticket(utc("03-01 21:00"))
        nights.tick(utc("03-02 02:00"))
        assert nights.runs()[0].deadline_at == utc("03-02 06:00")

        nights.tick(utc("03-02 04:30"))  # more than half of the time, and no worker has begun
        nights.tick(utc("03-02 06:30"))

        assert nights.event_kinds() == ["late", "overdue"]

    def test_that_passed_before_a_night_was_caught_up_do_not_expire_it(self, nights: ScheduleHarness) -> None:
        nights.create_schedule(deadline="06:00")
        nights.tickets.insert_ticket(utc("03-01 21:00"))
        nights.run_schedule(utc("03-02 09:00"))

        assert nights.run_states() == ["completed"]
        assert nights.event_kinds() == ["overdue"]


class TestByHand:
    def test_trigger_runs_at_once_and_moves_the_watermark(self, nights: ScheduleHarness) -> None:
        nights.create_schedule()
        nights.tickets.insert_ticket(utc("03-01 19:00"))
        batch_id = manual_runs.trigger(nights.database, nights.catalogue, "nightly", CREATED_AT)
        nights.run_schedule(CREATED_AT)
        assert nights.runs()[0].batch_id == batch_id
        nights.tickets.insert_ticket(utc("03-01 23:00"))
        nights.run_schedule(utc("03-02 02:00"))

        assert [nights.input_ids(run) for run in nights.runs()] == [["1"], ["2"]]
        with pytest.raises(UsageError, match="very second"):
            manual_runs.trigger(nights.database, nights.catalogue, "nightly", CREATED_AT)

    def test_backfill_runs_what_never_completed_over_its_own_span(self, nights: ScheduleHarness) -> None:
        nights.create_schedule(catchup="none")
        for day in (1, 2, 3):
            nights.tickets.insert_ticket(utc(f"03-0{day} 21:00"))
        nights.run_schedule(utc("03-04 02:00"))
        assert nights.run_states() == ["missed", "missed", "completed"]

        begun, kept = manual_runs.backfill(
            nights.database, nights.catalogue, "nightly", utc("03-02 00:00"), utc("03-04 02:00"), utc("03-04 12:00")
        )
        assert (begun, kept) == ([utc("03-02 02:00"), utc("03-03 02:00")], [utc("03-04 02:00")])
        for minute in range(3):
            nights.tick(utc(f"03-04 12:0{minute}"))
            nights.answer_jobs()
        nights.tick(utc("03-04 12:09"))

        assert nights.run_states() == ["completed"] * 3
        assert [nights.input_ids(run) for run in nights.runs()[:2]] == [["1"], ["2"]]
        assert registry.get(nights.database, "nightly").watermark == utc("03-04 02:00")

    def test_backfill_again_replaces_what_completed_over_what_it_took_in_then(self, nights: ScheduleHarness) -> None:
        """Also where that was more than its own night, since the one before was missed."""
        nights.create_schedule(into="labels", max_failures="0")
        nights.tickets.insert_ticket(utc("03-01 21:00"))
        nights.tickets.insert_ticket(utc("03-02 21:00"))
        nights.run_schedule(utc("03-03 02:00"), {"label": "WRONG", "score": 0.9})
        nights.tickets.insert_ticket(utc("03-03 21:00"))
        nights.run_schedule(utc("03-04 02:00"), {"label": "WRONG", "score": 0.9})
        before = nights.runs()

        begun, kept = manual_runs.backfill(
            nights.database,
            nights.catalogue,
            "nightly",
            utc("03-03 02:00"),
            utc("03-03 02:00"),
            utc("03-04 12:00"),
            include_completed=True,
        )
        assert (begun, kept) == ([utc("03-03 02:00")], [])
        nights.tick(utc("03-04 12:00"))
        nights.answer_jobs({"label": "RIGHT", "score": 0.9})
        nights.tick(utc("03-04 12:01"))

        again = nights.runs()[1]
        assert (again.state, again.since, again.until) == (RunState.COMPLETED, before[1].since, before[1].until)
        assert again.batch_id != before[1].batch_id
        assert nights.input_ids(again) == ["1", "2"]
        labels = [tuple(row) for row in nights.query("SELECT id, label FROM labels ORDER BY id")]
        assert labels == [("1", "RIGHT"), ("2", "RIGHT"), ("3", "WRONG")]
        assert registry.get(nights.database, "nightly").watermark == utc("03-04 02:00")
        nights.assert_consistent()

    def test_suspended_it_rests_and_does_not_catch_up(self, nights: ScheduleHarness) -> None:
        nights.create_schedule(catchup="all", catchup_window="30d")
        registry.suspend(nights.database, "nightly", CREATED_AT)
        assert not nights.tick(utc("03-05 02:00"))
        assert registry.resume(nights.database, "nightly", utc("03-05 02:00")) == utc("03-06 02:00")
        nights.tick(utc("03-06 02:00"))

        assert [run.scheduled_at for run in nights.runs()] == [utc("03-06 02:00")]

    def test_deleted_it_leaves_batches_and_no_unread_one(self, nights: ScheduleHarness) -> None:
        nights.create_schedule(overlap="queue")
        nights.tickets.insert_ticket(utc("03-01 21:00"))
        nights.tick(utc("03-02 02:00"))
        nights.tick(utc("03-03 02:00"))
        registry.delete(nights.database, "nightly")

        statuses = sorted(row.status for row in nights.query("SELECT status FROM batches"))
        assert statuses == ["cancelled", "in_progress"]
        with pytest.raises(NotFound):
            registry.get(nights.database, "nightly")


class TestDeclared:
    def test_sync_makes_changes_and_deletes(self, nights: ScheduleHarness) -> None:
        one = nights.create_schedule("one")
        declared = {name: one.model_copy(update={"name": name}) for name in ("one", "two")}

        assert registry.sync(nights.database, declared, CREATED_AT) == [("changed", "one"), ("created", "two")]
        assert registry.sync(nights.database, declared, CREATED_AT) == []
        assert registry.sync(nights.database, {"two": declared["two"]}, CREATED_AT) == [("deleted", "one")]
        assert [view.name for view in registry.list_schedules(nights.database)] == ["two"]

    def test_new_times_begin_now(self, nights: ScheduleHarness) -> None:
        one = nights.create_schedule("one", catchup="all", catchup_window="30d")
        changed = one.model_copy(update={"cron": "0 3 * * *"})
        registry.create(nights.database, changed, utc("03-05 12:00"), replace=True)

        assert registry.get(nights.database, "one").next_run_at == utc("03-06 03:00")
        with pytest.raises(UsageError, match="--replace"):
            registry.create(nights.database, one, CREATED_AT)


class TestSources:
    def test_that_are_late_are_waited_for(self, nights: ScheduleHarness, tmp_path: Path) -> None:
        nights.create_schedule(file=str(tmp_path / "{time:%Y-%m-%d}.jsonl"), source_timeout="1h")
        nights.tick(utc("03-02 02:00"))
        assert nights.run_states() == ["waiting"]
        assert nights.event_kinds() == ["waiting"]
        (tmp_path / "2026-03-02.jsonl").write_text('{"id": "a", "body": "x"}\n')
        _settled(tmp_path)

        nights.run_schedule(utc("03-02 02:30"))

        assert nights.run_states() == ["completed"]

    def test_that_never_come_fail_the_run(self, nights: ScheduleHarness, tmp_path: Path) -> None:
        nights.create_schedule(file=str(tmp_path / "{time:%Y-%m-%d}.jsonl"), source_timeout="1h")
        nights.tick(utc("03-02 02:00"))
        nights.tick(utc("03-02 03:01"))

        [run] = nights.runs()
        assert (run.state, run.error_code) == (RunState.FAILED, "source_not_ready")
        assert nights.event_kinds() == ["waiting", "failed"]
        nights.assert_consistent()

    def test_whose_query_is_wrong_fail_at_once(self, nights: ScheduleHarness) -> None:
        nights.tickets.execute("ALTER TABLE tickets RENAME COLUMN body TO words")
        nights.create_schedule()
        nights.tick(utc("03-02 02:00"))

        [run] = nights.runs()
        assert run.state is RunState.FAILED
        assert "body" in (run.error_message or "")

    def test_read_half_way_by_one_that_died_are_read_anew(
        self, nights: ScheduleHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What the dead one got in must be gone, and rows that changed in between are as they are now."""
        nights.create_schedule()
        for number in range(5):
            nights.tickets.insert_ticket(utc("03-01 21:00"), f"first {number}")
        monkeypatch.setattr("producer.submission.accept.accept_batch", _dies("accepting"))
        with pytest.raises(SystemExit):
            nights.tick(utc("03-02 02:00"))
        assert len(nights.query("SELECT position FROM jobs")) == 5
        monkeypatch.undo()
        nights.tickets.execute("DELETE FROM tickets WHERE id = 2")
        nights.tickets.execute("UPDATE tickets SET body = 'second'")

        nights.run_schedule(utc("03-02 02:01"))

        [run] = nights.runs()
        assert nights.input_ids(run) == ["1", "3", "4", "5"]
        assert {str(row.input) for row in nights.query("SELECT CAST(input AS text) AS input FROM jobs")} in (
            {'{"text": "second"}'},
            {'{"text":"second"}'},
        )
        nights.assert_consistent()


class TestTheTable:
    def test_has_the_newest_label_of_each_id(self, nights: ScheduleHarness) -> None:
        nights.create_schedule(into="ticket_labels")
        nights.tickets.insert_ticket(utc("03-01 21:00"))
        nights.run_schedule(utc("03-02 02:00"))
        nights.tickets.execute("UPDATE tickets SET created_at = '2026-03-02 21:00:00', body = 'thanks'")
        nights.run_schedule(utc("03-03 02:00"), {"label": "POSITIVE", "score": 0.8})

        [row] = nights.query("SELECT id, text, label, score FROM ticket_labels")
        assert tuple(row) == ("1", "thanks", "POSITIVE", 0.8)

    def test_is_not_touched_by_a_night_that_failed(self, nights: ScheduleHarness) -> None:
        nights.create_schedule(into="ticket_labels", max_failures="0")
        nights.tickets.insert_ticket(utc("03-01 21:00"))
        nights.run_schedule(utc("03-02 02:00"))
        nights.tickets.execute("UPDATE tickets SET created_at = '2026-03-02 21:00:00'")
        nights.tick(utc("03-03 02:00"))
        end_batch(nights.database, nights.runs()[1].batch_id or "", BatchStatus.FAILED)
        nights.tick(utc("03-03 02:05"))

        assert nights.run_states() == ["completed", "failed"]
        assert [row.batch_id for row in nights.query("SELECT batch_id FROM ticket_labels")] == [
            nights.runs()[0].batch_id
        ]

    def test_may_be_in_the_source(self, nights: ScheduleHarness) -> None:
        nights.create_schedule(into="ticket_labels", into_source="tickets")
        nights.tickets.insert_ticket(utc("03-01 21:00"))
        nights.run_schedule(utc("03-02 02:00"))

        assert nights.tickets.query("SELECT id, label FROM ticket_labels") == [("1", "NEGATIVE")]
        assert nights.run_states() == ["completed"]

    @pytest.mark.parametrize("point", ["before_finish_run", "before_commit_run"])
    @pytest.mark.parametrize("elsewhere", [False, True])
    def test_and_the_mark_survive_a_death_at(
        self, nights: ScheduleHarness, monkeypatch: pytest.MonkeyPatch, point: str, elsewhere: bool
    ) -> None:
        nights.create_schedule(into="ticket_labels", into_source="tickets" if elsewhere else None)
        nights.tickets.insert_ticket(utc("03-01 21:00"))
        nights.tick(utc("03-02 02:00"))
        nights.answer_jobs()
        monkeypatch.setattr("producer.schedules.runs.finish.failpoint", _dies(point))
        with pytest.raises(SystemExit):
            nights.tick(utc("03-02 02:05"))
        assert nights.run_states() == ["running"]
        monkeypatch.undo()
        nights.tick(utc("03-02 02:06"))

        assert nights.run_states() == ["completed"]
        found = (
            nights.tickets.query("SELECT id FROM ticket_labels")
            if elsewhere
            else nights.query("SELECT id FROM ticket_labels")
        )
        assert [row[0] for row in found] == ["1"]


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
        self, nights: ScheduleHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The nights are of March, by a clock that is handed in, and so long ago by the database's."""
        monkeypatch.setattr(retention, "MIN_KEPT_RUNS", 2)
        nights.create_schedule()
        nights.create_schedule("resting", cron="0 3 * * *")
        for day in range(2, 6):
            nights.run_schedule(utc(f"03-0{day} 03:00"))
        nights.execute(
            "INSERT INTO events (schedule, scheduled_at, kind, message, occurred_at) "
            "SELECT schedule, scheduled_at, 'late', '', scheduled_at FROM runs"
        )

        assert retention.delete_old_runs(nights.database, 3600.0) == 4

        assert [run.scheduled_at for run in nights.runs()] == [utc("03-04 02:00"), utc("03-05 02:00")]
        assert len(nights.runs("resting")) == 2
        assert len(nights.event_kinds()) == 4
        assert retention.delete_old_runs(nights.database, 3600.0) == 0

    def test_takes_no_batch_of_a_run_that_is_not_marked_yet(self, nights: ScheduleHarness) -> None:
        nights.create_schedule()
        nights.tickets.insert_ticket(utc("03-01 21:00"))
        nights.tick(utc("03-02 02:00"))
        nights.answer_jobs()
        assert list(retention.old_batches(nights.database, -3600.0)) == []
        nights.tick(utc("03-02 02:05"))

        assert [batch.id for batch in retention.old_batches(nights.database, -3600.0)] == [nights.runs()[0].batch_id]
