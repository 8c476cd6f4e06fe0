"""Samples and marks are found by index, also where a retry has left gaps."""

from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from models import vectors
from models.db import Database
from producer.results.summaries import marks, samples
from tests import fake_worker
from tests.factories.batch_rows import execute, insert_batch

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def batch_id(database: Database) -> str:
    batch_id = insert_batch(database, 120)
    fake_worker.write_results(database, batch_id, [(place, {"label": f"{place}"}) for place in range(100)])
    return batch_id


def test_all_results_of_a_small_batch_are_read(database: Database, batch_id: str) -> None:
    sample = samples.read_sample(database, batch_id, 100)

    assert len(sample.results) == sample.total == 100
    assert sorted(int(result.output["label"]) for result in sample.results) == list(range(100))
    assert not sample.is_partial


def test_a_sample_is_spread_and_skips_gaps(database: Database, batch_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "MAX_ALL", 50)
    monkeypatch.setattr(samples, "SAMPLE", 10)
    execute(database, "DELETE FROM results WHERE seq IN (1, 12)")

    sample = samples.read_sample(database, batch_id, 98)

    assert 8 <= len(sample.results) <= 10
    places = sorted(int(result.output["label"]) for result in sample.results)
    assert places[0] == 1
    assert places[-1] == 99
    assert sample.is_partial


def test_a_sample_of_a_batch_with_retries_is_as_large(
    database: Database, batch_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "MAX_ALL", 15)
    monkeypatch.setattr(samples, "SAMPLE", 10)
    execute(database, "UPDATE results SET seq = seq * 7 + 1000")

    sample = samples.read_sample(database, batch_id, 100)

    assert len(sample.results) >= 10


def test_bare_numbers_and_texts_are_read(database: Database) -> None:
    """SQLite would give numbers of a column of documents as numbers."""
    batch_id = insert_batch(database, 5)
    fake_worker.write_results(database, batch_id, [(0, 0.5), (1, 42), (2, True), (3, [1])])
    execute(database, "UPDATE results SET output = '\"a text\"' WHERE position = 3")

    results = samples.read_sample(database, batch_id, 4).results

    assert sorted((result.output for result in results), key=str) == [0.5, 42, True, "a text"]


def test_large_outputs_and_vectors_are_not_read(
    database: Database, batch_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = insert_batch(database, 4)
    wide = {"label": "".join(map(chr, range(0x4E00, 0x4E00 + 15_000)))}
    outputs: list[tuple[int, Any]] = [(0, wide), (1, vectors.from_numbers([0.5, 1.0, 2.0])), (2, "empty_text")]
    fake_worker.write_results(database, other, [*outputs, (3, {"label": "A"})])
    monkeypatch.setattr(samples, "MAX_CHARACTERS", 1_000)

    results = sorted(samples.read_sample(database, other, 4).results, key=lambda result: str(result.output))

    assert [result.output for result in results if result.output] == [{"label": "A"}]
    assert [result.is_too_large for result in results].count(True) == 1
    assert [result.vector_length for result in results if result.vector_length] == [3]
    assert [result.status for result in results].count("failed") == 1


def test_versions_are_counted(database: Database, batch_id: str) -> None:
    version_id = fake_worker.ensure_model_version(database)

    assert samples.read_versions(database, {version_id: 7})[0][0].dtype == "float32"
    assert samples.read_versions(database, {version_id: 7})[0][1] == 7
    assert samples.read_versions(database, {}) == []


def test_marks_are_results_and_gaps_have_none(
    database: Database, batch_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marks, "MARKS", 10)
    execute(database, "DELETE FROM results WHERE seq BETWEEN 30 AND 80")
    execute(database, "UPDATE results SET slice_id = 1 WHERE seq <> 100")
    execute(database, "UPDATE slices SET first_claimed_at = :time", time=NOW.replace(tzinfo=None).isoformat(" "))

    found = marks.read_marks(database, batch_id, with_recent=True)

    assert [mark.seq for mark in found.all] == [1, 12, 23, 81, 89, 100]
    assert [mark.is_worked for mark in found.all] == [True] * 5 + [False]
    assert found.began_at == NOW
    assert {mark.seq for mark in found.recent} <= {*range(1, 30), *range(81, 101)}
    assert found.recent[-1].seq == 100
    assert all(mark.finished_at > NOW - timedelta(days=1) for mark in found.all)


def test_a_batch_without_results_has_neither(database: Database) -> None:
    batch_id = insert_batch(database, 1)

    assert marks.read_marks(database, batch_id, with_recent=True) == marks.Marks(None, ())
    assert samples.read_sample(database, batch_id, 0).results == ()
    assert samples.read_sample(database, "batch_nope", 5).results == ()


def test_sqlite_looks_results_up_by_index(sqlite_url: str) -> None:
    queries = {
        marks.SELECT_MARKS["sqlite"]: {"numbers": "1,5"},
        samples.SELECT_OUTPUTS.format(
            output="r.output", vector_length="NULL", results=marks.PICK_RESULTS["sqlite"].format(column="seq")
        ): {"numbers": "1,5", "limit": 9},
        marks.SELECT_ENDS: {},
    }
    for query, params in queries.items():
        with closing(Database(sqlite_url)) as database, database.read() as connection:
            plan = connection.execute(text(f"EXPLAIN QUERY PLAN {query}"), {"batch_id": "batch_1", **params}).all()
        steps = [row.detail for row in plan if "results" in row.detail or "SEARCH" in row.detail or " r " in row.detail]
        assert steps
        assert all("USING" in step and "INDEX" in step for step in steps if step.startswith("SEARCH"))
        assert not any(step.startswith(("SCAN r", "SCAN f")) for step in steps)
