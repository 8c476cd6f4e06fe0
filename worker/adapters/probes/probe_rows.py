"""Trials: what a model does is tried on made-up rows when it is loaded, not believed of its name."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from models.errors import ModelError, first_line
from worker.adapters.tokenization.special_tokens import Template, TemplatedRow
from worker.failures import is_device_lost, is_out_of_memory, is_transient

ProbeRow = Mapping[str, list[int]]


# Tokens of a trial's longest text, and of the others: two rows of the same length, and shorter ones.
MAX_TEXT_TOKENS = 16
TEXT_LENGTHS = (MAX_TEXT_TOKENS, MAX_TEXT_TOKENS, MAX_TEXT_TOKENS // 2, 3)


def make_row(
    tokenizer: Any,
    template: Template,
    token_count: int = MAX_TEXT_TOKENS,
    first_token: int = 0,
    vocabulary_size: int | None = None,
) -> ProbeRow:
    """A text of usual words, from the `first` of them on; a second text of a pair has one word.

    words: how many the model has, None = as many as the tokenizer.
    """
    special = set(tokenizer.all_special_ids)
    count = len(tokenizer) if vocabulary_size is None else min(vocabulary_size, len(tokenizer))
    usual = [token for token in range(count) if token not in special][first_token : first_token + token_count]
    return dict(TemplatedRow(template, (usual, *[usual[:1]] * (len(template.special_ids) - 2))))


def make_rows(tokenizer: Any, template: Template) -> list[ProbeRow]:
    """Texts of different words and lengths, the longest first."""
    return [make_row(tokenizer, template, size, first) for first, size in enumerate(TEXT_LENGTHS)]


def to_tensors(rows: Sequence[ProbeRow], pad_token_id: int, device: Any, width: int = 0) -> dict[str, torch.Tensor]:
    """Rows padded on the right to the longest, or to `width`, as a model takes them."""
    lengths = [len(row["input_ids"]) for row in rows]
    width = max(width, *lengths)
    fillers = {"input_ids": pad_token_id, "attention_mask": 0}
    masked = [{**row, "attention_mask": [1] * length} for row, length in zip(rows, lengths, strict=True)]
    return {
        name: torch.tensor(
            [row[name] + [fillers.get(name, 0)] * (width - len(row[name])) for row in masked], device=device
        )
        for name in masked[0]
    }


def compute_scores(model: Any, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """A pass's scores, with rows first: for each row, or for each of its tokens; beginnings beside ends for spans."""
    output = model(**tensors)
    if "start_logits" in output:
        return torch.stack([output.start_logits, output.end_logits], dim=-1)
    found: torch.Tensor = output.logits
    return found


def unusable_model_error(model: Any, error: Exception) -> Exception:
    """Why a model that fails on a few words is not used; the error itself where the device is to blame."""
    if is_out_of_memory(error) or is_device_lost(error) or is_transient(error):
        return error
    return ModelError(f"{type(model).__name__} fails on a text of a few words: {first_line(error)}; take another model")
