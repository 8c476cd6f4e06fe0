"""Batches that are ended while they run: whoever computes for them stops soon, and writes nothing more."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployment import WAIT_TIMEOUT_SECONDS, Deployment, wait_for
from tests.faults.fake_model import FAKE_PIPELINE, count_forward_passes, fake_model_deployment, numbered_texts, to_jsonl

JOBS = 1_600


@pytest.fixture
def deployment(tmp_path: Path, database_url: str, redis_url: str) -> Iterator[Deployment]:
    """A deployment whose worker has the whole batch in hand at once, and would compute for many seconds."""
    with fake_model_deployment(tmp_path, database_url=database_url, redis_url=redis_url, slice_size=800) as deployment:
        deployment.start_worker(
            FAKE_PIPELINE, FAKE_FORWARD_LOG=str(tmp_path / "forward.log"), FAKE_FORWARD_SECONDS="0.3"
        )
        deployment.wait_for_workers()
        yield deployment


def check_ended(deployment: Deployment, batch_id: str, outcome: str) -> int:
    """What was answered came before, what was open has the outcome; returns how many were answered."""
    deployment.assert_consistent(batch_id)
    rows = deployment.query("SELECT seq, status FROM results WHERE batch_id = :id ORDER BY seq", id=batch_id)
    answered = sum(row.status == "succeeded" for row in rows)
    assert [row.status for row in rows] == ["succeeded"] * answered + [outcome] * (JOBS - answered)
    assert 0 < answered < JOBS
    return answered


def test_a_batch_is_cancelled_while_it_runs(deployment: Deployment, tmp_path: Path) -> None:
    batch = deployment.client.submit(FAKE_PIPELINE, numbered_texts(JOBS))
    deployment.wait_for_results(batch.id, 1)

    assert deployment.invoke("cancel", batch.id).returncode == 0

    assert deployment.client.batch(batch.id).status == "cancelled"
    answered = check_ended(deployment, batch.id, "cancelled")
    wait_for(lambda: "leases.lost" in deployment.log, "the worker noticing")
    after = deployment.client.submit(FAKE_PIPELINE, ["after it"]).wait(WAIT_TIMEOUT_SECONDS)
    deployment.assert_completed(after.id, 1)
    assert check_ended(deployment, batch.id, "cancelled") == answered
    # It computed what was on the device, and what that had in the queue behind it.
    assert count_forward_passes(tmp_path / "forward.log").total() < JOBS


def test_a_batch_s_deadline_passes_while_it_runs(deployment: Deployment, tmp_path: Path) -> None:
    submitted = deployment.invoke(
        "submit", "-", "-p", FAKE_PIPELINE, "--deadline", "1h", stdin=to_jsonl(numbered_texts(JOBS))
    )
    batch = deployment.client.batch(submitted.stdout.decode().strip())
    deployment.wait_for_results(batch.id, 1)

    deployment.execute("UPDATE batches SET expires_at = created_at")

    batch.wait(WAIT_TIMEOUT_SECONDS)
    assert batch.status == "expired"
    answered = check_ended(deployment, batch.id, "expired")
    wait_for(lambda: "leases.lost" in deployment.log, "the worker noticing")
    deployment.assert_completed(deployment.client.submit(FAKE_PIPELINE, ["after it"]).wait(WAIT_TIMEOUT_SECONDS).id, 1)
    assert check_ended(deployment, batch.id, "expired") == answered
    assert count_forward_passes(tmp_path / "forward.log").total() < JOBS
