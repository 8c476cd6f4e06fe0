"""A producer that is killed while it submits: nothing of its batch runs, and nothing of it is lost or in the way."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployment import WAIT_TIMEOUT_SECONDS, Deployment, wait_for
from tests.faults.fake_model import FAKE_PIPELINE, assert_outputs, fake_model_deployment, numbered_texts, to_jsonl

READ = 10_000  # lines of one chunk: a transaction
LINES = to_jsonl(numbered_texts(READ + READ // 2))


@pytest.fixture
def deployment(tmp_path: Path, database_url: str, redis_url: str) -> Iterator[Deployment]:
    settings = {"submit_timeout_seconds": "3"}
    with fake_model_deployment(
        tmp_path, database_url=database_url, redis_url=redis_url, slice_size=1024, **settings
    ) as deployment:
        yield deployment


def kill_half_way(deployment: Deployment, *options: str) -> str:
    """Kill a submit of which a chunk is in the database; returns the batch's id."""
    producer = deployment.start("submit", "-", "-p", FAKE_PIPELINE, *options, stdin=subprocess.PIPE)
    assert producer.stdin
    with producer.stdin:
        producer.stdin.write(LINES)
        producer.stdin.flush()
        wait_for(lambda: deployment.query("SELECT count(*) AS n FROM jobs")[0].n == READ, "the first chunk")
        producer.kill()
        producer.wait()
    return deployment.query("SELECT id FROM batches WHERE status = 'validating'")[0].id


def test_its_batch_stays_whole_and_does_not_run_until_somebody_ends_it(deployment: Deployment) -> None:
    batch_id = kill_half_way(deployment, "--idempotency-key", "k")
    deployment.start_worker(FAKE_PIPELINE, BATCHMILL_SUBMIT_TIMEOUT_SECONDS="86400")
    deployment.wait_for_workers()
    texts = numbered_texts(100)
    other = deployment.client.submit(FAKE_PIPELINE, texts).wait(WAIT_TIMEOUT_SECONDS)
    left = deployment.query(
        "SELECT status, (SELECT count(*) FROM jobs WHERE batch_id = :id) AS jobs, "
        "(SELECT count(*) FROM slices WHERE batch_id = :id) AS slices FROM batches WHERE id = :id",
        id=batch_id,
    )
    deployment.assert_consistent(batch_id)

    cancelled = deployment.invoke("cancel", batch_id)

    assert [tuple(row) for row in left] == [("validating", READ, 0)]
    assert cancelled.returncode == 0, cancelled.stderr
    deployment.assert_consistent(batch_id)
    view = deployment.client.batch(batch_id).view
    assert (view.status, view.counts.total, view.counts.cancelled) == ("cancelled", READ, READ)
    assert_outputs(deployment, other.id, texts)
    deployment.assert_completed(other.id, len(texts))


def test_its_batch_is_ended_for_it_once_nobody_has_heard_of_it_for_long(deployment: Deployment) -> None:
    batch_id = kill_half_way(deployment, "--idempotency-key", "k")
    deployment.start("maintain")

    batch = deployment.client.batch(batch_id).wait(WAIT_TIMEOUT_SECONDS)

    deployment.assert_consistent(batch_id)
    assert batch.status == "failed"
    assert batch.request_counts.failed == READ
    assert {row.error_code for row in deployment.query("SELECT error_code FROM results")} == {"submission_abandoned"}


def test_its_batch_is_deleted_if_nobody_can_resume_it(deployment: Deployment) -> None:
    kill_half_way(deployment)

    deployment.start("maintain")

    wait_for(lambda: not deployment.query("SELECT id FROM batches WHERE status <> 'deleting'"), "the mark")
