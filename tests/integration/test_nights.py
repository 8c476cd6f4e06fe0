"""Schedules from slot to table, on both databases, by a clock that is handed in."""

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
from tests.answers import end
from tests.nights_made import EVENING, PIPELINE, Nights, at
from tests.threads import at_once


@pytest.fixture
def nights(database_url: str, tmp_path: Path) -> Iterator[Nights]:
    made = Nights(database_url, tmp_path)
    yield made
    made.close()


class TestANight:
    def test_takes_in_what_is_new_and_ends_marked(self, nights: Nights) -> None:
        nights.create()
        nights.shop.open_ticket(at("03-01 21:00"))
        nights.shop.open_ticket(at("03-02 01:59"))
        nights.shop.open_ticket(at("03-02 02:00"))  # belongs to the next night

        assert not nights.tick(at("03-02 01:59"))
        assert nights.tick(at("03-02 02:00"))
        nights.answer()
        nights.tick(at("03-02 02:05"))

        [run] = nights.runs()
        assert (run.state, run.slot, run.until) == (RunState.COMPLETED, at("03-02 02:00"), at("03-02 02:00"))
        assert nights.read(run) == ["1", "2"]
        assert run.summary is not None
        assert (run.summary["total"], run.summary["computed"], run.summary["failed"]) == (2, 2, 0)
        assert registry.get(nights.database, "nightly").watermark == at("03-02 02:00")
        nights.audit()

    def test_goes_on_where_the_last_one_stopped(self, nights: Nights) -> None:
        nights.create()
        for day in range(2, 7):
            nights.shop.open_ticket(at(f"03-0{day} 01:00"))
            nights.shop.open_ticket(at(f"03-0{day} 02:00"))
            nights.night(at(f"03-0{day} 02:00"))

        assert [nights.read(run) for run in nights.runs()] == [["1"], ["2", "3"], ["4", "5"], ["6", "7"], ["8", "9"]]

    def test_without_news_is_a_run_without_rows(self, nights: Nights) -> None:
        nights.create()
        nights.tick(at("03-02 02:00"))

        [run] = nights.runs()
        assert run.state is RunState.COMPLETED
        assert run.summary is not None
        assert run.summary["total"] == 0
        nights.audit()

    def test_that_failed_is_made_up_for_by_the_next(self, nights: Nights) -> None:
        nights.create(max_failures="0")
        nights.shop.open_ticket(at("03-01 21:00"))
        nights.tick(at("03-02 02:00"))
        end(nights.database, nights.runs()[0].batch_id or "", BatchStatus.FAILED)
        nights.tick(at("03-02 02:05"))
        assert nights.states() == ["failed"]
        nights.shop.open_ticket(at("03-02 21:00"))

        nights.night(at("03-03 02:00"))

        assert nights.states() == ["failed", "completed"]
        assert nights.read(nights.runs()[1]) == ["1", "2"]
        assert nights.events() == ["failed", "recovered"]

    def test_whose_batch_is_cancelled_or_deleted_has_failed(self, nights: Nights) -> None:
        nights.create()
        nights.shop.open_ticket(at("03-01 21:00"))
        nights.tick(at("03-02 02:00"))
        nights.write("DELETE FROM batches")
        nights.tick(at("03-02 02:01"))

        assert nights.runs()[0].error_code == "batch_deleted"


class TestASlot:
    def test_has_one_run_whoever_comes(self, nights: Nights) -> None:
        """Eight tickers at the same moment, each with connections of its own."""
        nights.create()
        nights.shop.open_ticket(at("03-01 21:00"))

        at_once(*[lambda: nights.tick(at("03-02 02:00"))] * 8)

        assert nights.states() == ["running"]
        assert [row.total for row in nights.query("SELECT total FROM batches")] == [1]

    def test_by_a_clock_that_was_put_back_comes_no_second_time(self, nights: Nights) -> None:
        nights.create()
        nights.tick(at("03-02 02:00"))
        nights.tick(at("03-01 23:00"))
        nights.tick(at("03-02 02:00"))

        assert nights.states() == ["completed"]

    def test_is_in_sql_together_with_its_batch(self, nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
        nights.create()
        monkeypatch.setattr("producer.schedules.runs.planning.failpoint", _dies("in_plan"))
        with pytest.raises(SystemExit):
            nights.tick(at("03-02 02:00"))

        assert nights.states() == []
        assert nights.query("SELECT id FROM batches") == []

    def test_that_its_pipeline_takes_no_more_has_failed_and_keeps_no_other_waiting(self, nights: Nights) -> None:
        nights.create("a", params={"top_k": 1})
        nights.create("b")
        nights.catalogue = Catalogue({PIPELINE: nights.catalogue["sample-ner"].model_copy(update={"name": PIPELINE})})
        nights.tick(at("03-02 02:00"))

        assert nights.states("a") == ["failed"]
        assert "top_k" in (nights.runs("a")[0].error_message or "")
        assert len(nights.states("b")) == 1
        assert not nights.tick(at("03-02 02:01"))


class TestTrouble:
    """One schedule's keeps no other from its turn, however many have it."""

    MANY = 5

    def test_with_what_a_schedule_says(self, nights: Nights) -> None:
        for number in range(self.MANY):
            nights.create(f"broken-{number:02}")
        nights.create()
        nights.write("UPDATE schedules SET definition = '{}' WHERE name <> 'nightly'")
        nights.tick(at("03-02 02:00"))

        assert nights.states() == ["completed"]

    def test_with_runs_that_cannot_go_on(self, nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("producer.schedules.runs.run_views.AT_ONCE", self.MANY - 1)
        for number in range(self.MANY):
            nights.create(f"broken-{number:02}")
        nights.create()
        monkeypatch.setattr("producer.schedules.runs.read_source.failpoint", _dies("in_read"))
        with pytest.raises(SystemExit):
            nights.tick(at("03-02 02:00"))
        assert nights.states() == ["waiting"]
        monkeypatch.undo()
        nights.write("UPDATE runs SET definition = '{}' WHERE schedule <> 'nightly'")
        nights.tick(at("03-02 02:01"))

        assert nights.states() == ["completed"]


class TestMissedSlots:
    def test_latest_runs_the_last_one_over_all_that_came(self, nights: Nights) -> None:
        nights.create(catchup="latest")
        for day in (1, 2, 3):
            nights.shop.open_ticket(at(f"03-0{day} 21:00"))
        nights.night(at("03-04 09:00"))

        assert nights.states() == ["missed", "missed", "completed"]
        assert nights.read(nights.runs()[-1]) == ["1", "2", "3"]
        assert "missed" in nights.events()

    def test_all_runs_each_one_after_the_other(self, nights: Nights) -> None:
        nights.create(catchup="all", catchup_window="7d")
        for day in (1, 2, 3):
            nights.shop.open_ticket(at(f"03-0{day} 21:00"))
        nights.tick(at("03-04 09:00"))
        assert nights.states() == ["running", "waiting", "waiting"]
        for minute in range(3):
            nights.answer()
            nights.tick(at(f"03-04 09:0{minute + 1}"))

        assert nights.states() == ["completed"] * 3
        assert [nights.read(run) for run in nights.runs()] == [["1"], ["2"], ["3"]]

    def test_none_runs_nothing_late(self, nights: Nights) -> None:
        nights.create(catchup="none")
        nights.tick(at("03-04 09:00"))

        assert nights.states() == ["missed"] * 3

    def test_older_than_the_window_are_missed(self, nights: Nights) -> None:
        nights.create(catchup="all", catchup_window="24h")
        nights.tick(at("03-04 09:00"))

        assert nights.states() == ["missed", "missed", "completed"]


class TestOverlap:
    def test_skip_leaves_a_slot_out_while_one_is_at_it(self, nights: Nights) -> None:
        nights.create(overlap="skip")
        nights.shop.open_ticket(at("03-01 21:00"))
        nights.tick(at("03-02 02:00"))
        nights.tick(at("03-03 02:00"))
        assert nights.states() == ["running", "skipped"]
        nights.answer()
        nights.tick(at("03-03 02:10"))
        nights.tick(at("03-04 02:00"))

        assert nights.states() == ["completed", "skipped", "completed"]
        assert nights.events() == ["skipped"]

    def test_queue_runs_it_afterwards(self, nights: Nights) -> None:
        nights.create(overlap="queue")
        nights.shop.open_ticket(at("03-01 21:00"))
        nights.shop.open_ticket(at("03-02 21:00"))
        nights.tick(at("03-02 02:00"))
        nights.tick(at("03-03 02:00"))
        assert nights.states() == ["running", "waiting"]
        nights.answer()
        nights.tick(at("03-03 02:10"))
        assert nights.states() == ["completed", "running"]

        assert [nights.read(run) for run in nights.runs()] == [["1"], ["2"]]

    def test_allow_runs_it_beside(self, nights: Nights, tmp_path: Path) -> None:
        for day in (2, 3):
            (tmp_path / f"2026-03-0{day}.jsonl").write_text('{"id": "a", "body": "x"}\n')
        _settled(tmp_path)
        nights.create(overlap="allow", file=str(tmp_path / "{slot:%Y-%m-%d}.jsonl"))
        nights.tick(at("03-02 02:00"))
        nights.tick(at("03-03 02:00"))

        assert nights.states() == ["running", "running"]

    def test_allow_is_refused_where_rows_would_be_taken_twice(self, nights: Nights) -> None:
        with pytest.raises(UsageError, match="overlap"):
            nights.create(overlap="allow")


class TestDeadlines:
    def test_expire_the_batch_and_fail_the_run(self, nights: Nights) -> None:
        nights.create(deadline="4h")
        nights.shop.open_ticket(at("03-01 21:00"))
        nights.tick(at("03-02 02:00"))
        [left] = nights.query(
            f"SELECT expires_at > {nights.database.sql.later} AS enough FROM batches", seconds=4 * 3600 - 60
        )
        assert left.enough  # by the database's clock, whatever the schedule's says

        end(nights.database, nights.runs()[0].batch_id or "", BatchStatus.EXPIRED)
        nights.tick(at("03-02 06:01"))
        assert nights.runs()[0].error_code == "deadline_passed"
        assert nights.events() == ["failed"]

    def test_that_will_be_missed_are_told_of_before(self, nights: Nights) -> None:
        nights.create(deadline="06:00")
        nights.shop.open_ticket(at("03-01 21:00"))
        nights.tick(at("03-02 02:00"))
        assert nights.runs()[0].deadline_at == at("03-02 06:00")

        nights.tick(at("03-02 04:30"))  # more than half of the time, and no worker has begun
        nights.tick(at("03-02 06:30"))

        assert nights.events() == ["late", "overdue"]

    def test_that_passed_before_a_night_was_caught_up_do_not_expire_it(self, nights: Nights) -> None:
        nights.create(deadline="06:00")
        nights.shop.open_ticket(at("03-01 21:00"))
        nights.night(at("03-02 09:00"))

        assert nights.states() == ["completed"]
        assert nights.events() == ["overdue"]


class TestByHand:
    def test_trigger_runs_at_once_and_moves_the_watermark(self, nights: Nights) -> None:
        nights.create()
        nights.shop.open_ticket(at("03-01 19:00"))
        batch_id = manual_runs.trigger(nights.database, nights.catalogue, "nightly", EVENING)
        nights.night(EVENING)
        assert nights.runs()[0].batch_id == batch_id
        nights.shop.open_ticket(at("03-01 23:00"))
        nights.night(at("03-02 02:00"))

        assert [nights.read(run) for run in nights.runs()] == [["1"], ["2"]]
        with pytest.raises(UsageError, match="very second"):
            manual_runs.trigger(nights.database, nights.catalogue, "nightly", EVENING)

    def test_backfill_runs_what_never_completed_over_its_own_span(self, nights: Nights) -> None:
        nights.create(catchup="none")
        for day in (1, 2, 3):
            nights.shop.open_ticket(at(f"03-0{day} 21:00"))
        nights.night(at("03-04 02:00"))
        assert nights.states() == ["missed", "missed", "completed"]

        begun, kept = manual_runs.backfill(
            nights.database, nights.catalogue, "nightly", at("03-02 00:00"), at("03-04 02:00"), at("03-04 12:00")
        )
        assert (begun, kept) == ([at("03-02 02:00"), at("03-03 02:00")], [at("03-04 02:00")])
        for minute in range(3):
            nights.tick(at(f"03-04 12:0{minute}"))
            nights.answer()
        nights.tick(at("03-04 12:09"))

        assert nights.states() == ["completed"] * 3
        assert [nights.read(run) for run in nights.runs()[:2]] == [["1"], ["2"]]
        assert registry.get(nights.database, "nightly").watermark == at("03-04 02:00")

    def test_backfill_again_replaces_what_completed_over_what_it_took_in_then(self, nights: Nights) -> None:
        """Also where that was more than its own night, since the one before was missed."""
        nights.create(into="labels", max_failures="0")
        nights.shop.open_ticket(at("03-01 21:00"))
        nights.shop.open_ticket(at("03-02 21:00"))
        nights.night(at("03-03 02:00"), {"label": "WRONG", "score": 0.9})
        nights.shop.open_ticket(at("03-03 21:00"))
        nights.night(at("03-04 02:00"), {"label": "WRONG", "score": 0.9})
        before = nights.runs()

        begun, kept = manual_runs.backfill(
            nights.database, nights.catalogue, "nightly", at("03-03 02:00"), at("03-03 02:00"), at("03-04 12:00"),
            again=True,
        )  # fmt: skip
        assert (begun, kept) == ([at("03-03 02:00")], [])
        nights.tick(at("03-04 12:00"))
        nights.answer({"label": "RIGHT", "score": 0.9})
        nights.tick(at("03-04 12:01"))

        again = nights.runs()[1]
        assert (again.state, again.since, again.until) == (RunState.COMPLETED, before[1].since, before[1].until)
        assert again.batch_id != before[1].batch_id
        assert nights.read(again) == ["1", "2"]
        labels = [tuple(row) for row in nights.query("SELECT id, label FROM labels ORDER BY id")]
        assert labels == [("1", "RIGHT"), ("2", "RIGHT"), ("3", "WRONG")]
        assert registry.get(nights.database, "nightly").watermark == at("03-04 02:00")
        nights.audit()

    def test_suspended_it_rests_and_does_not_catch_up(self, nights: Nights) -> None:
        nights.create(catchup="all", catchup_window="30d")
        registry.suspend(nights.database, "nightly", EVENING)
        assert not nights.tick(at("03-05 02:00"))
        assert registry.resume(nights.database, "nightly", at("03-05 02:00")) == at("03-06 02:00")
        nights.tick(at("03-06 02:00"))

        assert [run.slot for run in nights.runs()] == [at("03-06 02:00")]

    def test_deleted_it_leaves_batches_and_no_unread_one(self, nights: Nights) -> None:
        nights.create(overlap="queue")
        nights.shop.open_ticket(at("03-01 21:00"))
        nights.tick(at("03-02 02:00"))
        nights.tick(at("03-03 02:00"))
        registry.delete(nights.database, "nightly")

        statuses = sorted(row.status for row in nights.query("SELECT status FROM batches"))
        assert statuses == ["cancelled", "in_progress"]
        with pytest.raises(NotFound):
            registry.get(nights.database, "nightly")


class TestDeclared:
    def test_sync_makes_changes_and_deletes(self, nights: Nights) -> None:
        one = nights.create("one")
        declared = {name: one.model_copy(update={"name": name}) for name in ("one", "two")}

        assert registry.sync(nights.database, declared, EVENING) == [("changed", "one"), ("created", "two")]
        assert registry.sync(nights.database, declared, EVENING) == []
        assert registry.sync(nights.database, {"two": declared["two"]}, EVENING) == [("deleted", "one")]
        assert [view.name for view in registry.listed(nights.database)] == ["two"]

    def test_new_times_begin_now(self, nights: Nights) -> None:
        one = nights.create("one", catchup="all", catchup_window="30d")
        changed = one.model_copy(update={"cron": "0 3 * * *"})
        registry.create(nights.database, changed, at("03-05 12:00"), replace=True)

        assert registry.get(nights.database, "one").next_at == at("03-06 03:00")
        with pytest.raises(UsageError, match="--replace"):
            registry.create(nights.database, one, EVENING)


class TestSources:
    def test_that_are_late_are_waited_for(self, nights: Nights, tmp_path: Path) -> None:
        nights.create(file=str(tmp_path / "{slot:%Y-%m-%d}.jsonl"), source_timeout="1h")
        nights.tick(at("03-02 02:00"))
        assert nights.states() == ["waiting"]
        assert nights.events() == ["waiting"]
        (tmp_path / "2026-03-02.jsonl").write_text('{"id": "a", "body": "x"}\n')
        _settled(tmp_path)

        nights.night(at("03-02 02:30"))

        assert nights.states() == ["completed"]

    def test_that_never_come_fail_the_run(self, nights: Nights, tmp_path: Path) -> None:
        nights.create(file=str(tmp_path / "{slot:%Y-%m-%d}.jsonl"), source_timeout="1h")
        nights.tick(at("03-02 02:00"))
        nights.tick(at("03-02 03:01"))

        [run] = nights.runs()
        assert (run.state, run.error_code) == (RunState.FAILED, "source_not_ready")
        assert nights.events() == ["waiting", "failed"]
        nights.audit()

    def test_whose_query_is_wrong_fail_at_once(self, nights: Nights) -> None:
        nights.shop.write("ALTER TABLE tickets RENAME COLUMN body TO words")
        nights.create()
        nights.tick(at("03-02 02:00"))

        [run] = nights.runs()
        assert run.state is RunState.FAILED
        assert "body" in (run.error_message or "")

    def test_read_half_way_by_one_that_died_are_read_anew(
        self, nights: Nights, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What the dead one got in must be gone, and rows that changed in between are as they are now."""
        nights.create()
        for number in range(5):
            nights.shop.open_ticket(at("03-01 21:00"), f"first {number}")
        monkeypatch.setattr("producer.submission.submit._accept", _dies("accepting"))
        with pytest.raises(SystemExit):
            nights.tick(at("03-02 02:00"))
        assert len(nights.query("SELECT position FROM jobs")) == 5
        monkeypatch.undo()
        nights.shop.write("DELETE FROM tickets WHERE id = 2")
        nights.shop.write("UPDATE tickets SET body = 'second'")

        nights.night(at("03-02 02:01"))

        [run] = nights.runs()
        assert nights.read(run) == ["1", "3", "4", "5"]
        assert {str(row.input) for row in nights.query("SELECT CAST(input AS text) AS input FROM jobs")} in (
            {'{"text": "second"}'}, {'{"text":"second"}'},
        )  # fmt: skip
        nights.audit()


class TestTheTable:
    def test_has_the_newest_label_of_each_id(self, nights: Nights) -> None:
        nights.create(into="ticket_labels")
        nights.shop.open_ticket(at("03-01 21:00"))
        nights.night(at("03-02 02:00"))
        nights.shop.write("UPDATE tickets SET created_at = '2026-03-02 21:00:00', body = 'thanks'")
        nights.night(at("03-03 02:00"), {"label": "POSITIVE", "score": 0.8})

        [row] = nights.query("SELECT id, text, label, score FROM ticket_labels")
        assert tuple(row) == ("1", "thanks", "POSITIVE", 0.8)

    def test_is_not_touched_by_a_night_that_failed(self, nights: Nights) -> None:
        nights.create(into="ticket_labels", max_failures="0")
        nights.shop.open_ticket(at("03-01 21:00"))
        nights.night(at("03-02 02:00"))
        nights.shop.write("UPDATE tickets SET created_at = '2026-03-02 21:00:00'")
        nights.tick(at("03-03 02:00"))
        end(nights.database, nights.runs()[1].batch_id or "", BatchStatus.FAILED)
        nights.tick(at("03-03 02:05"))

        assert nights.states() == ["completed", "failed"]
        assert [row.batch_id for row in nights.query("SELECT batch_id FROM ticket_labels")] == [
            nights.runs()[0].batch_id
        ]

    def test_may_be_in_the_source(self, nights: Nights) -> None:
        nights.create(into="ticket_labels", into_source="tickets")
        nights.shop.open_ticket(at("03-01 21:00"))
        nights.night(at("03-02 02:00"))

        assert nights.shop.rows("SELECT id, label FROM ticket_labels") == [("1", "NEGATIVE")]
        assert nights.states() == ["completed"]

    @pytest.mark.parametrize("point", ["in_finish", "before_mark"])
    @pytest.mark.parametrize("elsewhere", [False, True])
    def test_and_the_mark_survive_a_death_at(
        self, nights: Nights, monkeypatch: pytest.MonkeyPatch, point: str, elsewhere: bool
    ) -> None:
        nights.create(into="ticket_labels", into_source="tickets" if elsewhere else None)
        nights.shop.open_ticket(at("03-01 21:00"))
        nights.tick(at("03-02 02:00"))
        nights.answer()
        monkeypatch.setattr("producer.schedules.runs.finish.failpoint", _dies(point))
        with pytest.raises(SystemExit):
            nights.tick(at("03-02 02:05"))
        assert nights.states() == ["running"]
        monkeypatch.undo()
        nights.tick(at("03-02 02:06"))

        assert nights.states() == ["completed"]
        found = (
            nights.shop.rows("SELECT id FROM ticket_labels")
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
        self, nights: Nights, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The nights are of March, by a clock that is handed in, and so long ago by the database's."""
        monkeypatch.setattr(retention, "KEPT_RUNS", 2)
        nights.create()
        nights.create("resting", cron="0 3 * * *")
        for day in range(2, 6):
            nights.night(at(f"03-0{day} 03:00"))
        nights.write(
            "INSERT INTO events (schedule, slot, kind, message, at) SELECT schedule, slot, 'late', '', slot FROM runs"
        )

        assert retention.forget(nights.database, 3600.0) == 4

        assert [run.slot for run in nights.runs()] == [at("03-04 02:00"), at("03-05 02:00")]
        assert len(nights.runs("resting")) == 2
        assert len(nights.events()) == 4
        assert retention.forget(nights.database, 3600.0) == 0

    def test_takes_no_batch_of_a_run_that_is_not_marked_yet(self, nights: Nights) -> None:
        nights.create()
        nights.shop.open_ticket(at("03-01 21:00"))
        nights.tick(at("03-02 02:00"))
        nights.answer()
        assert list(retention.aged(nights.database, -3600.0)) == []
        nights.tick(at("03-02 02:05"))

        assert [batch.id for batch in retention.aged(nights.database, -3600.0)] == [nights.runs()[0].batch_id]
