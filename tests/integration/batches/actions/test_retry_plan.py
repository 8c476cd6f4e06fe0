"""A plan of a retry counts the jobs that the retry then takes."""

import pytest

from models.db import Database
from models.error_catalogue import Remedy
from models.states import BatchStatus, JobOutcome
from producer.batches import failure_counts, views
from producer.batches.actions import readers_of_batch, retry, retry_plan
from producer.batches.actions.retry import RetrySelection
from tests.factories.batch_rows import execute, insert_batch, update_batch
from tests.fake_worker import end_batch, write_results


@pytest.fixture
def batch_id(database: Database) -> str:
    """An ended batch with failures of three codes, of which one is of invalid rows."""
    batch_id = insert_batch(database, 12)
    codes = ["out_of_memory"] * 5 + ["input_too_long"] * 3 + ["empty_text"] * 2
    write_results(database, batch_id, [*enumerate(codes), (10, {"label": "A"}), (11, {"label": "A"})])
    execute(database, "UPDATE results SET attempts = 0 WHERE error_code = 'empty_text'")
    execute(database, "UPDATE jobs SET invalid = true WHERE position IN (8, 9)")
    end_batch(database, batch_id, BatchStatus.COMPLETED)
    return batch_id


def test_all_failed_jobs_are_counted_by_code(database: Database, batch_id: str) -> None:
    plan = retry_plan.plan_retry(database, views.get_batch(database, batch_id), RetrySelection())

    assert [(code.count.code, code.count.jobs, code.is_chosen) for code in plan.codes] == [
        ("out_of_memory", 5, True),
        ("input_too_long", 3, True),
    ]
    assert (plan.jobs, plan.suggested_jobs, plan.invalid_rows, plan.has_choice) == (8, 5, 2, True)
    assert [code.explanation.remedy for code in plan.codes] == [Remedy.RETRY, Remedy.INPUT]


@pytest.mark.parametrize(
    ("selection", "jobs"),
    [
        (RetrySelection(), 8),
        (RetrySelection(codes=("out_of_memory",)), 5),
        (RetrySelection(codes=("out_of_memory", "input_too_long")), 8),
    ],
)
def test_a_retry_takes_the_jobs_of_its_plan(
    database: Database, batch_id: str, selection: RetrySelection, jobs: int
) -> None:
    plan = retry_plan.plan_retry(database, views.get_batch(database, batch_id), selection)

    result = retry.retry_jobs(database, batch_id, selection, 4)

    assert plan.jobs == result.jobs == jobs


def test_more_failures_than_are_counted_are_not_exact(
    database: Database, batch_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = failure_counts.count_failures(database, batch_id, 6)

    assert not counts.is_exact
    assert [(count.code, count.jobs) for count in counts.codes] == [("out_of_memory", 5), ("input_too_long", 1)]

    monkeypatch.setattr(failure_counts.count_failures, "__defaults__", (6,))
    plan = retry_plan.plan_retry(database, views.get_batch(database, batch_id), RetrySelection())
    assert (plan.jobs, plan.has_choice, plan.is_upper_bound) == (10, False, True)


def test_failures_without_a_code_can_not_be_chosen_by_it(database: Database, batch_id: str) -> None:
    execute(database, "UPDATE results SET error_code = NULL WHERE position = 0")

    plan = retry_plan.plan_retry(database, views.get_batch(database, batch_id), RetrySelection())

    assert (plan.jobs, plan.has_choice) == (8, False)


def test_jobs_that_were_not_run_are_counted(database: Database, batch_id: str) -> None:
    update_batch(database, batch_id, cancelled=7, expired=2)
    both = RetrySelection((JobOutcome.CANCELLED, JobOutcome.EXPIRED))

    plan = retry_plan.plan_retry(database, views.get_batch(database, batch_id), both)

    assert (plan.jobs, plan.chosen, plan.has_choice) == (9, (), False)


def test_one_job_says_whether_it_can_run_again(database: Database, batch_id: str) -> None:
    can_retry = [retry_plan.find_job(database, batch_id, position) for position in (0, 8, 10)]

    assert [job is not None and job.can_retry for job in can_retry] == [True, False, False]
    assert retry_plan.find_job(database, batch_id, 99) is None


def test_open_batches_that_read_a_batch_are_found(database: Database, batch_id: str) -> None:
    follower = insert_batch(database, 1, source_batch_id=batch_id)
    ended = insert_batch(database, 1, source_batch_id=batch_id)
    end_batch(database, ended, BatchStatus.COMPLETED)

    assert readers_of_batch.find_readers(database, batch_id).batch_ids == (follower,)
    assert readers_of_batch.find_readers(database, batch_id).schedules == ()
