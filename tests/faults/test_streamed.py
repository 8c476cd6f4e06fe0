"""A batch that is worked on while it is read from a pipe, and a submitter that is killed meanwhile."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployment import WAIT_TIMEOUT_SECONDS, Deployment, wait_for
from tests.faults.fake_model import FAKE_PIPELINE, assert_outputs, fake_model_deployment, numbered_texts, to_jsonl

TEXTS = numbered_texts(400)


@pytest.fixture
def deployment(tmp_path: Path, database_url: str, redis_url: str) -> Iterator[Deployment]:
    with fake_model_deployment(tmp_path, database_url=database_url, redis_url=redis_url, slice_size=8) as deployment:
        deployment.start_worker(FAKE_PIPELINE)
        deployment.wait_for_workers()
        yield deployment


def submit(deployment: Deployment, *options: str) -> subprocess.Popen[bytes]:
    return deployment.start(
        "submit", "-", "-p", FAKE_PIPELINE, "--on-invalid", "fail-row", *options, stdin=subprocess.PIPE
    )


def trickle(deployment: Deployment, producer: subprocess.Popen[bytes]) -> int:
    """Write one line after another until results have landed; returns how many lines."""
    written = 0

    def landed() -> bool:
        nonlocal written
        assert producer.stdin
        assert producer.poll() is None, deployment.log
        if written < len(TEXTS) - 10:
            producer.stdin.write(to_jsonl(TEXTS[written : written + 1]))
            producer.stdin.flush()
            written += 1
        return bool(deployment.query("SELECT count(*) AS n FROM results")[0].n)

    wait_for(landed, "the first results")
    return written


def kill(producer: subprocess.Popen[bytes]) -> None:
    assert producer.stdin
    producer.kill()
    producer.wait()
    producer.stdin.close()


def the_batch(deployment: Deployment) -> str:
    [row] = deployment.query("SELECT id, status, ingesting FROM batches")
    assert (row.status, bool(row.ingesting)) == ("in_progress", True)
    deployment.assert_consistent(row.id)
    return str(row.id)


def test_results_land_before_the_source_has_ended(deployment: Deployment) -> None:
    producer = submit(deployment)
    written = trickle(deployment, producer)
    batch_id = the_batch(deployment)
    wait_for(
        lambda: deployment.query("SELECT count(*) AS n FROM slices WHERE state <> 'done'")[0].n == 0, "all that is in"
    )

    batch_id = the_batch(deployment)
    assert producer.stdin
    producer.stdin.write(to_jsonl(TEXTS[written:]))
    producer.stdin.close()

    assert producer.wait(WAIT_TIMEOUT_SECONDS) == 0
    deployment.client.batch(batch_id).wait(WAIT_TIMEOUT_SECONDS)
    deployment.assert_completed(batch_id, len(TEXTS))
    assert_outputs(deployment, batch_id, TEXTS)
    assert "is processing while still ingesting" in deployment.log


def test_a_killed_submitter_s_batch_ends_with_what_it_has(deployment: Deployment) -> None:
    producer = submit(deployment)
    trickle(deployment, producer)
    batch_id = the_batch(deployment)

    kill(producer)
    deployment.start("maintain", BATCHMILL_SUBMIT_TIMEOUT_SECONDS="1")

    batch = deployment.client.batch(batch_id).wait(WAIT_TIMEOUT_SECONDS)
    deployment.assert_consistent(batch_id)
    assert (batch.status, batch.view.error_code) == ("failed", "submission_abandoned")
    assert batch.request_counts.succeeded > 0


def test_under_a_key_the_same_command_goes_on(deployment: Deployment) -> None:
    producer = submit(deployment, "--idempotency-key", "k")
    trickle(deployment, producer)
    batch_id = the_batch(deployment)
    kill(producer)

    again = deployment.invoke(
        "submit", "-", "-p", FAKE_PIPELINE, "--on-invalid", "fail-row", "--idempotency-key", "k", stdin=to_jsonl(TEXTS)
    )

    assert again.returncode == 0, again.stderr
    assert again.stdout.decode().strip() == batch_id
    deployment.client.batch(batch_id).wait(WAIT_TIMEOUT_SECONDS)
    deployment.assert_completed(batch_id, len(TEXTS))
    assert_outputs(deployment, batch_id, TEXTS)
