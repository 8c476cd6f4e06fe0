"""Those who look after things: two at once do nothing twice, and what a dead one left half done another does."""

import signal
from pathlib import Path

from tests.deployment import WAIT_TIMEOUT_SECONDS, Deployment, wait_for
from tests.faults.fake_model import FAKE_PIPELINE, assert_outputs, fake_model_deployment, numbered_texts

JOBS = 64


def leave_leases_behind(deployment: Deployment) -> int:
    """A worker takes slices, and is killed, with nobody to see it; returns how many slices that were."""
    worker = deployment.start_worker(FAKE_PIPELINE, BATCHMILL_FAILPOINT="after_claim:sleep")
    wait_for(lambda: leased(deployment), "a claim")
    worker.kill()
    worker.wait(WAIT_TIMEOUT_SECONDS)
    return leased(deployment)


def leased(deployment: Deployment) -> int:
    found: int = deployment.query("SELECT count(*) AS n FROM slices WHERE state = 'leased'")[0].n
    return found


def test_a_duty_is_done_once_though_two_come_and_one_dies_half_way(
    tmp_path: Path, database_url: str, redis_url: str
) -> None:
    texts = numbered_texts(JOBS)
    with fake_model_deployment(tmp_path, database_url=database_url, redis_url=redis_url) as deployment:
        batch = deployment.client.submit(FAKE_PIPELINE, texts)
        left = leave_leases_behind(deployment)
        deployment.expire_leases()
        doomed = deployment.start("maintain", BATCHMILL_FAILPOINT="in_maintenance:kill")
        assert doomed.wait(WAIT_TIMEOUT_SECONDS) == -signal.SIGKILL
        deployment.assert_consistent(batch.id)

        for _ in range(2):
            deployment.start("maintain")
        wait_for(lambda: leased(deployment) == 0, "what was left behind to be queued")
        deployment.start_worker(FAKE_PIPELINE)
        batch.wait(WAIT_TIMEOUT_SECONDS)

        deployment.assert_completed(batch.id, JOBS)
        assert_outputs(deployment, batch.id, texts)
        lapsed = deployment.query(
            "SELECT slice_id, count(*) AS n FROM attempts WHERE outcome = 'lease_expired' GROUP BY slice_id"
        )
        assert [row.n for row in lapsed] == [1] * left
        assert {row.attempts for row in deployment.query("SELECT attempts FROM results")} <= {1, 2}
