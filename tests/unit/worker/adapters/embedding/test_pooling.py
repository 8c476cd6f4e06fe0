"""Pooling equals that of sentence-transformers, and padding never counts."""

from typing import Any

import pytest
import torch
from sentence_transformers.sentence_transformer.modules import Pooling

from models.embedding.sentence_files import POOLING_MODES, PoolingMode
from worker.adapters.embedding.pooling import pool

LENGTHS = (5, 9, 2, 9, 7)


def states(width: int) -> torch.Tensor:
    return torch.randn(len(LENGTHS), width, 6, generator=torch.Generator().manual_seed(3))


def reference(tokens: torch.Tensor, names: Any, skipped: int) -> torch.Tensor:
    mask = torch.arange(tokens.shape[1]) < torch.tensor(LENGTHS)[:, None]
    module = Pooling(6, names, include_prompt=False)
    features = {"token_embeddings": tokens, "attention_mask": mask.long(), "prompt_length": skipped}
    return module(features)["sentence_embedding"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("skipped", [0, 1])
@pytest.mark.parametrize("names", [*POOLING_MODES, tuple(POOLING_MODES), ("mean", "cls")])
def test_equals_sentence_transformers(names: Any, skipped: int) -> None:
    modes = [POOLING_MODES[name] for name in ([names] if isinstance(names, str) else names)]

    pooled = pool(states(9), torch.tensor(LENGTHS), modes, skipped)

    assert torch.allclose(pooled, reference(states(9), names, skipped), rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", POOLING_MODES.values())
def test_padding_does_not_count(mode: PoolingMode) -> None:
    narrow, wide = states(9), torch.full((len(LENGTHS), 12, 6), 1e6)
    wide[:, :9] = narrow

    lengths = torch.tensor(LENGTHS)

    assert torch.allclose(pool(wide, lengths, [mode]), pool(narrow, lengths, [mode]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("mode", POOLING_MODES.values())
def test_sums_of_half_precision_are_float32(mode: PoolingMode, dtype: torch.dtype) -> None:
    tokens = states(9).to(dtype)

    pooled = pool(tokens, torch.tensor(LENGTHS), [mode])

    assert pooled.dtype == torch.float32
    assert torch.allclose(pooled, pool(tokens.float(), torch.tensor(LENGTHS), [mode]), rtol=0, atol=1e-6)
