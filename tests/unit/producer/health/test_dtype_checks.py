"""The doctor's warnings about slow dtypes, by where pipelines run."""

import socket
from pathlib import Path
from typing import Any

import pytest

from models.hardware import processor
from models.pipelines.pipeline import Pipeline
from producer.health.dtype_checks import check_dtypes
from producer.workers.workers import WorkerView
from tests.factories.checkpoints import write_header


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model in float32, on a processor without instructions for 16 bits."""
    monkeypatch.setattr(processor, "has_instructions_for", lambda _dtype: False)
    (tmp_path / "config.json").write_text("{}")
    write_header(tmp_path / "model.safetensors", {"a": ("F32", 8)})
    return tmp_path


def worker(device: str, host: str = "", *, alive: bool = True) -> WorkerView:
    return WorkerView("w", host or socket.gethostname(), 7, device, "p", "m", "r", ["p"], "ready", 1.0, 1.0, 1.0, alive)


def check(folder: Path | str, workers: list[WorkerView], *, has_gpu: bool = False, **fields: Any) -> list[str]:
    pipeline = Pipeline(name="p", task="ner", model=str(folder), **fields)
    return [finding.message for finding in check_dtypes([pipeline], ["p"], workers, has_gpu=has_gpu)]


def test_float32_files_on_a_machine_with_a_gpu(folder: Path) -> None:
    [finding] = check_dtypes(
        [Pipeline(name="p", task="ner", model=str(folder))], ["p"], [worker("cpu", alive=False)], has_gpu=True
    )

    assert (finding.level, finding.subject) == ("warning", "dtype")
    assert finding.message.endswith("about 8 times slower on a GPU than in float16, by an estimate from datasheets")
    assert finding.advice is not None
    assert finding.advice.startswith('set dtype = "float16" or "bfloat16" in [pipelines.p]')
    assert check(folder, [], has_gpu=True, dtype="float16") == []
    assert check(folder, [], has_gpu=True, device="cpu") == []
    assert check(folder, []) == []


def test_live_workers_decide_where_a_pipeline_runs(folder: Path) -> None:
    assert "on a GPU" in check(folder, [worker("cuda:0#1 NVIDIA H200", "far")])[0]
    assert check(folder, [worker("cpu")], has_gpu=True) == []


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_on_a_processor_without_it(folder: Path, dtype: str) -> None:
    assert f"p computes in {dtype}, for which" in check(folder, [], dtype=dtype)[0]
    assert f"p computes in {dtype}, for which" in check(folder, [worker("cpu#1")], dtype=dtype)[0]
    assert check(folder, [worker("cpu", "far")], dtype=dtype) == []
    assert check(folder, [worker("cuda:0")], dtype=dtype) == []


def test_samples_and_entries_that_nobody_serves_or_names(folder: Path) -> None:
    unnamed = Pipeline(name="q", task="ner", model=str(folder))
    sample = Pipeline(name="p", task="ner", model="bundled:ner")

    assert list(check_dtypes([unnamed, sample], ["p"], [worker("cuda:0")], has_gpu=True)) == []


def test_a_model_that_is_not_here(folder: Path) -> None:
    assert check(folder / "none", [], has_gpu=True) == []


def test_a_quantization_that_a_cpu_can_t_run(folder: Path) -> None:
    assert check(folder, [worker("cpu")], dtype="float32", quantization="int4") == [
        "p: quantization int4 needs a CUDA device"
    ]
    assert check(folder, [worker("cpu")], dtype="float32", quantization="int8") == []


def test_a_quantization_of_a_sample_counts_too() -> None:
    assert check("bundled:ner", [], quantization="torchao-float8") == [
        "p: quantization torchao-float8 needs a CUDA device"
    ]
