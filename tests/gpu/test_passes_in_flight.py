"""Passes in flight on CUDA: a launch waits for nothing, outputs are those of one pass after another."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.factories import tiny_encoders as encoders
from tests.gpu.conftest import entry_for, load_on
from worker.adapters.interface import LaunchingAdapter
from worker.adapters.rows import MicroBatch, Row
from worker.leasing.leases import Job, Lease

LEASE = Lease(1, "batch", 0, 64, 1, 1)
TEXTS = [" ".join(["great", "product", "love", "it"][: 1 + place % 4]) + " the" * (place % 11) for place in range(24)]
BUSY_CYCLES = 500_000_000  # some 0.3 seconds of a GPU


@pytest.fixture
def load_classifier(tmp_path: Path) -> Callable[..., Any]:
    def load(device: str, **entry: Any) -> Any:
        return load_on(device, entry_for(encoders.token_classifier(tmp_path, "bert"), "ner", **entry)).adapter

    return load


def micro_batches(adapter: Any, size: int = 8) -> list[MicroBatch]:
    jobs = [Job(LEASE, position, {"text": text}) for position, text in enumerate(TEXTS)]
    rows: list[Row] = [row for encoded in adapter.encode(jobs) for row in encoded]
    rows.sort(key=lambda row: -row.length)
    return [MicroBatch(tuple(rows[start : start + size])) for start in range(0, len(rows), size)]


def assert_equal(left: Sequence[Any], right: Sequence[Any]) -> None:
    assert len(left) == len(right)
    assert all(np.array_equal(one, other) for one, other in zip(left, right, strict=True))


def test_outputs_of_passes_in_flight_are_those_of_one_at_a_time(
    device: str, load_classifier: Callable[..., Any]
) -> None:
    adapter = load_classifier(device)
    batches = micro_batches(adapter)
    expected = [adapter.forward(batch) for batch in batches]

    launched = [adapter.launch(batch) for batch in batches]

    for pending, outputs in zip(launched, expected, strict=True):
        assert_equal(pending.result(), outputs)
    assert isinstance(adapter, LaunchingAdapter)
    assert adapter.passes_in_flight == (2 if device.startswith("cuda") else 1)


@pytest.mark.gpu
def test_a_launch_does_not_wait_for_the_pass_before(cuda: str, load_classifier: Callable[..., Any]) -> None:
    adapter = load_classifier(cuda, dtype="float16")
    [batch, *_] = micro_batches(adapter)
    expected = adapter.forward(batch)  # the first pass of a shape may load kernels, which waits
    busy = torch.cuda.Event()

    torch.cuda._sleep(BUSY_CYCLES)
    busy.record()
    torch.cuda.set_sync_debug_mode("error")
    try:
        pending = adapter.launch(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")

    assert not busy.query(), "the launch waited until the device was idle"
    assert_equal(pending.result(), expected)


@pytest.mark.gpu
def test_time_is_the_device_s_own(cuda: str, load_classifier: Callable[..., Any]) -> None:
    adapter = load_classifier(cuda, dtype="float16")
    [batch, *_] = micro_batches(adapter)
    adapter.forward(batch)

    torch.cuda._sleep(BUSY_CYCLES)  # work of somebody else, before this pass begins
    pending = adapter.launch(batch)
    pending.result()

    assert pending.device_seconds is not None
    assert 0 < pending.device_seconds < 0.1, "the time before the pass does not count"


@pytest.mark.gpu
def test_memory_is_given_back(cuda: str, load_classifier: Callable[..., Any]) -> None:
    adapter = load_classifier(cuda)
    batches = micro_batches(adapter)
    adapter.forward(batches[0])
    before = torch.cuda.memory_allocated()

    for pending in [adapter.launch(batch) for batch in batches]:
        pending.result()
    del pending

    assert torch.cuda.memory_allocated() == before
