"""Deterministic passes give the same bits with other rows, in any order, alone, and with one thread or two."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import DistilBertConfig, DistilBertForSequenceClassification

from tests.factories import tiny_models
from tests.factories.sentence_models import add_modules
from worker.adapters.encoding.collation import Collator
from worker.adapters.interface import Limits
from worker.adapters.tokenization.token_array import token_array
from worker.leasing.leases import Job, Lease
from worker.loading import runtime
from worker.passes import planning

LEASE = Lease(1, "b", 0, 200, 1, 1)
JOB = Job(LEASE, 0, {})


def texts() -> list[str]:
    """Texts of skewed length, up to past the model's."""
    source = random.Random(5)
    words = ("love", "hate", "the", "great", "product", "it", "é")
    return [" ".join(source.choices(words, k=int(source.lognormvariate(3, 1)) + 1)) for _ in range(120)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model wide enough that the arithmetic's kernels differ by shape; it classifies and embeds."""
    sizes = {"dim": 256, "n_layers": 2, "n_heads": 4, "hidden_dim": 512, "max_position_embeddings": 200}
    torch.manual_seed(0)
    model = DistilBertForSequenceClassification(
        DistilBertConfig(vocab_size=len(tiny_models.WORDPIECE_VOCABULARY), **sizes)
    )
    saved = tiny_models.save(
        tmp_path_factory.mktemp("deterministic") / "model", model, tiny_models.wordpiece_tokenizer(200)
    )
    layer = ("Dense", {"in_features": 512, "out_features": 300})
    return add_modules(saved, {"pooling_mode": ["mean", "cls"]}, [layer, ("Normalize", {})])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("task", ["sentiment-analysis", "feature-extraction"])
def test_scores_are_bit_identical_whatever_else_is_in_the_pass(folder: Path, task: str, threads: int) -> None:
    all_texts = texts()
    loaded = runtime.load(tiny_models.pipeline_for(folder, task=task, deterministic=True), "cpu", threads=threads)

    def scores(order: Sequence[int], budget: int) -> dict[int, Any]:
        jobs = [Job(LEASE, place, {"text": all_texts[place]}) for place in order]
        rows = [row for rows in loaded.adapter.encode(jobs) if isinstance(rows, list) for row in rows]
        return {
            row.job.position: raw
            for batch in planning.plan_micro_batches(rows, budget, loaded.adapter.max_rows)
            for row, raw in zip(batch.rows, loaded.adapter.forward(batch), strict=True)
        }

    positions = list(range(len(all_texts)))
    reference = scores(positions, 1024)
    others = [scores(positions[::-1], 4096), scores(random.Random(1).sample(positions, 30), 64)]
    others += [scores([place], 1024) for place in random.Random(2).sample(positions, 8)]

    for found in others:
        assert all(np.array_equal(raw, reference[place]) for place, raw in found.items())


@given(st.integers(1, 600), st.integers(1, 600))
def test_a_pass_s_shape_depends_on_the_row_alone(length: int, limit: int) -> None:
    length = min(length, limit)
    collation = Collator(tiny_models.wordpiece_tokenizer(), torch.device("cpu"), Limits(limit, deterministic=True))

    row = collation.make_row(JOB, {"input_ids": token_array([5] * length)})

    assert row.width is not None
    assert row.max_rows is not None
    assert length <= row.width <= limit
    assert row.max_rows & (row.max_rows - 1) == 0
    [batch] = planning.plan_micro_batches([row], 1, 1)
    assert collation.collate(batch)["input_ids"].shape == (row.max_rows, row.width)
