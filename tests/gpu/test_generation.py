"""Generation on the GPU: seeded and greedy texts are those of each prompt alone, and rows leave and join unseen."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conformance import test_text_generation as conformance
from tests.conformance.conftest import RunBatches
from tests.factories import tiny_decoders
from tests.factories.forward_passes import (
    GENERATION_CONFIG,
    TEXTS,
    encode_texts,
    forward_all,
    load_adapter,
    load_decoder,
)
from tests.golden import seq2seq_models
from tests.unit.worker.adapters.generation import test_beam_search as beam_suite
from tests.unit.worker.adapters.generation import test_continuous_batching as continuous_suite

pytestmark = pytest.mark.gpu

BFLOAT16_STEP = 2.0**-8  # relative


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_seed_gives_the_same_text_in_any_company(
    suite_on_gpu: str, tmp_path: Path, run_batches: RunBatches, dtype: str
) -> None:
    conformance.test_a_seed_gives_the_same_text_in_any_company(tmp_path, run_batches, dtype)


def test_texts_without_a_seed_differ(suite_on_gpu: str, tmp_path: Path) -> None:
    adapter = load_decoder(tmp_path)
    rows = encode_texts(adapter, TEXTS, do_sample=True, max_new_tokens=20, min_new_tokens=20, temperature=3.0)

    assert forward_all(adapter, rows) != forward_all(adapter, rows)


def test_greedy_texts_in_half_precision_part_only_at_a_tie(suite_on_gpu: str, tmp_path: Path) -> None:
    folder = tiny_decoders.llama(tmp_path, generation=GENERATION_CONFIG)
    adapter = load_adapter(folder, dtype="bfloat16")
    rows = encode_texts(adapter, TEXTS, max_new_tokens=20)
    model = adapter._pipeline.model
    together, alone = forward_all(adapter, rows), forward_all(adapter, rows, token_budget=1)

    for row in rows:
        [ours], [expected] = (outputs[row.job.position, row.part_index] for outputs in (together, alone))
        if ours == expected:
            continue
        same = next(index for index, (a, b) in enumerate(zip(ours, expected, strict=False)) if a != b)
        prefix = torch.tensor([[*row.features["input_ids"], *expected[:same]]], device=model.device)
        with torch.inference_mode():
            best, second = model(input_ids=prefix).logits[0, -1].float().topk(2).values.tolist()
        assert best - second <= 2 * BFLOAT16_STEP * abs(best)


CONTINUOUS: dict[str, Callable[[Path, pytest.MonkeyPatch], object]] = {
    "rows leave, learned positions": lambda folder, _patch: (
        continuous_suite.TestRowRemoval().test_does_not_change_the_output_of_other_rows(folder, "gpt2")
    ),
    "rows leave, rotary positions": lambda folder, _patch: (
        continuous_suite.TestRowRemoval().test_does_not_change_the_output_of_other_rows(folder, "llama")
    ),
    "rows leave, sliding window": lambda folder, _patch: (
        continuous_suite.TestRowRemoval().test_does_not_change_the_output_of_other_rows(folder, "mistral")
    ),
    "rows leave, no padding": lambda folder, _patch: (
        continuous_suite.TestRowRemoval().test_works_for_models_whose_rows_cannot_be_padded(folder)
    ),
    "rows leave, as in transformers": lambda folder, patch: (
        continuous_suite.TestRowRemoval().test_gives_the_output_of_transformers(load_decoder(folder), patch)
    ),
    "rows join, learned positions": lambda folder, _patch: (
        continuous_suite.TestJoining().test_does_not_change_any_output(folder, "gpt2")
    ),
    "rows join, rotary positions": lambda folder, _patch: (
        continuous_suite.TestJoining().test_does_not_change_any_output(folder, "llama")
    ),
    "rows join from others": lambda folder, _patch: continuous_suite.TestJoining().test_takes_rows_from_fetch_more(
        load_decoder(folder)
    ),
    "caches stay short": lambda folder, _patch: (
        continuous_suite.TestJoining().test_never_makes_a_cache_longer_than_its_longest_row(folder)
    ),
    "rows leave an encoder-decoder": lambda folder, _patch: (
        continuous_suite.test_row_removal_does_not_change_the_output_of_other_rows_of_an_encoder_decoder(folder, "bart")
    ),
}


@pytest.mark.parametrize("case", CONTINUOUS)
def test_rows_of_a_running_pass_are_as_alone(
    suite_on_gpu: str, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    CONTINUOUS[case](tmp_path, monkeypatch)


@pytest.mark.parametrize("task", ["text-generation", "summarization"])
def test_beams_are_as_alone(suite_on_gpu: str, task: str, tmp_path: Path) -> None:
    if task == "summarization":
        seq2seq_models.bare_bart(tmp_path)
    adapter: Any = load_decoder(tmp_path) if task == "text-generation" else load_adapter(tmp_path, task)
    rows = encode_texts(adapter, beam_suite.TEXTS, task, num_beams=3, max_new_tokens=12)

    assert forward_all(adapter, rows) == forward_all(adapter, rows, token_budget=1)
