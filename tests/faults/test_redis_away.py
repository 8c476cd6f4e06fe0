"""A Redis that is emptied, restarted, frozen or full: submits are answered soon, and work goes on without a hand."""

import time
from pathlib import Path

from tests.deployment import wait_for
from tests.faults.fake_model import FAKE_PIPELINE, assert_outputs, fake_model_deployment, numbered_texts
from tests.servers import Valkey

JOBS = 800
SMALL = {"max_claim_jobs": "64"}


def test_work_goes_on_while_redis_is_emptied_restarted_and_frozen(
    tmp_path: Path, database_url: str, own_valkey: Valkey
) -> None:
    texts = numbered_texts(JOBS)
    with fake_model_deployment(tmp_path, database_url=database_url, redis_url=own_valkey.url, **SMALL) as deployment:
        deployment.start("worker", FAKE_PIPELINE, FAKE_FORWARD_SECONDS="0.03")
        deployment.wait_for_workers()
        batch = deployment.client.submit(FAKE_PIPELINE, texts)
        deployment.wait_for_results(batch.id, 50)

        own_valkey.flush()
        own_valkey.restart()
        own_valkey.pause()
        started = time.monotonic()
        second = deployment.client.submit(FAKE_PIPELINE, texts[:100])
        answered_in = time.monotonic() - started
        second.wait(90)  # found in SQL, without a wakeup
        own_valkey.resume()
        batch.wait(90)
        third = deployment.client.submit(FAKE_PIPELINE, texts[:100]).wait(90)

        for each, count in ((batch, JOBS), (second, 100), (third, 100)):
            deployment.assert_completed(each.id, count)
            assert_outputs(deployment, each.id, texts[:count])
        assert second.warning is not None
        assert answered_in < 10, "the submit's answer must be bounded"
        assert third.warning is None


def test_wakeups_that_redis_lost_are_resent(tmp_path: Path, database_url: str, own_valkey: Valkey) -> None:
    # A process that receives no wakeup looks at SQL again only after ten minutes.
    quiet = {"poll_interval_seconds": "600", "wakeup_resend_seconds": "0.5"}
    with fake_model_deployment(tmp_path, database_url=database_url, redis_url=own_valkey.url, **quiet) as deployment:
        deployment.start("worker", FAKE_PIPELINE)
        deployment.wait_for_workers()
        deployment.client.submit(FAKE_PIPELINE, numbered_texts(16)).wait(90)  # it listens, and has nothing to do
        own_valkey.pause()
        batch = deployment.client.submit(FAKE_PIPELINE, numbered_texts(JOBS))
        own_valkey.resume()
        own_valkey.flush()

        deployment.start("maintain")
        batch.wait(90)

        deployment.assert_completed(batch.id, JOBS)
        wait_for(lambda: "wakeups.resent" in deployment.log, "wakeups to be resent")


def test_a_full_redis_stops_nobody(tmp_path: Path, database_url: str, own_valkey: Valkey) -> None:
    own_valkey.config_set("maxmemory-policy", "noeviction")
    own_valkey.config_set("maxmemory", "1")
    with fake_model_deployment(tmp_path, database_url=database_url, redis_url=own_valkey.url) as deployment:
        deployment.start("worker", FAKE_PIPELINE)
        [worker] = deployment.wait_for_workers()

        batch = deployment.client.submit(FAKE_PIPELINE, numbered_texts(300))

        assert batch.warning is not None
        batch.wait(90)
        deployment.assert_completed(batch.id, 300)
        assert deployment.ready_worker_pids() == [worker]  # it did not have to be started again
