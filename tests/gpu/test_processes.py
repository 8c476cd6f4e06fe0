"""Two worker processes share one device: every row is answered once, and names the device."""

from pathlib import Path

import pytest
import torch

from tests.deployment import PIPELINE, random_texts, temporary_deployment

JOBS = 5_000


@pytest.mark.gpu
def test_two_processes_on_one_device_answer_every_row_once(
    gpu: str, tmp_path: Path, sqlite_url: str, redis_url: str
) -> None:
    name = f"{gpu}:0" if gpu == "cuda" else gpu
    with temporary_deployment(tmp_path, database_url=sqlite_url, redis_url=redis_url) as deployment:
        deployment.start("worker", PIPELINE, "--devices", f"{name},{name}")
        deployment.wait_for_workers(2)
        batch = deployment.client.submit(PIPELINE, random_texts(JOBS))
        batch.wait(120)

        deployment.assert_completed(batch.id, JOBS)
        workers = deployment.query("SELECT DISTINCT worker_id FROM attempts WHERE batch_id = :id", id=batch.id)
        versions = deployment.query("SELECT DISTINCT device FROM model_versions")
        assert len(workers) == 2
        assert [row.device for row in versions] == [torch.cuda.get_device_name(gpu) if gpu.startswith("cuda") else gpu]
