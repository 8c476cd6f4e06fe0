"""Schedules that run after another, on both databases, by a clock that is handed in."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from models.errors import UsageError
from models.lifecycle import retention
from models.pipelines.catalogue import Catalogue
from models.states import BatchStatus, RunState, RunTrigger
from producer.batches.actions import delete, retry
from producer.batches.actions.retry import RetrySelection
from producer.schedules import config_sync, registry, validation
from producer.schedules.runs import manual_runs, source_check
from producer.schedules.runs.following import opening
from producer.schedules.runs.run_views import RunView
from tests.factories.schedules import CREATED_AT, ScheduleHarness, utc
from tests.fake_worker import end_batch
from tests.threads import run_concurrently

NIGHT, MORNING, LATER = utc("03-02 02:00"), utc("03-02 02:05"), utc("03-02 02:10")


@pytest.fixture
def harness(database_url: str, tmp_path: Path) -> Iterator[ScheduleHarness]:
    created = ScheduleHarness(database_url, tmp_path)
    created.create_schedule()
    for _ in range(3):
        created.tickets.insert_ticket(utc("03-01 21:00"))
    yield created
    created.close()


def run_leader(harness: ScheduleHarness, start: datetime = NIGHT, **answers: Any) -> RunView:
    """Run the night of `nightly` to its end; its followers have read its results then."""
    harness.tick(start)
    harness.answer_jobs(**answers)
    harness.tick(start + timedelta(minutes=5))
    return harness.runs()[-1]


def only_run(harness: ScheduleHarness, name: str) -> RunView:
    [run] = harness.runs(name)
    return run


def inputs(harness: ScheduleHarness, run: RunView) -> list[tuple[Any, ...]]:
    """The ids and origins of a run's jobs."""
    query = "SELECT custom_id, source_batch_id, source_position FROM jobs WHERE batch_id = :id ORDER BY position"
    return [tuple(row) for row in harness.query(query, id=run.batch_id)]


class TestFollower:
    def test_reads_the_results_of_the_run_that_completed_at_the_same_scheduled_time(
        self, harness: ScheduleHarness
    ) -> None:
        harness.create_schedule("second", after="nightly")

        leader = run_leader(harness)
        harness.answer_jobs()
        harness.tick(LATER)

        run = only_run(harness, "second")
        assert (run.state, run.scheduled_at, run.trigger) == (RunState.COMPLETED, NIGHT, RunTrigger.AFTER)
        assert run.source_batch_id == leader.batch_id
        batches = harness.query("SELECT id FROM batches WHERE source_batch_id = :id", id=leader.batch_id)
        assert [row.id for row in batches] == [run.batch_id]
        assert inputs(harness, run) == [(str(number + 1), leader.batch_id, number) for number in range(3)]
        texts = harness.query("SELECT input FROM job_results WHERE batch_id = :id", id=run.batch_id)
        assert all("NEGATIVE" in str(row.input) for row in texts)
        assert run.summary is not None
        assert run.summary["total"] == 3
        assert harness.event_kinds() == []
        harness.assert_consistent()

    def test_gets_nothing_while_the_other_run_is_open(self, harness: ScheduleHarness) -> None:
        harness.create_schedule("second", after="nightly")

        harness.tick(NIGHT)
        harness.tick(MORNING)

        assert harness.runs("second") == []

    def test_follows_a_run_that_was_started_by_hand_at_the_same_time(self, harness: ScheduleHarness) -> None:
        harness.create_schedule("second", after="nightly")

        started = manual_runs.trigger(harness.database, harness.catalogue, "nightly", NIGHT - timedelta(hours=1))
        run_leader(harness, NIGHT - timedelta(hours=1))

        run = only_run(harness, "second")
        assert (run.scheduled_at, run.source_batch_id) == (started.scheduled_at, started.batch_id)
        assert run.trigger is RunTrigger.AFTER

    def test_may_be_followed_itself_and_one_run_may_have_several_followers(self, harness: ScheduleHarness) -> None:
        harness.create_schedule("second", after="nightly")
        harness.create_schedule("other", after="nightly")
        harness.create_schedule("third", after="second", input={"text": "input.text"})

        run_leader(harness)
        for _ in range(2):
            harness.answer_jobs()
            harness.tick(LATER)

        second, third = only_run(harness, "second"), only_run(harness, "third")
        assert third.source_batch_id == second.batch_id
        assert {run.scheduled_at for run in (second, third, only_run(harness, "other"))} == {NIGHT}
        assert harness.run_states("third") == ["completed"]
        harness.assert_consistent()

    def test_is_planned_once_by_any_number_of_ticks(self, harness: ScheduleHarness) -> None:
        harness.create_schedule("second", after="nightly")
        harness.tick(NIGHT)
        harness.answer_jobs()

        run_concurrently(*[lambda: harness.tick(MORNING)] * 4)
        harness.tick(LATER)
        harness.answer_jobs()
        run_concurrently(*[lambda: harness.tick(LATER)] * 4)

        assert harness.run_states("second") == ["completed"]
        assert harness.query("SELECT count(*) AS n FROM batches")[0].n == 2

    def test_writes_ids_of_the_first_source_s_type_into_its_table(self, harness: ScheduleHarness) -> None:
        harness.create_schedule("second", after="nightly", into="labels_of_labels")

        run_leader(harness)
        harness.answer_jobs()
        harness.tick(LATER)

        assert [row.id for row in harness.query("SELECT id FROM labels_of_labels ORDER BY id")] == [1, 2, 3]

    def test_has_a_deadline_that_counts_from_the_scheduled_time(self, harness: ScheduleHarness) -> None:
        harness.create_schedule("second", after="nightly", deadline="4h")

        run_leader(harness)

        assert only_run(harness, "second").deadline_at == NIGHT + timedelta(hours=4)

    def test_waits_for_the_one_before_and_none_is_skipped(self, harness: ScheduleHarness) -> None:
        harness.create_schedule("second", after="nightly")
        run_leader(harness)
        first = harness.runs("second")[0]
        harness.execute("UPDATE slices SET available_at = '2199-01-01' WHERE batch_id = :id", id=first.batch_id)

        harness.run_schedule(NIGHT + timedelta(days=1))

        assert harness.run_states("nightly") == ["completed", "completed"]
        assert harness.run_states("second") == ["running", "waiting"]


class TestSelection:
    def test_takes_the_results_that_the_schedule_selects(self, harness: ScheduleHarness) -> None:
        harness.create_schedule("failed", after="nightly", status="failed", input={"text": "input.text"})
        harness.create_schedule("positive", after="nightly", labels=["POSITIVE"])
        harness.create_schedule("certain", after="nightly", min_score=0.8)

        leader = run_leader(harness, failures_per_claim=1)

        assert leader.state is RunState.COMPLETED
        assert len(inputs(harness, only_run(harness, "failed"))) == 1
        assert len(inputs(harness, only_run(harness, "positive"))) == 0
        assert len(inputs(harness, only_run(harness, "certain"))) == 2
        harness.tick(LATER)
        assert harness.run_states("positive") == ["completed"], "of no rows, as any run without new ones"

    def test_a_night_without_what_the_mapping_names_has_invalid_rows(self, harness: ScheduleHarness) -> None:
        harness.create_schedule("second", after="nightly", input={"text": "output.summary_text"})
        harness.create_schedule("strict", after="nightly", input={"text": "output.summary_text"}, on_invalid="reject")

        run_leader(harness)
        harness.tick(LATER)

        run, strict = only_run(harness, "second"), only_run(harness, "strict")
        assert run.state is RunState.COMPLETED
        assert run.summary is not None
        assert (run.summary["total"], run.summary["failed"]) == (3, 3)
        assert (strict.state, strict.error_code) == (RunState.FAILED, "unreadable_source")
        assert "output.label" in str(strict.error_message)


class TestUnsuccessfulRun:
    def test_that_fails_has_no_follower_and_says_so_down_the_chain(self, harness: ScheduleHarness) -> None:
        harness.create_schedule("second", after="nightly")
        harness.create_schedule("third", after="second")

        harness.tick(NIGHT)
        end_batch(harness.database, harness.runs()[0].batch_id or "", BatchStatus.CANCELLED)
        harness.tick(MORNING)

        assert [harness.run_states(name) for name in ("nightly", "second", "third")] == [
            ["failed"],
            ["skipped"],
            ["skipped"],
        ]
        messages = [row.message for row in harness.query("SELECT message FROM events WHERE kind = 'skipped'")]
        assert messages == [
            "the run of nightly failed, so there are no results to read",
            "the run of second was skipped, so there are no results to read",
        ]

    def test_that_was_missed_or_skipped_has_none(self, harness: ScheduleHarness) -> None:
        harness.create_schedule("second", after="nightly")

        harness.tick(NIGHT)
        harness.tick(NIGHT + timedelta(days=3, hours=1))  # the first is open, and two more came

        assert harness.run_states() == ["running", "missed", "missed", "skipped"]
        assert harness.run_states("second") == ["skipped"] * 3

    def test_that_succeeds_when_it_is_repeated_has_its_follower_then(self, harness: ScheduleHarness) -> None:
        harness.create_schedule("second", after="nightly")
        harness.tick(NIGHT)
        end_batch(harness.database, harness.runs()[0].batch_id or "", BatchStatus.CANCELLED)
        harness.tick(MORNING)

        harness.backfill("03-02 02:00", now=MORNING)
        run_leader(harness, MORNING)
        harness.answer_jobs()
        harness.tick(LATER)

        assert harness.run_states("second") == ["completed"]
        assert only_run(harness, "second").trigger is RunTrigger.BACKFILL
        assert harness.event_kinds() == [], "the old events went with the runs"


class TestRepeatedRun:
    def test_has_its_follower_repeated(self, harness: ScheduleHarness) -> None:
        harness.create_schedule("second", after="nightly")
        run_leader(harness)
        harness.answer_jobs()
        harness.tick(LATER)
        before = only_run(harness, "second")

        harness.backfill("03-02 02:00", now=LATER, include_completed=True)
        leader = run_leader(harness, LATER)
        harness.answer_jobs()
        harness.tick(LATER + timedelta(minutes=10))

        run = only_run(harness, "second")
        assert run.state is RunState.COMPLETED
        assert run.source_batch_id == leader.batch_id != before.source_batch_id

    def test_lets_an_open_follower_end_and_repeats_it_then(self, harness: ScheduleHarness) -> None:
        harness.create_schedule("second", after="nightly")
        run_leader(harness)
        first = only_run(harness, "second")
        harness.execute("UPDATE slices SET available_at = '2199-01-01' WHERE batch_id = :id", id=first.batch_id)
        harness.backfill("03-02 02:00", now=LATER, include_completed=True)
        leader = run_leader(harness, LATER)
        assert only_run(harness, "second").batch_id == first.batch_id

        harness.execute("UPDATE slices SET available_at = '2020-01-01' WHERE batch_id = :id", id=first.batch_id)
        for _ in range(2):
            harness.answer_jobs()
            harness.tick(LATER + timedelta(minutes=10))

        run = only_run(harness, "second")
        assert (run.state, run.source_batch_id) == (RunState.COMPLETED, leader.batch_id)
        assert run.batch_id != first.batch_id
        harness.assert_consistent()

    def test_replaces_a_follower_that_has_not_begun(self, harness: ScheduleHarness) -> None:
        harness.create_schedule("second", after="nightly")
        harness.tick(NIGHT)
        harness.answer_jobs()
        catalogue, harness.catalogue = harness.catalogue, Catalogue({})
        harness.tick(MORNING)
        harness.catalogue = catalogue
        harness.execute("UPDATE runs SET next_check_at = '2199-01-01' WHERE schedule = 'second'")

        harness.backfill("03-02 02:00", now=LATER, include_completed=True)
        leader = run_leader(harness, LATER)
        harness.answer_jobs()
        harness.tick(LATER + timedelta(minutes=10))

        run = only_run(harness, "second")
        assert (run.state, run.source_batch_id) == (RunState.COMPLETED, leader.batch_id)

    def test_that_replaces_a_follower_while_it_is_opened_leaves_it_to_the_next_check(
        self, harness: ScheduleHarness
    ) -> None:
        harness.create_schedule("second", after="nightly")
        harness.tick(NIGHT)
        harness.answer_jobs()
        catalogue, harness.catalogue = harness.catalogue, Catalogue({})
        harness.tick(MORNING)
        harness.catalogue = catalogue
        planned = only_run(harness, "second")
        harness.execute("UPDATE runs SET source_batch_id = 'batch_new' WHERE schedule = 'second'")

        opening.open_batch(harness.database, catalogue, planned, LATER)
        assert only_run(harness, "second").batch_id is None
        opening.open_batch(harness.database, catalogue, only_run(harness, "second"), LATER)

        [batch] = harness.query("SELECT source_batch_id FROM batches WHERE id <> :id", id=planned.source_batch_id)
        assert batch.source_batch_id == "batch_new"

    def test_of_the_follower_alone_reads_the_same_results_again(self, harness: ScheduleHarness) -> None:
        harness.create_schedule("second", after="nightly")
        leader = run_leader(harness)
        harness.answer_jobs()
        harness.tick(LATER)

        assert harness.backfill("03-02 02:00", now=LATER, name="second") == []
        assert harness.backfill("03-02 02:00", now=LATER, name="second", include_completed=True) == [NIGHT]
        harness.tick(LATER)
        harness.answer_jobs()
        harness.tick(LATER)

        run = only_run(harness, "second")
        assert (run.state, run.source_batch_id) == (RunState.COMPLETED, leader.batch_id)
        with pytest.raises(UsageError, match="runs after nightly, which has no completed run there"):
            harness.backfill("03-01 02:00", now=LATER, name="second")

    def test_by_hand_reads_the_last_completed_run(self, harness: ScheduleHarness) -> None:
        harness.create_schedule("second", after="nightly")
        with pytest.raises(UsageError, match="nightly has no completed run"):
            manual_runs.trigger(harness.database, harness.catalogue, "second", NIGHT)
        leader = run_leader(harness)
        harness.answer_jobs()
        harness.tick(LATER)

        started = manual_runs.trigger(harness.database, harness.catalogue, "second", LATER)
        harness.tick(LATER)
        harness.answer_jobs()
        harness.tick(LATER)

        run = harness.runs("second")[-1]
        assert (run.state, run.scheduled_at, run.batch_id) == (RunState.COMPLETED, LATER, started.batch_id)
        assert run.source_batch_id == leader.batch_id


class TestSource:
    def test_that_is_retried_meanwhile_is_waited_for(self, harness: ScheduleHarness) -> None:
        harness.create_schedule("second", after="nightly")
        harness.tick(NIGHT)
        harness.answer_jobs(failures_per_claim=1)
        batch_id = harness.runs()[0].batch_id or ""
        catalogue, harness.catalogue = harness.catalogue, Catalogue({})  # the run is planned, and can't begin
        harness.tick(MORNING)
        harness.catalogue = catalogue
        retry.retry_jobs(harness.database, batch_id, RetrySelection(), harness.settings.slice_size)

        harness.tick(MORNING + timedelta(minutes=1))
        assert harness.run_states("second") == ["waiting"]
        harness.answer_jobs()
        harness.tick(MORNING + timedelta(minutes=10))

        assert len(inputs(harness, only_run(harness, "second"))) == 3
        assert harness.event_kinds() == ["waiting"]

    def test_that_was_deleted_fails_the_run(self, harness: ScheduleHarness) -> None:
        harness.create_schedule("second", after="nightly")
        harness.tick(NIGHT)
        harness.answer_jobs()
        catalogue, harness.catalogue = harness.catalogue, Catalogue({})
        harness.tick(MORNING)
        harness.catalogue = catalogue
        batch_id = harness.runs()[0].batch_id or ""
        assert [batch.id for batch in retention.old_batches(harness.database, 0)] == [], "prune leaves it"

        delete.delete(harness.database, batch_id)
        for minutes in (1, 2):
            harness.tick(MORNING + timedelta(minutes=minutes))

        run = only_run(harness, "second")
        assert (run.state, run.error_code) == (RunState.FAILED, "batch_deleted")

    def test_may_be_pruned_once_it_is_read(self, harness: ScheduleHarness) -> None:
        harness.create_schedule("second", after="nightly")
        leader = run_leader(harness)
        harness.answer_jobs()
        assert list(retention.old_batches(harness.database, 0)) == []

        harness.tick(LATER)

        assert {batch.id for batch in retention.old_batches(harness.database, 0)} == {
            leader.batch_id,
            only_run(harness, "second").batch_id,
        }

    def test_a_pipeline_that_no_machine_has_fails_the_run_in_the_end(self, harness: ScheduleHarness) -> None:
        harness.create_schedule("second", after="nightly")
        harness.tick(NIGHT)
        harness.answer_jobs()
        harness.catalogue = Catalogue({})

        harness.tick(MORNING)
        assert harness.run_states("second") == ["waiting"]
        harness.tick(MORNING + timedelta(hours=2))

        assert harness.run_states("second") == ["failed"]
        assert harness.event_kinds() == ["waiting", "failed"]


class TestRegistry:
    def test_refuses_unknown_schedules_and_circles(self, harness: ScheduleHarness) -> None:
        with pytest.raises(UsageError, match="there is no schedule 'nowhere' to run after"):
            harness.create_schedule("second", after="nowhere")
        harness.create_schedule("second", after="nightly")
        harness.create_schedule("third", after="second")
        circle = validation.validate(
            "nightly",
            {"pipeline": harness.pipeline, "after": "third", "input": {"text": "output.label"}},
            harness.settings,
            harness.catalogue,
        )

        with pytest.raises(UsageError, match="nightly → third → second → nightly"):
            registry.create(harness.database, circle, CREATED_AT, replace=True)

    def test_refuses_to_delete_one_that_others_follow(self, harness: ScheduleHarness) -> None:
        harness.create_schedule("second", after="nightly")

        with pytest.raises(UsageError, match="second run after nightly"):
            registry.delete(harness.database, "nightly", NIGHT)
        registry.delete(harness.database, "second", NIGHT)
        registry.delete(harness.database, "nightly", NIGHT)

    def test_a_suspended_or_deleted_follower_gets_no_runs(self, harness: ScheduleHarness) -> None:
        harness.create_schedule("suspended", after="nightly")
        harness.create_schedule("deleted", after="nightly")
        registry.suspend(harness.database, "suspended", NIGHT)
        registry.delete(harness.database, "deleted", NIGHT)

        run_leader(harness)

        assert harness.runs("suspended") == harness.runs("deleted") == []

    def test_a_deleted_follower_s_planned_run_ends(self, harness: ScheduleHarness) -> None:
        harness.create_schedule("second", after="nightly")
        harness.tick(NIGHT)
        harness.answer_jobs()
        harness.catalogue = Catalogue({})
        harness.tick(MORNING)

        registry.delete(harness.database, "second", MORNING)

        run = only_run(harness, "second")
        assert (run.state, run.error_code, run.next_check_at) == (RunState.FAILED, "cancelled", None)

    def test_sync_creates_and_prunes_chains_in_their_order(self, harness: ScheduleHarness) -> None:
        definitions = {
            name: validation.validate(name, fields, harness.settings, harness.catalogue)
            for name, fields in {
                "c": {"pipeline": harness.pipeline, "after": "b", "input": {"text": "output.label"}},
                "b": {"pipeline": harness.pipeline, "after": "a", "input": {"text": "output.label"}},
                "a": {"pipeline": harness.pipeline, "cron": "0 2 * * *", "sql": "tickets", "input": {"text": "body"}},
            }.items()
        }

        assert config_sync.sync(harness.database, definitions, CREATED_AT).created == ("c", "b", "a")
        with pytest.raises(UsageError, match="no schedule 'a' to run after"):
            config_sync.sync(harness.database, {"b": definitions["b"]}, CREATED_AT, prune=True)
        by_hand = harness.create_schedule("d", after="c")
        with pytest.raises(UsageError, match="d runs after c, which --prune would delete; delete d first"):
            config_sync.sync(harness.database, {}, CREATED_AT, prune=True)
        registry.delete(harness.database, by_hand.name, CREATED_AT)
        assert config_sync.sync(harness.database, {}, CREATED_AT, prune=True).undeclared == ("a", "b", "c")
        assert [view.name for view in registry.list_schedules(harness.database)] == ["nightly"]

    def test_the_check_reads_the_last_completed_run(self, harness: ScheduleHarness) -> None:
        good = harness.create_schedule("second", after="nightly")
        bad = harness.create_schedule("third", after="nightly", input={"text": "output.text"})
        arguments = harness.database, harness.settings, harness.catalogue

        before = source_check.check_source(*arguments, good, NIGHT)
        run_leader(harness)

        assert (before.level, before.message) == ("warning", "nightly has no completed run yet, so nothing was read")
        assert source_check.check_source(*arguments, good, LATER).level == "ok"
        assert source_check.check_source(*arguments, bad, LATER).level == "problem"

    def test_the_check_warns_after_the_last_results_were_deleted(self, harness: ScheduleHarness) -> None:
        good = harness.create_schedule("second", after="nightly")
        leader = run_leader(harness)
        delete.delete(harness.database, leader.batch_id or "")

        check = source_check.check_source(harness.database, harness.settings, harness.catalogue, good, LATER)

        assert check.level == "warning"
        assert check.message == "the last results of nightly were deleted, so nothing was read"
