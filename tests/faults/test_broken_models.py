"""Models that can't be used: their batches fail soon, with the reason, and the worker goes on with others."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.deployment import WAIT_TIMEOUT_SECONDS, temporary_deployment
from tests.factories import tiny_models
from tests.faults.fake_model import numbered_texts

JOBS = 20
WEIGHTS = "model.safetensors"


def truncated(folder: Path) -> Path:
    weights = tiny_models.distilbert(folder) / WEIGHTS
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    return folder


def without_weights(folder: Path) -> Path:
    (tiny_models.distilbert(folder) / WEIGHTS).unlink()
    return folder


def without_numbers(folder: Path) -> Path:
    weights = tiny_models.distilbert(folder) / WEIGHTS
    tensors = load_file(weights)
    tensors["classifier.bias"] = torch.full_like(tensors["classifier.bias"], float("nan"))
    save_file(tensors, weights, {"format": "pt"})
    return folder


def test_their_batches_fail_with_the_reason_and_others_are_served(
    tmp_path: Path, sqlite_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = {
        "good": tiny_models.distilbert(tmp_path / "good"),
        "truncated": truncated(tmp_path / "truncated"),
        "headless": tiny_models.masked_bert(tmp_path / "headless"),
        "weightless": without_weights(tmp_path / "weightless"),
        "nan": without_numbers(tmp_path / "nan"),
    }
    home = tmp_path / "home"
    home.mkdir()
    (home / "batchmill.toml").write_text(
        "".join(
            f'[pipelines.{name}]\ntask = "sentiment-analysis"\nmodel = "{folder}"\n' for name, folder in models.items()
        )
    )
    with temporary_deployment(
        tmp_path, database_url=sqlite_url, redis_url=redis_url, switch_after_seconds="1"
    ) as deployment:
        batches = {name: deployment.client.submit(name, numbered_texts(JOBS)) for name in models}
        deployment.start("worker", *models, "--devices", "cpu")
        for batch in batches.values():
            batch.wait(WAIT_TIMEOUT_SECONDS)

        [worker] = deployment.wait_for_workers()  # a load that failed leaves it idle until the next that succeeds
        deployment.assert_completed(batches["good"].id, JOBS)
        for name in ("truncated", "headless", "weightless"):
            view = batches[name].view
            assert (view.status, view.error_code) == ("failed", "model_unusable"), name
            assert models[name].name in str(view.error_message), "it says which model"
            assert batches[name].request_counts.failed == JOBS
            deployment.assert_consistent(batches[name].id)
        waited = deployment.invoke("wait", batches["weightless"].id)
        assert (waited.returncode, b"no safetensors weights" in waited.stderr) == (1, True)
        assert {row.error_code for row in batches["weightless"].results()} == {"model_unusable"}
        deployment.assert_completed(batches["nan"].id, JOBS)
        codes = deployment.query("SELECT DISTINCT error_code FROM results WHERE batch_id = :id", id=batches["nan"].id)
        assert [row.error_code for row in codes] == ["invalid_output"]
        deployment.assert_completed(
            deployment.client.submit("good", numbered_texts(JOBS)).wait(WAIT_TIMEOUT_SECONDS).id, JOBS
        )
        assert deployment.ready_worker_pids() == [worker], "it did not have to be started again"
