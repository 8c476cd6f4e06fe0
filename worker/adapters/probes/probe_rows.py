"""Trials: what a model does is tried on made-up rows when it is loaded, not believed of its name."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from models.errors import ModelError, first_line
from worker.adapters.tokenization.special_tokens import Frame, Framed
from worker.failures import breaks, may_pass, out_of_memory

Row = Mapping[str, list[int]]


# Tokens of a trial's longest text, and of the others: two rows of the same length, and shorter ones.
TEXT = 16
SIZES = (TEXT, TEXT, TEXT // 2, 3)


def row(tokenizer: Any, frame: Frame, size: int = TEXT, first: int = 0, words: int | None = None) -> Row:
    """A text of usual words, from the `first` of them on; a second text of a pair has one word.

    words: how many the model has, None = as many as the tokenizer.
    """
    special = set(tokenizer.all_special_ids)
    count = len(tokenizer) if words is None else min(words, len(tokenizer))
    usual = [token for token in range(count) if token not in special][first : first + size]
    return dict(Framed(frame, (usual, *[usual[:1]] * (len(frame.special) - 2))))


def rows(tokenizer: Any, frame: Frame) -> list[Row]:
    """Texts of different words and lengths, the longest first."""
    return [row(tokenizer, frame, size, first) for first, size in enumerate(SIZES)]


def tensors(rows: Sequence[Row], pad: int, device: Any, width: int = 0) -> dict[str, torch.Tensor]:
    """Rows padded on the right to the longest, or to `width`, as a model takes them."""
    lengths = [len(row["input_ids"]) for row in rows]
    width = max(width, *lengths)
    fillers = {"input_ids": pad, "attention_mask": 0}
    masked = [{**row, "attention_mask": [1] * length} for row, length in zip(rows, lengths, strict=True)]
    return {
        name: torch.tensor(
            [row[name] + [fillers.get(name, 0)] * (width - len(row[name])) for row in masked], device=device
        )
        for name in masked[0]
    }


def scores(model: Any, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """A pass's scores, with rows first: for each row, or for each of its tokens; beginnings beside ends for spans."""
    output = model(**tensors)
    if "start_logits" in output:
        return torch.stack([output.start_logits, output.end_logits], dim=-1)
    found: torch.Tensor = output.logits
    return found


def refusal(model: Any, error: Exception) -> Exception:
    """Why a model that fails on a few words is not used; the error itself where the device is to blame."""
    if out_of_memory(error) or breaks(error) or may_pass(error):
        return error
    return ModelError(f"{type(model).__name__} fails on a text of a few words: {first_line(error)}; take another model")
