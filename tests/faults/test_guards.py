"""Guarded batches with workers that are killed, and with workers that do not know the guards."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployment import WAIT_TIMEOUT_SECONDS, Deployment, wait_for
from tests.faults.fake_model import FAKE_PIPELINE, NO_RESTART, PIPELINE_CONFIG, fake_model_deployment, numbered_texts

JOBS = 200
GUARDS = """
[pipelines.fake.guards.numbers]
on = "input"
pattern = "number"
action = "redact"
keep_original = true
"""

COUNT_REDACTED = """
SELECT count(*) AS jobs, count(r.position) AS results, count(r.guards) AS verdicts
FROM jobs j LEFT JOIN results r ON r.batch_id = j.batch_id AND r.position = j.position WHERE j.redacted
"""


@pytest.fixture
def deployment(tmp_path: Path, database_url: str, redis_url: str) -> Iterator[Deployment]:
    with fake_model_deployment(
        tmp_path, database_url=database_url, redis_url=redis_url, guards=GUARDS, max_claim_jobs="32"
    ) as deployment:
        yield deployment


def assert_redacted(deployment: Deployment, batch_id: str) -> None:
    """Assert that the model read no text as it was submitted."""
    deployment.assert_completed(batch_id, JOBS)  # with its counters
    redacted = [text.replace("number", "[REDACTED]") for text in numbered_texts(JOBS)]
    assert [output["text"] for output in deployment.outputs(batch_id)] == redacted
    assert deployment.query(COUNT_REDACTED)[0] == (JOBS, JOBS, JOBS)


@pytest.mark.parametrize("point", ["before_commit", "after_commit"])
def test_a_kill_leaves_no_redacted_input_without_its_verdict(deployment: Deployment, point: str) -> None:
    batch = deployment.client.submit(FAKE_PIPELINE, numbered_texts(JOBS))
    doomed = deployment.start("worker", FAKE_PIPELINE, BATCHMILL_FAILPOINT=f"{point}:kill@2", **NO_RESTART)
    wait_for(lambda: "exit_status=-9" in deployment.log or '"exit_status": -9' in deployment.log, "a kill")
    doomed.terminate()
    doomed.wait(WAIT_TIMEOUT_SECONDS)

    [(jobs, results, verdicts)] = deployment.query(COUNT_REDACTED)
    deployment.start_worker(FAKE_PIPELINE)
    batch.wait(WAIT_TIMEOUT_SECONDS)

    assert 0 < jobs == results == verdicts < JOBS
    assert_redacted(deployment, batch.id)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_worker_without_the_guard_leaves_the_batch_alone(deployment: Deployment, tmp_path: Path) -> None:
    unguarded = tmp_path / "unguarded.toml"
    unguarded.write_text(PIPELINE_CONFIG)
    deployment.start_worker(FAKE_PIPELINE, BATCHMILL_CONFIG=str(unguarded))
    deployment.wait_for_workers()

    batch = deployment.client.submit(FAKE_PIPELINE, numbered_texts(JOBS))

    wait_for(lambda: [reason.code for reason in batch.find_blockers()] == ["guard_missing"], "the reason")
    assert deployment.query("SELECT count(*) AS n FROM attempts")[0].n == 0
    deployment.start_worker(FAKE_PIPELINE)
    batch.wait(WAIT_TIMEOUT_SECONDS)
    assert_redacted(deployment, batch.id)
