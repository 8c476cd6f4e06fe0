"""A Redis that is emptied, restarted, frozen or full: submits are answered soon, and work goes on without a hand."""

import time
from pathlib import Path

from tests.faults.toys import TOY, check_outputs, numbered, toy_mill
from tests.mill import until
from tests.servers import Valkey

JOBS = 800
SMALL = {"window_jobs": "64"}


def test_work_goes_on_while_redis_is_emptied_restarted_and_frozen(
    tmp_path: Path, database_url: str, own_valkey: Valkey
) -> None:
    texts = numbered(JOBS)
    with toy_mill(tmp_path, database_url=database_url, redis_url=own_valkey.url, **SMALL) as ours:
        ours.start("worker", TOY, TOY_PASS_SECONDS="0.03")
        ours.until_ready()
        batch = ours.client.submit(TOY, texts)
        ours.until_answered(batch.id, 50)

        own_valkey.flush()
        own_valkey.restart()
        own_valkey.pause()
        started = time.monotonic()
        second = ours.client.submit(TOY, texts[:100])
        answered_in = time.monotonic() - started
        second.wait(90)  # found in SQL, without a bell
        own_valkey.resume()
        batch.wait(90)
        third = ours.client.submit(TOY, texts[:100]).wait(90)

        for each, count in ((batch, JOBS), (second, 100), (third, 100)):
            ours.check(each.id, count)
            check_outputs(ours, each.id, texts[:count])
        assert second.warning is not None
        assert answered_in < 10, "the submit's answer must be bounded"
        assert third.warning is None


def test_bells_that_redis_forgot_ring_again(tmp_path: Path, database_url: str, own_valkey: Valkey) -> None:
    # Whoever does not hear a bell looks at SQL again in ten minutes only.
    quiet = {"duty_seconds": "600", "ring_seconds": "0.5"}
    with toy_mill(tmp_path, database_url=database_url, redis_url=own_valkey.url, **quiet) as ours:
        ours.start("worker", TOY)
        ours.until_ready()
        ours.client.submit(TOY, numbered(16)).wait(90)  # it listens, and has nothing to do
        own_valkey.pause()
        batch = ours.client.submit(TOY, numbered(JOBS))
        own_valkey.resume()
        own_valkey.flush()

        ours.start("foreman")
        batch.wait(90)

        ours.check(batch.id, JOBS)
        until(lambda: "rang anew" in ours.log, "the bells")


def test_a_full_redis_stops_nobody(tmp_path: Path, database_url: str, own_valkey: Valkey) -> None:
    own_valkey.config_set("maxmemory-policy", "noeviction")
    own_valkey.config_set("maxmemory", "1")
    with toy_mill(tmp_path, database_url=database_url, redis_url=own_valkey.url) as ours:
        ours.start("worker", TOY)
        [worker] = ours.until_ready()

        batch = ours.client.submit(TOY, numbered(300))

        assert batch.warning is not None
        batch.wait(90)
        ours.check(batch.id, 300)
        assert ours.worker_pids() == [worker]  # it did not have to be started again
