"""A tiny random TAPAS, which answers questions about tables."""

from pathlib import Path
from typing import Any

from transformers import TapasConfig, TapasForQuestionAnswering, TapasTokenizer

from tests.factories.tiny_models import BERT_SIZES, SPECIAL_TOKENS, WORDPIECE_VOCABULARY, _random_model, save

MAX_POSITIONS = 96


def tapas(folder: Path, *, aggregates: bool = True, **config: Any) -> Path:
    """TAPAS; `aggregates`: with a head that chooses an aggregator."""
    words = [*SPECIAL_TOKENS, "[EMPTY]", *WORDPIECE_VOCABULARY[len(SPECIAL_TOKENS) :]]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words), "utf-8")
    labels = {"num_aggregation_labels": 4, "aggregation_labels": {0: "NONE", 1: "SUM", 2: "AVERAGE", 3: "COUNT"}}
    made = TapasConfig(
        **{
            "vocab_size": len(words),
            "max_position_embeddings": MAX_POSITIONS,
            "initializer_range": 0.5,
            **BERT_SIZES,
            **({**labels, "no_aggregation_label_index": 0} if aggregates else {}),
            **config,
        }
    )
    tokenizer = TapasTokenizer(str(folder / "vocab.txt"), model_max_length=MAX_POSITIONS)
    return save(folder, _random_model(TapasForQuestionAnswering, made), tokenizer)
