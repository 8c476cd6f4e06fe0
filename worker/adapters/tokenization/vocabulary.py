"""A check for token ids that the tokenizer has but the model lacks.

An index beyond the embeddings is an error on a CPU; on a GPU it kills the process.
"""

from collections.abc import Sequence
from typing import Any

import torch

from models.errors import JobError


def size(model: Any) -> int | None:
    """Return the number of tokens that the model has embeddings for, None = it embeds any number (CANINE)."""
    try:
        embeddings = model.get_input_embeddings()
    except NotImplementedError:
        embeddings = None
    # Perceiver returns its latents, which are no embeddings.
    weight = getattr(embeddings, "weight", None)
    if isinstance(embeddings, torch.nn.Module) and isinstance(weight, torch.Tensor):
        return int(weight.shape[0])
    config_size = getattr(model.config, "vocab_size", None)
    return config_size if isinstance(config_size, int) else None


def check_token_ids(ids: Sequence[int], vocabulary_size: int | None) -> None:
    """Raise JobError `unknown_token` when an id is outside the vocabulary; None = no limit."""
    if vocabulary_size is not None and max(ids, default=0) >= vocabulary_size:
        raise JobError("unknown_token", "it has a token that the model lacks; take that word out of the text")
