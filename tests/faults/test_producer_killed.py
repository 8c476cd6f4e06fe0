"""A producer that is killed while it submits: nothing of its batch runs, and nothing of it is lost or in the way."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployment import Deployment, wait_for
from tests.faults.fake_model import FAKE_PIPELINE, assert_outputs, fake_model_deployment, numbered_texts, to_jsonl

READ = 10_000  # lines of one chunk: a transaction
LINES = to_jsonl(numbered_texts(READ + READ // 2))


@pytest.fixture
def ours(tmp_path: Path, database_url: str, redis_url: str) -> Iterator[Deployment]:
    settings = {"submit_timeout_seconds": "3"}
    with fake_model_deployment(
        tmp_path, database_url=database_url, redis_url=redis_url, slice_size=1024, **settings
    ) as ours:
        yield ours


def kill_half_way(ours: Deployment, *options: str) -> str:
    """Kill a submit of which a chunk is in the database; returns the batch's id."""
    producer = ours.start("submit", "-", "-p", FAKE_PIPELINE, *options, stdin=subprocess.PIPE)
    assert producer.stdin
    with producer.stdin:
        producer.stdin.write(LINES)
        producer.stdin.flush()
        wait_for(lambda: ours.query("SELECT count(*) AS n FROM jobs")[0].n == READ, "the first chunk")
        producer.kill()
        producer.wait()
    return ours.query("SELECT id FROM batches WHERE status = 'validating'")[0].id


def test_its_batch_stays_whole_and_does_not_run_until_somebody_ends_it(ours: Deployment) -> None:
    batch_id = kill_half_way(ours, "--idempotency-key", "k")
    ours.start("worker", FAKE_PIPELINE, BATCHMILL_SUBMIT_TIMEOUT_SECONDS="86400")
    ours.wait_for_workers()
    texts = numbered_texts(100)
    other = ours.client.submit(FAKE_PIPELINE, texts).wait(90)
    left = ours.query(
        "SELECT status, (SELECT count(*) FROM jobs WHERE batch_id = :id) AS jobs, "
        "(SELECT count(*) FROM slices WHERE batch_id = :id) AS slices FROM batches WHERE id = :id",
        id=batch_id,
    )
    ours.assert_consistent(batch_id)

    cancelled = ours.run("cancel", batch_id)

    assert [tuple(row) for row in left] == [("validating", READ, 0)]
    assert cancelled.returncode == 0, cancelled.stderr
    ours.assert_consistent(batch_id)
    view = ours.client.batch(batch_id).view
    assert (view.status, view.counts.total, view.counts.cancelled) == ("cancelled", READ, READ)
    assert_outputs(ours, other.id, texts)
    ours.assert_completed(other.id, len(texts))


def test_its_batch_is_ended_for_it_once_nobody_has_heard_of_it_for_long(ours: Deployment) -> None:
    batch_id = kill_half_way(ours, "--idempotency-key", "k")
    ours.start("maintain")

    batch = ours.client.batch(batch_id).wait(90)

    ours.assert_consistent(batch_id)
    assert batch.status == "failed"
    assert batch.request_counts.failed == READ
    assert {row.error_code for row in ours.query("SELECT error_code FROM results")} == {"submission_abandoned"}


def test_its_batch_is_deleted_if_nobody_can_resume_it(ours: Deployment) -> None:
    kill_half_way(ours)

    ours.start("maintain")

    wait_for(lambda: not ours.query("SELECT id FROM batches WHERE status <> 'deleting'"), "the mark")
