"""A Redis that is emptied, restarted, frozen or full: submits are answered soon, and work goes on without a hand."""

from pathlib import Path

import pytest

from batchmill import Client
from producer.handle import BatchHandle
from tests.deployment import wait_for
from tests.factories.http_server import UNREACHABLE_REDIS
from tests.faults.fake_model import FAKE_PIPELINE, assert_outputs, fake_model_deployment, numbered_texts
from tests.servers import WAIT_TIMEOUT_SECONDS, Valkey

JOBS = 800
SMALL = {"max_claim_jobs": "64"}


def test_work_goes_on_while_redis_is_emptied_restarted_and_frozen(
    tmp_path: Path, database_url: str, own_valkey: Valkey
) -> None:
    texts = numbered_texts(JOBS)
    with fake_model_deployment(tmp_path, database_url=database_url, redis_url=own_valkey.url, **SMALL) as deployment:
        deployment.start_worker(FAKE_PIPELINE, FAKE_FORWARD_SECONDS="0.03")
        deployment.wait_for_workers()
        batch = deployment.client.submit(FAKE_PIPELINE, texts)
        deployment.wait_for_results(batch.id, 50)

        own_valkey.flush()
        own_valkey.restart()
        own_valkey.pause()
        second = deployment.client.submit(FAKE_PIPELINE, texts[:100])  # which Redis never answers
        second.wait(WAIT_TIMEOUT_SECONDS)  # found in SQL, without a wakeup
        own_valkey.resume()
        batch.wait(WAIT_TIMEOUT_SECONDS)

        def submit_with_wakeup() -> BatchHandle | None:
            batch = deployment.client.submit(FAKE_PIPELINE, texts[:100])
            return batch if batch.warning is None else None

        third = wait_for(submit_with_wakeup, "a wakeup to be sent again").wait(WAIT_TIMEOUT_SECONDS)

        for each, count in ((batch, JOBS), (second, 100), (third, 100)):
            deployment.assert_completed(each.id, count)
            assert_outputs(deployment, each.id, texts[:count])
        assert second.warning is not None


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_wakeups_that_were_lost_are_resent(tmp_path: Path, database_url: str, redis_url: str) -> None:
    # A process that receives no wakeup looks at SQL again only after ten minutes.
    quiet = {"poll_interval_seconds": "600", "wakeup_resend_seconds": "0.5"}
    with (
        fake_model_deployment(tmp_path, database_url=database_url, redis_url=redis_url, **quiet) as deployment,
        Client(database_url, UNREACHABLE_REDIS) as submitter,
    ):
        deployment.start_worker(FAKE_PIPELINE)
        deployment.start("maintain")
        deployment.wait_for_workers()
        batches = []

        def submit_without_wakeup() -> bool:
            batches.append(submitter.submit(FAKE_PIPELINE, numbered_texts(16)).wait(WAIT_TIMEOUT_SECONDS))
            return "wakeups.resent" in deployment.log  # a worker that is at work finds the next batch without any

        wait_for(submit_without_wakeup, "wakeups to be resent")

        for batch in batches:
            assert batch.warning is not None
            deployment.assert_completed(batch.id, 16)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_full_redis_stops_nobody(tmp_path: Path, database_url: str, own_valkey: Valkey) -> None:
    own_valkey.config_set("maxmemory-policy", "noeviction")
    own_valkey.config_set("maxmemory", "1")
    with fake_model_deployment(tmp_path, database_url=database_url, redis_url=own_valkey.url) as deployment:
        deployment.start_worker(FAKE_PIPELINE)
        [worker] = deployment.wait_for_workers()

        batch = deployment.client.submit(FAKE_PIPELINE, numbered_texts(300))

        assert batch.warning is not None
        batch.wait(WAIT_TIMEOUT_SECONDS)
        deployment.assert_completed(batch.id, 300)
        assert deployment.ready_worker_pids() == [worker]  # it did not have to be started again
