"""Checks for token ids and token types that the tokenizer has but the model lacks.

An index beyond the embeddings is an error on a CPU; on a GPU it kills the process.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch

from models.errors import JobError
from worker.adapters.rows import Row
from worker.adapters.tokenization.special_tokens import TemplatedRow

CHECKED_ROWS = 1_024  # at once


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


def type_count(model: Any) -> int | None:
    """Return the number of token types that the model has embeddings for, None = it looks none up."""
    count = getattr(model.config, "type_vocab_size", None)
    return count if isinstance(count, int) and count else None  # 0 for DeBERTa, which ignores types


def lacks_padding(model: Any, tokenizer: Any) -> bool:
    """Whether the tokenizer was given a padding token, and the model no embedding for it."""
    pad, count = tokenizer.pad_token_id, size(model)
    return pad is not None and count is not None and pad >= count


def check_token_ids(ids: Sequence[int], vocabulary_size: int | None) -> None:
    """Raise JobError `unknown_token` when an id is outside the vocabulary; None = no limit."""
    if vocabulary_size is not None and max(ids, default=0) >= vocabulary_size:
        raise JobError("unknown_token", "it has a token that the model lacks; take that word out of the text")


def reject_unknown_tokens(
    encoded: list[list[Row] | JobError], vocabulary_size: int | None
) -> list[list[Row] | JobError]:
    """Put a JobError in place of the rows of each job that `check_token_ids` rejects.

    Many rows are looked at together, because a loop over tokens in Python takes as long as the tokenizer.
    """
    if vocabulary_size is None or _max_id(encoded) < vocabulary_size:
        return encoded
    return [rows if isinstance(rows, JobError) else _check_rows(rows, vocabulary_size) for rows in encoded]


def _max_id(encoded: list[list[Row] | JobError]) -> int:
    # In chunks, because the windows of a text share its tokens until they are joined here.
    rows = (row for rows in encoded if isinstance(rows, list) for row in rows)
    largest = 0
    while chunk := list(islice(rows, CHECKED_ROWS)):
        ids = b"".join([row.features["input_ids"] for row in chunk])
        largest = max(largest, int(np.frombuffer(ids, np.uintc).max(initial=0)))
    return largest


def reject_unknown_types(encoded: list[list[Row] | JobError], count: int | None) -> list[list[Row] | JobError]:
    """Put a JobError `unknown_token_type` in place of the rows of each job with a type outside the `count` types.

    Mostly these are pairs of texts, given to a model that was made for one text. None = no limit.
    """
    if count is None or _max_type([row for rows in encoded if isinstance(rows, list) for row in rows]) < count:
        return encoded
    return [rows if isinstance(rows, JobError) or _max_type(rows) < count else _unknown_type() for rows in encoded]


def _max_type(rows: list[Row]) -> int:
    features = [row.features for row in rows]
    templates = {id(row.template): row.template for row in features if isinstance(row, TemplatedRow)}
    all_types = b"".join([row.get("token_type_ids", b"") for row in features if not isinstance(row, TemplatedRow)])
    largest = int(np.frombuffer(all_types, np.uintc).max(initial=0))
    return max([largest, *(template.max_type for template in templates.values())])


def _unknown_type() -> JobError:
    return JobError(
        "unknown_token_type", "it has a type of token that the model lacks; leave text_pair out, or take another model"
    )


def _check_rows(rows: list[Row], vocabulary_size: int) -> list[Row] | JobError:
    try:
        for row in rows:
            check_token_ids(row.features["input_ids"], vocabulary_size)
    except JobError as error:
        return error.with_traceback(None)
    return rows
