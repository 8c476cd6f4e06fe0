"""Failures by code, with examples, of few and of very many."""

import pytest

from models.db import Database
from producer.results.summaries import failure_groups
from producer.results.summaries.failure_groups import ALL, count_failures
from tests import fake_worker
from tests.factories.batch_rows import execute, insert_batch

CODES = ["empty_text", "input_too_long", "empty_text", "model_error", "empty_text", "input_too_long"]


@pytest.fixture
def batch_id(database: Database) -> str:
    inputs = [{"text": "x" * 5000 if place == 1 else f"text {place}"} for place in range(10)]
    batch_id = insert_batch(database, inputs)
    fake_worker.write_results(database, batch_id, [*enumerate(CODES, start=1), (0, {"label": "A"})])
    return batch_id


def test_the_most_frequent_come_first_with_their_first_job(database: Database, batch_id: str) -> None:
    failures = count_failures(database, batch_id, 6)

    assert [(group.code, group.jobs, group.example.position) for group in failures.groups] == [
        ("empty_text", 3, 1),
        ("input_too_long", 2, 2),
        ("model_error", 1, 4),
    ]
    assert failures.is_exact
    assert failures.groups[0].explanation.title
    assert failures.groups[1].example.input_text.replace(" ", "") == '{"text":"text2"}'
    assert failures.groups[1].example.message == "it could not be answered"


def test_rows_that_never_ran_are_apart_from_jobs_with_the_same_code(database: Database, batch_id: str) -> None:
    execute(database, "UPDATE jobs SET invalid = :yes WHERE position IN (1, 3)", yes=True)
    execute(database, "UPDATE results SET attempts = 0 WHERE position IN (1, 3)")

    failures = count_failures(database, batch_id, 6)

    empty = [(group.jobs, group.example.is_invalid) for group in failures.groups if group.code == "empty_text"]
    assert empty == [(2, True), (1, False)]
    assert (failures.invalid_rows, failures.can_retry) == (2, True)


def test_no_retry_helps_where_every_failure_is_an_invalid_row(database: Database, batch_id: str) -> None:
    execute(database, "UPDATE jobs SET invalid = :yes", yes=True)
    execute(database, "UPDATE results SET attempts = 0")

    assert not count_failures(database, batch_id, 6).can_retry
    assert count_failures(database, batch_id, 6, 2).can_retry  # others may be among those that were not counted


def test_texts_of_examples_are_cut(database: Database, batch_id: str) -> None:
    execute(database, "UPDATE results SET error_message = :text WHERE position = 1", text="y" * 5000)

    example = count_failures(database, batch_id, 6).groups[0].example

    assert len(example.input_text) == len(example.message) == 2000


def test_of_many_failures_the_first_are_counted(database: Database, batch_id: str) -> None:
    failures = count_failures(database, batch_id, 6, 2)

    assert {group.code: group.jobs for group in failures.groups} == {"empty_text": 1, "input_too_long": 1}
    assert (failures.counted, failures.total, failures.is_exact) == (2, 6, False)


def test_rare_codes_are_summed_up(database: Database, batch_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failure_groups, "MAX_GROUPS", 1)

    failures = count_failures(database, batch_id, 6)

    assert [group.code for group in failures.groups] == ["empty_text"]
    assert failures.other_jobs == 3


def test_a_batch_without_failures_has_no_groups(database: Database) -> None:
    batch_id = insert_batch(database, 2)

    assert count_failures(database, batch_id, 0).groups == ()
    assert count_failures(database, batch_id, 3, ALL).groups == ()
