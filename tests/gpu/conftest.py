"""Fixtures of the tests for GPUs.

`pytest -m gpu` runs them on CUDA, and skips them where there is none. BATCHMILL_TEST_DEVICE names another device: with
`cpu`, everything but the lines for CUDA runs without a GPU. Tests with the fixture `device` run on the CPU in every run
too, because no other suite does the same there.
"""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models.pipelines.pipeline import Pipeline
from tests.conformance import conftest as conformance
from tests.unit.worker.layers import test_packed_layers as packed_layers
from worker.loading import runtime
from worker.loading.runtime import Runtime

GPU_NAME = os.environ.get("BATCHMILL_TEST_DEVICE", "cuda")
SKIP_REASON = "there is no CUDA device; BATCHMILL_TEST_DEVICE=cpu runs this on the CPU"

LoadOn = Callable[..., Runtime]

# Fixtures of the suites that run here on another device.
run_batches = conformance.run_batches
load = packed_layers.load


def is_available(name: str) -> bool:
    """Whether this machine has the device; torch warns about broken drivers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return not name.startswith("cuda") or torch.cuda.is_available()


def check_available(name: str) -> str:
    """The device's name; skips the test where the machine has none."""
    if not is_available(name):
        pytest.skip(SKIP_REASON)
    return name


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading takes this process off the Hub; it is put back afterwards."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def gpu() -> str:
    """The device of a test that runs on GPUs only; its tests are marked `gpu`."""
    return check_available(GPU_NAME)


@pytest.fixture(params=[pytest.param("cpu"), pytest.param(GPU_NAME, marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """The CPU, as a stand-in in every run, and the GPU."""
    return check_available(request.param)


@pytest.fixture
def cuda(gpu: str) -> str:
    """The device of a test about CUDA itself."""
    if not gpu.startswith("cuda"):
        pytest.skip("this is about CUDA itself")
    return gpu


@pytest.fixture
def suite_on_gpu(gpu: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Lets the suites of the CPU load their models on the GPU; references of transformers stay on the CPU."""
    original = runtime.load

    def load_on_gpu(pipeline: Pipeline, _device: str, **options: Any) -> Runtime:
        return original(pipeline, gpu, **options)

    monkeypatch.setattr(runtime, "load", load_on_gpu)
    return gpu


def load_on(device: str, entry: Pipeline, **options: Any) -> Runtime:
    """Load a pipeline with one thread of the CPU."""
    return runtime.load(entry, device, threads=1, **options)


def entry_for(folder: Path, task: str, **fields: Any) -> Pipeline:
    """Return a catalogue entry for a model in a folder."""
    return Pipeline(**{"name": "made", "task": task, "model": str(folder), **fields})
