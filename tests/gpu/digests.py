"""Prints digests of the scores, or texts, that a separate process computes: `python -m tests.gpu.digests …`."""

import hashlib
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import DistilBertConfig, DistilBertForSequenceClassification

from tests.factories import tiny_models
from tests.factories.forward_passes import TEXTS, encode_texts, forward_all
from tests.gpu.conftest import entry_for, load_on
from worker.leasing.leases import Job, Lease
from worker.loading.runtime import Runtime
from worker.passes import planning

WORDS = ("love", "hate", "the", "great", "product", "it", "é")
TEXT_COUNT, MAX_LENGTH = 60, 200
SAMPLING = {"do_sample": True, "seed": 3, "max_new_tokens": 12, "temperature": 3.0, "top_k": 0}


def save_classifier(folder: Path, width: int, max_length: int = MAX_LENGTH) -> Path:
    """A model so wide that the kernels of its products differ by shape."""
    sizes = {"dim": width, "n_layers": 2, "n_heads": width // 64, "hidden_dim": 2 * width}
    torch.manual_seed(0)
    vocabulary = len(tiny_models.WORDPIECE_VOCABULARY)
    config = DistilBertConfig(vocab_size=vocabulary, max_position_embeddings=max_length, **sizes)
    tokenizer = tiny_models.wordpiece_tokenizer(max_length)
    return tiny_models.save(folder, DistilBertForSequenceClassification(config), tokenizer)


def texts() -> list[str]:
    """Texts of skewed length, up to past the model's."""
    source = random.Random(5)
    return [" ".join(source.choices(WORDS, k=int(source.lognormvariate(3, 1)) + 1)) for _ in range(TEXT_COUNT)]


def scores_by_position(loaded: Runtime, order: Sequence[int], token_budget: int) -> dict[int, torch.Tensor]:
    """The scores of these texts, planned into passes in this order."""
    all_texts, lease = texts(), Lease(1, "b", 0, TEXT_COUNT, 1, 1)
    jobs = [Job(lease, position, {"text": all_texts[position]}) for position in order]
    rows = [row for rows in loaded.adapter.encode(jobs) if isinstance(rows, list) for row in rows]
    return {
        row.job.position: torch.as_tensor(raw)
        for batch in planning.plan_micro_batches(rows, token_budget, loaded.adapter.max_rows)
        for row, raw in zip(batch.rows, loaded.adapter.forward(batch), strict=True)
    }


def digest_scores(device: str, folder: Path, dtype: str) -> str:
    """A digest of all texts' scores in deterministic passes."""
    loaded = load_on(device, entry_for(folder, "sentiment-analysis", dtype=dtype, deterministic=True))
    scores = scores_by_position(loaded, range(TEXT_COUNT), 1024)
    return digest([scores[position].tolist() for position in range(TEXT_COUNT)])


def digest_texts(device: str, folder: Path, dtype: str) -> str:
    """A digest of seeded texts in deterministic passes."""
    adapter = load_on(device, entry_for(folder, "text-generation", dtype=dtype, deterministic=True)).adapter
    return digest(sorted(forward_all(adapter, encode_texts(adapter, TEXTS, **SAMPLING)).items()))


def digest(value: Any) -> str:
    """A digest of an object by its representation, which has all digits of a number."""
    return hashlib.sha256(repr(value).encode()).hexdigest()


if __name__ == "__main__":
    kind, device_name, model_folder, *dtypes = sys.argv[1:]
    compute = {"scores": digest_scores, "texts": digest_texts}[kind]
    for dtype_name in dtypes:
        digest_line = f"digest {compute(device_name, Path(model_folder), dtype_name)}"  # beside lines of the log
        print(digest_line, flush=True)  # noqa: T201
