"""Generation fills the free memory of a GPU without exceeding it, and its steps wait for nothing."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.factories import tiny_decoders
from tests.factories.forward_passes import GENERATION_CONFIG, TEXTS, encode_texts, forward_all
from tests.factories.tiny_decoders import pipeline_for
from worker.adapters.generation import cache_memory
from worker.adapters.generation.cache_memory import RowSize
from worker.adapters.generation.continuous_batching import DecodeMicroBatch
from worker.loading import runtime

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")]

GPU = torch.device("cuda", 0)
MIB = 2**20
NEW_TOKENS = 60


def load(folder: Path, device: str, **fields: Any) -> Any:
    return runtime.load(pipeline_for(folder, **fields), device, threads=1).adapter


def save_model(folder: Path, **generation: Any) -> Path:
    """A Llama that keeps 32 KiB per token in float32."""
    sizes = {"hidden_size": 256, "num_hidden_layers": 16, "num_attention_heads": 4, "num_key_value_heads": 4}
    return tiny_decoders.llama(folder, generation={**GENERATION_CONFIG, **generation}, **sizes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_model(tmp_path / "model")


def test_a_model_keeps_as_much_as_on_the_cpu(folder: Path) -> None:
    layouts = [
        cache_memory.measure_cache_layout(load(folder, device, dtype="float16")._pipeline.model)
        for device in ("cpu", "cuda:0")
    ]

    assert layouts[0] == layouts[1]
    assert layouts[0] is not None
    assert layouts[0].cache_bytes(1) == 16 * 2 * 256 * 2


def test_what_is_available_falls_by_what_is_taken() -> None:
    torch.cuda.empty_cache()
    before = cache_memory.available_bytes(GPU)

    taken = torch.empty(64 * MIB, dtype=torch.uint8, device=GPU)

    assert 0.9 * taken.nbytes <= before - cache_memory.available_bytes(GPU) <= 1.5 * taken.nbytes


def test_rows_stay_within_the_share_of_the_process(folder: Path) -> None:
    adapter = load(folder, "cuda:0")
    rows = encode_texts(adapter, TEXTS * 60, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(GPU).total_memory
    allowed = torch.cuda.memory_reserved(GPU) + 300 * MIB
    torch.cuda.set_per_process_memory_fraction(allowed / total, GPU)
    try:
        fitting = adapter._row_limit.begin_run(samples=False)(RowSize(30 + NEW_TOKENS))
        torch.cuda.reset_peak_memory_stats(GPU)
        raw = forward_all(adapter, rows)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, GPU)

    assert fitting < len(rows), "not all fit at once"
    assert {len(ids) for [ids] in raw.values()} == {NEW_TOKENS}
    assert torch.cuda.max_memory_reserved(GPU) <= allowed


def test_seeded_rows_have_a_shape_of_their_own(folder: Path) -> None:
    adapter = load(folder, "cuda:0")
    rows = encode_texts(adapter, TEXTS, do_sample=True, seed=3, max_new_tokens=20)
    together = forward_all(adapter, rows)

    assert {row.max_rows for row in rows} == {128}
    assert together == forward_all(adapter, rows[::-1], token_budget=1)


@pytest.mark.parametrize("parameters", [{}, {"do_sample": True, "top_k": 5}], ids=str)
@pytest.mark.parametrize("texts", [TEXTS, ["abc", "abd"]], ids=["padded", "equal lengths"])
def test_a_decode_step_waits_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, texts: list[str], parameters: dict[str, Any]
) -> None:
    # For ten end tokens or more, which hardly a model has, `torch.isin` may sort, and then it waits.
    adapter = load(save_model(tmp_path / "model", eos_token_id=[0, 60]), "cuda:0")
    rows = encode_texts(adapter, texts, max_new_tokens=9, min_new_tokens=9, **parameters)
    decode_step = DecodeMicroBatch.decode_step

    def without_waiting(micro_batch: DecodeMicroBatch) -> None:
        torch.cuda.set_sync_debug_mode("error")
        try:
            decode_step(micro_batch)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    forward_all(adapter, rows)  # what torch does once is done
    monkeypatch.setattr(DecodeMicroBatch, "decode_step", without_waiting)

    assert len(forward_all(adapter, rows)) == len(rows)
