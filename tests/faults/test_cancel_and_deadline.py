"""Batches that are ended while they run: whoever computes for them stops soon, and writes nothing more."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.toys import TOY, json_lines, ledger, numbered, toy_mill
from tests.mill import Mill, until

JOBS = 1_600


@pytest.fixture
def ours(tmp_path: Path, database_url: str, redis_url: str) -> Iterator[Mill]:
    """A mill whose worker has the whole batch in hand at once, and would compute for many seconds."""
    with toy_mill(tmp_path, database_url=database_url, redis_url=redis_url, slice_jobs=800) as ours:
        ours.start("worker", TOY, TOY_LEDGER=str(tmp_path / "ledger"), TOY_PASS_SECONDS="0.1")
        ours.until_ready()
        yield ours


def check_ended(ours: Mill, batch_id: str, outcome: str) -> int:
    """What was answered came before, what was open has the outcome; returns how many were answered."""
    ours.audit(batch_id)
    rows = ours.query("SELECT seq, status FROM results WHERE batch_id = :id ORDER BY seq", id=batch_id)
    answered = sum(row.status == "succeeded" for row in rows)
    assert [row.status for row in rows] == ["succeeded"] * answered + [outcome] * (JOBS - answered)
    assert 0 < answered < JOBS
    return answered


def test_a_batch_is_cancelled_while_it_runs(ours: Mill, tmp_path: Path) -> None:
    batch = ours.client.submit(TOY, numbered(JOBS))
    ours.until_answered(batch.id, 1)

    assert ours.run("cancel", batch.id).returncode == 0

    assert ours.client.batch(batch.id).status == "cancelled"
    answered = check_ended(ours, batch.id, "cancelled")
    until(lambda: "leases were lost" in ours.log, "the worker noticing")
    after = ours.client.submit(TOY, ["after it"]).wait(90)
    ours.check(after.id, 1)
    assert check_ended(ours, batch.id, "cancelled") == answered
    # Of what was in the worker's hands it computed what was on the device, and what that had in the queue behind it.
    assert ledger(tmp_path / "ledger").total() < answered + JOBS // 4


def test_a_batch_s_deadline_passes_while_it_runs(ours: Mill, tmp_path: Path) -> None:
    submitted = ours.run("submit", "-", "-p", TOY, "--deadline", "3s", stdin=json_lines(numbered(JOBS)))
    batch = ours.client.batch(submitted.stdout.decode().strip()).wait(90)

    assert batch.status == "expired"
    answered = check_ended(ours, batch.id, "expired")
    until(lambda: "leases were lost" in ours.log, "the worker noticing")
    ours.check(ours.client.submit(TOY, ["after it"]).wait(90).id, 1)
    assert check_ended(ours, batch.id, "expired") == answered
    assert ledger(tmp_path / "ledger").total() < JOBS
