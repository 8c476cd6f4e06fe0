"""A device that is short of memory: passes become smaller, nobody loses an attempt, and what is too large says so."""

from pathlib import Path

import pytest

from tests.faults.fake_model import FAKE_PIPELINE, assert_outputs, fake_model_deployment, numbered_texts
from tests.servers import WAIT_TIMEOUT_SECONDS

JOBS = 256


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_passes_shrink_until_they_fit_and_an_input_that_never_fits_is_told_so(
    tmp_path: Path, database_url: str, redis_url: str
) -> None:
    texts = numbered_texts(JOBS)
    with fake_model_deployment(
        tmp_path, database_url=database_url, redis_url=redis_url, micro_batch_tokens="10000"
    ) as deployment:
        deployment.start_worker(FAKE_PIPELINE, FAKE_MEMORY_TOKENS="50")
        [worker] = deployment.wait_for_workers()
        batch = deployment.client.submit(FAKE_PIPELINE, texts).wait(WAIT_TIMEOUT_SECONDS)
        with_large = deployment.client.submit(FAKE_PIPELINE, [*texts, "x" * 51]).wait(WAIT_TIMEOUT_SECONDS)

        deployment.assert_completed(batch.id, JOBS)
        assert_outputs(deployment, batch.id, texts)
        deployment.assert_completed(with_large.id, JOBS + 1)
        failed = deployment.query("SELECT position, error_code FROM results WHERE status = 'failed'")
        assert [tuple(row) for row in failed] == [(JOBS, "out_of_memory")]
        assert {row.attempts for row in deployment.query("SELECT attempts FROM results")} == {1}
        assert deployment.ready_worker_pids() == [worker]
        assert "device.out_of_memory" in deployment.log
