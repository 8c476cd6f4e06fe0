"""Vectors on their way through SQL: written by commits, read as pages and by SQL, copied, and bounded in memory."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psycopg
import pytest
from sqlalchemy import text

from models import vectors
from models.db import Database
from models.states import JobOutcome
from producer.results import pages
from tests.factories.batch_rows import MODEL_VERSION, assert_consistent, claimant_for, get_results, insert_batch
from tests.factories.sqlite_vec import connect_with_sqlite_vec
from worker.leasing import commit
from worker.leasing.claiming import claims
from worker.leasing.job_results import BatchCommit, JobResult
from worker.loading import versions

RANDOM = np.random.default_rng(0).standard_normal((4, 384)).astype("<f4")
UNUSUAL = np.array([0.0, -0.0, 3.4e38, -3.4e38, 1e-45, 0.1], "<f4")
AXES = np.array([[1, 0, 0], [0, 1, 0], [0.9, 0.1, 0]], "<f4")


def write(database: Database, outputs: Sequence[bytes | str | None], *, is_retry: bool = False) -> str:
    """Commit a batch with these vectors and JSON texts; None is a failure."""
    batch_id = insert_batch(database, len(outputs), slice_size=len(outputs))
    [lease] = claims.claim(database, claimant_for(), len(outputs), len(outputs))
    results = [
        JobResult(lease, position, JobOutcome.FAILED, error_code="model_error", error_message="No.")
        if output is None
        else JobResult(lease, position, JobOutcome.SUCCEEDED, vector=output)
        if isinstance(output, bytes)
        else JobResult(lease, position, JobOutcome.SUCCEEDED, output)
        for position, output in enumerate(outputs)
    ]
    planned = BatchCommit([lease], results, {lease.slice_id}, versions.register_version(database, MODEL_VERSION))
    with database.write() as connection:
        assert commit.commit_results(connection, planned, is_retry=is_retry).results_written == len(outputs)
    return batch_id


class TestPages:
    @pytest.mark.parametrize(
        "outputs",
        [
            [vector.tobytes() for vector in RANDOM],
            [UNUSUAL.tobytes()],
            [bytes(4)],
            [np.arange(vectors.MAX_DIMENSIONS, dtype="<f4").tobytes()],
            ["[1,2]", UNUSUAL.tobytes(), None, '{"label":"x"}'],
        ],
        ids=["random", "unusual", "one number", "longest", "beside others"],
    )
    def test_have_the_bytes_that_were_written(self, database: Database, outputs: list[bytes | str | None]) -> None:
        batch_id = write(database, outputs)

        by_seq = list(pages.iter_results(database, batch_id))
        by_position = list(pages.iter_by_position(database, batch_id))

        expected = [output if isinstance(output, bytes) else None for output in outputs]
        assert [row.vector for row in by_seq] == [row.vector for row in by_position] == expected
        assert [row.vector for row in get_results(database, batch_id)] == expected
        assert [row.output for row in by_seq] == [
            np.frombuffer(output, "<f4").tolist() if isinstance(output, bytes) else output and json.loads(output)
            for output in outputs
        ]
        assert_consistent(database, batch_id)

    def test_end_early_where_vectors_are_long(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pages, "FETCH_ROWS", 2)
        monkeypatch.setattr(pages, "PAGE_CHARACTERS", 100_000)
        batch_id = write(database, [bytes(4 * vectors.MAX_DIMENSIONS)] * 7)

        lengths = [len(page) for page in pages.iter_pages(database, batch_id)]

        assert lengths == [2, 2, 2, 1]


def test_a_repeated_commit_writes_no_vector_twice(database: Database) -> None:
    batch_id = insert_batch(database, 2)
    [lease] = claims.claim(database, claimant_for(), 2, 4)
    results = [JobResult(lease, place, JobOutcome.SUCCEEDED, vector=UNUSUAL.tobytes()) for place in range(2)]
    planned = BatchCommit([lease], results, (), versions.register_version(database, MODEL_VERSION))

    with database.write() as connection:
        commit.commit_results(connection, planned)
    with database.write() as connection:
        repeated = commit.commit_results(connection, planned, is_retry=True)

    assert repeated.results_written == 0
    assert [row.vector for row in get_results(database, batch_id)] == [UNUSUAL.tobytes()] * 2


class TestSql:
    """The expressions of docs/how-to/vectors.md."""

    def test_of_postgresql_reads_numbers_and_json(self, postgresql_url: str) -> None:
        database = Database(postgresql_url)
        batch_id = write(database, [UNUSUAL.tobytes(), '{"label":"x"}'])

        query = text("SELECT vector, output FROM job_results WHERE batch_id = :id ORDER BY position")
        with database.read() as connection:
            [vector, other] = connection.execute(query, {"id": batch_id}).all()

        assert np.array(vector.vector, "<f4").tobytes() == UNUSUAL.tobytes()
        assert np.array(vector.output, "<f4").tolist() == UNUSUAL.tolist()
        assert tuple(other) == (None, {"label": "x"})
        database.close()

    def test_of_pgvector_finds_the_nearest(self, postgresql_url: str) -> None:
        database = Database(postgresql_url)
        write(database, [vector.tobytes() for vector in AXES])

        with psycopg.connect(postgresql_url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            rows = connection.execute("""
                SELECT position, vector::vector(3) <=> '[1,0,0]' AS distance FROM job_results
                WHERE status = 'succeeded' ORDER BY distance LIMIT 2
            """).fetchall()

        assert [position for position, _ in rows] == [0, 2]
        assert rows[1][1] == pytest.approx(1 - 0.9 / np.hypot(0.9, 0.1), abs=1e-6)
        database.close()

    def test_of_sqlite_vec_finds_the_nearest_and_reads_json(self, sqlite_url: str) -> None:
        database = Database(sqlite_url)
        write(database, [vector.tobytes() for vector in AXES])

        connection = connect_with_sqlite_vec(Path(sqlite_url.removeprefix("sqlite:///")))
        nearest = connection.execute(
            "SELECT position, vec_distance_cosine(vector, '[1,0,0]') AS distance FROM job_results ORDER BY 2 LIMIT 2"
        ).fetchall()
        [[document, blob]] = connection.execute("SELECT vec_to_json(vector), vector FROM results WHERE position = 2")
        connection.close()

        assert [position for position, _ in nearest] == [0, 2]
        assert np.array(json.loads(document), "<f4") == pytest.approx(AXES[2], abs=1e-6)
        assert np.frombuffer(blob, "<f4").tolist() == AXES[2].tolist()
        database.close()
