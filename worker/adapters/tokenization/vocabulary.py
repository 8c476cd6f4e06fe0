"""Vocabulary: tokens that a tokenizer has and its model lacks.

An index beyond the embeddings is an error on a CPU, and on a GPU it ends the process.
"""

from collections.abc import Sequence
from typing import Any

import torch

from models.errors import JobError


def size(model: Any) -> int | None:
    """How many tokens a model has embeddings for; None where it has some for whatever number there is (CANINE)."""
    try:
        embeddings = model.get_input_embeddings()
    except NotImplementedError:
        embeddings = None
    # Perceiver gives its latents, which are no embeddings.
    weight = getattr(embeddings, "weight", None)
    if isinstance(embeddings, torch.nn.Module) and isinstance(weight, torch.Tensor):
        return int(weight.shape[0])
    words = getattr(model.config, "vocab_size", None)
    return words if isinstance(words, int) else None


def check_token_ids(ids: Sequence[int], vocabulary_size: int | None) -> None:
    """Raises JobError `unknown_token` where a token lies beyond so many words."""
    if vocabulary_size is not None and max(ids, default=0) >= vocabulary_size:
        raise JobError("unknown_token", "it has a token that the model lacks; take that word out of the text")
