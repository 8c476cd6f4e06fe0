"""Two processes on one device: they have different names, and every row is computed once."""

from pathlib import Path

import pytest
import torch

from tests.deployment import PIPELINE, WAIT_TIMEOUT_SECONDS, random_texts, temporary_deployment
from tests.faults.fake_model import replace_models

ON_A_GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")]


@pytest.mark.parametrize(("device", "rows"), [("cpu", 600), pytest.param("cuda:0", 5_000, marks=ON_A_GPU)])
def test_two_processes_on_one_device(tmp_path: Path, redis_url: str, device: str, rows: int) -> None:
    with temporary_deployment(tmp_path, redis_url=redis_url, slice_size="64", max_claim_jobs="64") as deployment:
        if device == "cpu":
            replace_models(deployment)
        deployment.start("worker", PIPELINE, "--devices", f"{device}*2")
        deployment.wait_for_workers(2)
        names = sorted(row.device for row in deployment.query("SELECT device FROM workers"))
        batch = deployment.client.submit(PIPELINE, random_texts(rows, seed=7))
        batch.wait(WAIT_TIMEOUT_SECONDS)
        deployment.assert_completed(batch.id, rows)
        deployment.assert_consistent(batch.id)

        assert [name.split()[0] for name in names] == [f"{device}#1", f"{device}#2"]
        assert all(f"worker-{device}#{number}" in deployment.log for number in (1, 2))
        assert ("model.slow_dtype" in deployment.log) == (device != "cpu"), "the sample is float32"
