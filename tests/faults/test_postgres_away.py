"""A PostgreSQL that stops at once, or ends every connection: transactions are done again, and no attempt is lost."""

from pathlib import Path

from models import schema
from tests.faults.fake_model import FAKE_PIPELINE, assert_outputs, fake_model_deployment, numbered_texts
from tests.servers import WAIT_TIMEOUT_SECONDS, Postgres

JOBS = 1_600


def test_a_postgresql_that_goes_away_costs_no_attempt(tmp_path: Path, own_postgres: Postgres, redis_url: str) -> None:
    url, texts = own_postgres.create_database("batchmill"), numbered_texts(JOBS)
    schema.upgrade(url)
    settings = {"lease_seconds": "300", "max_claim_jobs": "64"}
    with fake_model_deployment(tmp_path, database_url=url, redis_url=redis_url, **settings) as deployment:
        deployment.start("worker", FAKE_PIPELINE, "--devices", "cpu,cpu", FAKE_FORWARD_SECONDS="0.03")
        workers = deployment.wait_for_workers(2)
        batch = deployment.client.submit(FAKE_PIPELINE, texts)
        deployment.wait_for_results(batch.id, 100)

        own_postgres.stop("immediate")
        own_postgres.start()
        deployment.wait_for_results(batch.id, JOBS // 4)
        own_postgres.terminate_connections("batchmill")
        deployment.wait_for_results(batch.id, JOBS // 2)
        own_postgres.restart("fast")
        batch.wait(WAIT_TIMEOUT_SECONDS)

        deployment.assert_completed(batch.id, JOBS)
        assert_outputs(deployment, batch.id, texts)
        attempts = deployment.query("SELECT DISTINCT attempts FROM results WHERE batch_id = :id", id=batch.id)
        assert [row.attempts for row in attempts] == [1]
        assert deployment.ready_worker_pids() == workers
