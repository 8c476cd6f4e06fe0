"""What is known of a load before it: missing folders, and quantizations that a device can't run."""

from pathlib import Path
from typing import Any

import pytest

from models.errors import BatchmillError
from models.pipelines.pipeline import Pipeline
from worker.process.load_checks import find_problem
from worker.process_device import ProcessDevice


def problem(process_device: str, **fields: Any) -> BatchmillError | None:
    entry = {"name": "made", "task": "sentiment-analysis", "model": "org/model", **fields}
    return find_problem(Pipeline(**entry), ProcessDevice.parse(process_device))


@pytest.mark.parametrize("device", ["cpu", "cpu#2", "cuda:0", "auto"])
def test_nothing_is_known_of_a_plain_pipeline(device: str) -> None:
    assert problem(device) is None


@pytest.mark.parametrize(("device", "named"), [("cpu#2", "auto"), ("cuda:0", "cpu")])
def test_a_quantization_for_other_devices_is_known(device: str, named: str) -> None:
    found = problem(device, device=named, quantization="int4")

    assert found is not None
    assert (found.code, "needs a CUDA device" in str(found)) == ("load_failed", True)


@pytest.mark.parametrize(("device", "named"), [("cuda:1", "auto"), ("cpu", "cuda"), ("auto", "auto")])
def test_where_it_may_run_nothing_is_known(device: str, named: str) -> None:
    assert problem(device, device=named, quantization="int4") is None


@pytest.mark.parametrize("key", ["model", "tokenizer", "adapter"])
def test_a_missing_folder_is_known(tmp_path: Path, key: str) -> None:
    found = problem("cpu", **{key: str(tmp_path / "nowhere")})

    assert found is not None
    assert (found.code, f"there is no {key} folder" in str(found)) == ("model_missing", True)
