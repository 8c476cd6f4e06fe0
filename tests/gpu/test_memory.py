"""Memory of the device: passes that don't fit are halved, a row that can't fit fails alone, and nothing is kept."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conformance.conftest import RunBatches
from tests.gpu import digests
from tests.gpu.conftest import entry_for, load_on
from worker.adapters.rows import MicroBatch
from worker.loading.runtime import Runtime

MIB = 2**20
ALLOWED_BYTES = 256 * MIB  # for a pass, beside the weights; a pass of all texts takes several times as much
STAND_IN_TOKENS = 2_000  # the most padded tokens of a pass on the stand-in
ROOMY_TOKENS = 2**18
WORDS = ("love", "hate", "the", "great", "product", "it")


def load_classifier(device: str, folder: Path, max_length: int, **fields: Any) -> Runtime:
    made = digests.save_classifier(folder, 512 if device.startswith("cuda") else 64, max_length)
    return load_on(device, entry_for(made, "sentiment-analysis", **fields), micro_batch_tokens=ROOMY_TOKENS)


@contextmanager
def limited_memory(loaded: Runtime, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let passes that take more memory than allowed fail, on CUDA for real, on the CPU by their tokens."""
    if loaded.device.type == "cuda":
        loaded.release_memory()
        total = torch.cuda.get_device_properties(loaded.device).total_memory
        allowed = torch.cuda.memory_reserved(loaded.device) + ALLOWED_BYTES
        torch.cuda.set_per_process_memory_fraction(allowed / total, loaded.device)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, loaded.device)
        return
    adapter: Any = loaded.adapter
    launch = adapter.launch

    def launch_within_limit(micro_batch: MicroBatch) -> Any:
        if micro_batch.padded_tokens > STAND_IN_TOKENS:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate more than there is")
        return launch(micro_batch)

    with monkeypatch.context() as patch:
        patch.setattr(adapter, "launch", launch_within_limit)
        yield


def allocated_bytes(loaded: Runtime) -> int:
    return torch.cuda.memory_allocated(loaded.device) if loaded.device.type == "cuda" else 0


def mixed_texts(count: int) -> list[str]:
    source = random.Random(3)
    return [" ".join(source.choices(WORDS, k=source.randrange(1, 50))) for _ in range(count)]


def statuses(rows: Sequence[Any]) -> list[tuple[str, str | None]]:
    return [(row.status, row.error_code) for row in rows]


def test_passes_that_do_not_fit_are_halved_until_all_texts_are_answered(
    device: str, tmp_path: Path, run_batches: RunBatches, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_classifier(device, tmp_path / "model", 64)
    texts = mixed_texts(4_000 if device.startswith("cuda") else 150)
    [expected] = run_batches(loaded, texts[:20], [{}])
    before = allocated_bytes(loaded)

    with limited_memory(loaded, monkeypatch):
        [rows] = run_batches(loaded, texts, [{}])

    assert set(statuses(rows)) == {("succeeded", None)}
    assert [row.output["label"] for row in rows[:20]] == [row.output["label"] for row in expected]
    assert allocated_bytes(loaded) == before


def test_a_row_that_can_not_fit_fails_alone(
    device: str, tmp_path: Path, run_batches: RunBatches, monkeypatch: pytest.MonkeyPatch
) -> None:
    max_length = 8_192 if device.startswith("cuda") else STAND_IN_TOKENS + 1
    loaded = load_classifier(device, tmp_path / "model", max_length, attention="eager")
    texts = mixed_texts(20)
    texts[7] = "love " * 9_000  # on CUDA its attention alone takes 8,192² numbers for each head

    with limited_memory(loaded, monkeypatch):
        [rows] = run_batches(loaded, texts, [{}])

    [(giant, code)] = [(index, row.error_code) for index, row in enumerate(rows) if row.status != "succeeded"]
    assert giant == 7
    assert code in ("out_of_memory", "unavailable")  # the latter where another process has most of the card


def test_an_offloaded_model_leaves_the_device_and_returns_unchanged(device: str, tmp_path: Path) -> None:
    loaded = load_classifier(device, tmp_path / "model", 64)
    inputs = {"input_ids": torch.arange(5, 15, device=device)[None]}
    with torch.inference_mode():
        before = loaded.model(**inputs).logits.cpu()
    del inputs
    allocated = allocated_bytes(loaded)

    loaded.offload()

    assert loaded.model.device.type == "cpu"
    if device.startswith("cuda"):
        assert allocated_bytes(loaded) <= allocated - loaded.weight_bytes
        assert torch.cuda.memory_reserved(device) <= allocated_bytes(loaded) + 4 * MIB
    loaded.restore()
    with torch.inference_mode():
        after = loaded.model(input_ids=torch.arange(5, 15, device=device)[None]).logits.cpu()
    assert torch.equal(before, after)
