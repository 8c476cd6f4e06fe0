"""Batches that are ended while they run: whoever computes for them stops soon, and writes nothing more."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployment import Deployment, wait_for
from tests.faults.fake_model import FAKE_PIPELINE, count_forward_passes, fake_model_deployment, numbered_texts, to_jsonl

JOBS = 1_600


@pytest.fixture
def ours(tmp_path: Path, database_url: str, redis_url: str) -> Iterator[Deployment]:
    """A mill whose worker has the whole batch in hand at once, and would compute for many seconds."""
    with fake_model_deployment(tmp_path, database_url=database_url, redis_url=redis_url, slice_size=800) as ours:
        ours.start("worker", FAKE_PIPELINE, TOY_LEDGER=str(tmp_path / "ledger"), TOY_PASS_SECONDS="0.1")
        ours.wait_for_workers()
        yield ours


def check_ended(ours: Deployment, batch_id: str, outcome: str) -> int:
    """What was answered came before, what was open has the outcome; returns how many were answered."""
    ours.assert_consistent(batch_id)
    rows = ours.query("SELECT seq, status FROM results WHERE batch_id = :id ORDER BY seq", id=batch_id)
    answered = sum(row.status == "succeeded" for row in rows)
    assert [row.status for row in rows] == ["succeeded"] * answered + [outcome] * (JOBS - answered)
    assert 0 < answered < JOBS
    return answered


def test_a_batch_is_cancelled_while_it_runs(ours: Deployment, tmp_path: Path) -> None:
    batch = ours.client.submit(FAKE_PIPELINE, numbered_texts(JOBS))
    ours.wait_for_results(batch.id, 1)

    assert ours.run("cancel", batch.id).returncode == 0

    assert ours.client.batch(batch.id).status == "cancelled"
    answered = check_ended(ours, batch.id, "cancelled")
    wait_for(lambda: "leases.lost" in ours.log, "the worker noticing")
    after = ours.client.submit(FAKE_PIPELINE, ["after it"]).wait(90)
    ours.assert_completed(after.id, 1)
    assert check_ended(ours, batch.id, "cancelled") == answered
    # Of what was in the worker's hands it computed what was on the device, and what that had in the queue behind it.
    assert count_forward_passes(tmp_path / "ledger").total() < answered + JOBS // 4


def test_a_batch_s_deadline_passes_while_it_runs(ours: Deployment, tmp_path: Path) -> None:
    submitted = ours.run("submit", "-", "-p", FAKE_PIPELINE, "--deadline", "3s", stdin=to_jsonl(numbered_texts(JOBS)))
    batch = ours.client.batch(submitted.stdout.decode().strip()).wait(90)

    assert batch.status == "expired"
    answered = check_ended(ours, batch.id, "expired")
    wait_for(lambda: "leases.lost" in ours.log, "the worker noticing")
    ours.assert_completed(ours.client.submit(FAKE_PIPELINE, ["after it"]).wait(90).id, 1)
    assert check_ended(ours, batch.id, "expired") == answered
    assert count_forward_passes(tmp_path / "ledger").total() < JOBS
