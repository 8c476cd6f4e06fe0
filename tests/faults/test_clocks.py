"""Workers whose clocks are wrong: leases, heartbeats and deadlines go by the database's clock alone."""

from pathlib import Path

from tests.deployment import WAIT_TIMEOUT_SECONDS, wait_for
from tests.faults.fake_model import FAKE_PIPELINE, assert_outputs, fake_model_deployment, numbered_texts

JOBS = 240


def test_a_worker_an_hour_off_takes_nothing_from_others_and_loses_nothing(
    tmp_path: Path, database_url: str, redis_url: str
) -> None:
    texts, hours = numbered_texts(JOBS), "-1" if "sqlite" in database_url else "1"
    with fake_model_deployment(
        tmp_path, database_url=database_url, redis_url=redis_url, max_claim_jobs="32"
    ) as deployment:
        deployment.start_worker(FAKE_PIPELINE, FAKE_FORWARD_SECONDS="0.1")
        deployment.start_worker(FAKE_PIPELINE, FAKE_FORWARD_SECONDS="0.1", FAKE_CLOCK_HOURS=hours)
        workers = deployment.wait_for_workers(2)
        batches = [deployment.client.submit(FAKE_PIPELINE, texts, deadline="30m")]

        def have_shares() -> bool:
            if batches[-1].refresh().view.counts.unanswered == 0:  # one of them was slow
                batches.append(deployment.client.submit(FAKE_PIPELINE, texts, deadline="30m"))
            return len({row.worker_id for row in deployment.query("SELECT worker_id FROM attempts")}) == 2

        wait_for(have_shares, "both to have a share")
        for batch in batches:
            batch.wait(WAIT_TIMEOUT_SECONDS)
            deployment.assert_completed(batch.id, JOBS)
            assert_outputs(deployment, batch.id, texts)
        outcomes = {row.outcome for row in deployment.query("SELECT outcome FROM attempts")}
        assert outcomes == {"done"}, "no lease ran out"
        assert deployment.ready_worker_pids() == workers
