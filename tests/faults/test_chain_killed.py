"""A chain of three batches whose submitters and workers are killed: nothing is lost or twice, and links are right."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.deployment import WAIT_TIMEOUT_SECONDS, Deployment, wait_for
from tests.faults.fake_model import FAKE_PIPELINE, assert_outputs, fake_model_deployment

JOBS = 600
TEXTS = [f"number {place:06} {'x' * 10_000}" for place in range(JOBS)]  # two chunks
KILLED = -9


@pytest.fixture
def deployment(tmp_path: Path, database_url: str, redis_url: str) -> Iterator[Deployment]:
    with fake_model_deployment(
        tmp_path, database_url=database_url, redis_url=redis_url, max_claim_jobs="32"
    ) as deployment:
        yield deployment


def submit_with_a_kill(deployment: Deployment, key: str, *source: str) -> str:
    """Kill a submitter after its first chunk, and repeat its command; returns the batch's id."""
    command = ("submit", *source, "-p", FAKE_PIPELINE, "--idempotency-key", key)
    assert (
        deployment.start(*command, BATCHMILL_FAILPOINT="after_ingest_chunk:kill").wait(WAIT_TIMEOUT_SECONDS) == KILLED
    )
    [batch] = deployment.query("SELECT id, rows_read FROM batches WHERE idempotency_key = :key", key=key)
    assert 0 < batch.rows_read < JOBS

    repeated = deployment.invoke(*command)

    assert repeated.returncode == 0, repeated.stderr
    assert repeated.stdout.decode().strip() == batch.id
    return str(batch.id)


def kill_worker(supervisor: psutil.Process) -> None:
    """Kill the worker process; the supervisor starts another."""
    for child in wait_for(supervisor.children, "a worker"):
        with suppress(psutil.NoSuchProcess):
            child.kill()


def test_a_chain_of_batches_survives_kills(deployment: Deployment, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"id": text[:13], "text": text}) + "\n" for text in TEXTS))
    supervisor = psutil.Process(
        deployment.start("worker", FAKE_PIPELINE, "--devices", "cpu", FAKE_FORWARD_SECONDS="0.03").pid
    )
    from_results = ("--input", "text=output.text", "--from")

    batch_ids: list[str] = []
    for key, options in (("a", (str(path),)), ("b", from_results), ("c", ("--on-invalid", "fail-row", *from_results))):
        batch_ids.append(submit_with_a_kill(deployment, key, *options, *batch_ids[-1:]))
        deployment.wait_for_results(batch_ids[-1], 1)
        kill_worker(supervisor)
        deployment.client.batch(batch_ids[-1]).wait(WAIT_TIMEOUT_SECONDS)

    for batch_id, source_id in zip(batch_ids, (None, *batch_ids), strict=False):
        deployment.assert_completed(batch_id, JOBS)
        assert_outputs(deployment, batch_id, TEXTS)
        rows = deployment.query(
            "SELECT custom_id, source_batch_id, source_position FROM job_results WHERE batch_id = :id "
            "ORDER BY position",
            id=batch_id,
        )
        positions = range(JOBS) if source_id else [None] * JOBS
        assert [tuple(row) for row in rows] == [
            (text[:13], source_id, position) for text, position in zip(TEXTS, positions, strict=True)
        ]
    killed = deployment.query("SELECT count(DISTINCT worker_id) AS n FROM attempts WHERE outcome = 'killed'")[0].n
    assert killed > 0, "the kills came too late to show anything"
