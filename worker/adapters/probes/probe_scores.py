"""Scores of synthetic rows, which probes compute when a model is loaded, and the test whether two scores are the same.

Every probe uses this one test and this one table, instead of trusting a model's class name.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from models.errors import ModelError
from models.foreign_errors import first_line
from worker.adapters.tokenization.special_tokens import Template, TemplatedRow
from worker.adapters.tokenization.token_array import token_array
from worker.failures import is_device_error, is_machine_problem

# The rounding that products of another shape may cause, relative to the largest score. Passes of the same shape round
# alike, so other texts in them may change practically nothing.
RELATIVE_TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}
SAME_SHAPE_TOLERANCE = 1e-6

# Tokens of the probe's texts: two of the same length, and shorter ones.
MAX_TEXT_TOKENS = 16
TEXT_LENGTHS = (MAX_TEXT_TOKENS, MAX_TEXT_TOKENS, MAX_TEXT_TOKENS // 2, 3)

ProbeRow = Mapping[str, list[int]]


def scores_match(
    left: torch.Tensor, right: torch.Tensor, *, same_shape: bool = False, rounding: float = 0.0, scale: float = 0.0
) -> bool:
    """Whether two passes of one model gave the same scores.

    same_shape: the passes had the same shape, so they must agree more closely.
    rounding: a difference that the model's dtype alone is known to cause; twice as much is accepted.
    scale: the size of the model's scores, if that of these says little, see `scale_of`.
    """
    tolerance = SAME_SHAPE_TOLERANCE if same_shape else RELATIVE_TOLERANCE.get(left.dtype, 0.0)
    # 0.0 where no score is finite, as with damaged weights.
    atol = tolerance * max(_largest(left), scale) + 2 * rounding
    return left.shape == right.shape and torch.allclose(left, right, rtol=0.0, atol=atol, equal_nan=True)


def scale_of(all_scores: Sequence[torch.Tensor]) -> float:
    """The largest score of several rows if each has a single number, else 0.

    The only number of a row may be near 0 by chance, because large terms cancel each other out; their rounding stays.
    """
    return 0.0 if any(scores.numel() != 1 for scores in all_scores) else max(map(_largest, all_scores), default=0.0)


def _largest(scores: torch.Tensor) -> float:
    return float(torch.nan_to_num(scores.abs(), nan=0.0, posinf=0.0).max())


def rounding_between(alone: Sequence[torch.Tensor], padded: torch.Tensor) -> float:
    """The largest difference between rows that run alone and the same rows padded, both right.

    In half precision it is large beside the scores where large terms cancel each other out.
    """
    pairs = ((left, right[: len(left)]) for left, right in zip(alone, padded, strict=True))
    differences = [torch.nan_to_num((left.float() - right.float()).abs(), posinf=0.0) for left, right in pairs]
    return max(difference.max().item() for difference in differences)


def make_row(
    tokenizer: Any,
    template: Template,
    token_count: int = MAX_TEXT_TOKENS,
    first_token: int = 0,
    vocabulary_size: int | None = None,
) -> ProbeRow:
    """A text of ordinary tokens; the second text of a pair has one token.

    token_count: tokens of the text.
    first_token: how many ordinary tokens to skip.
    vocabulary_size: tokens that the model has, None = as many as the tokenizer.
    """
    special = set(tokenizer.all_special_ids)
    count = len(tokenizer) if vocabulary_size is None else min(vocabulary_size, len(tokenizer))
    tokens = [token for token in range(count) if token not in special][first_token : first_token + token_count]
    texts = [tokens, *[tokens[:1]] * (len(template.special_ids) - 2)]
    row = TemplatedRow.from_texts(template, [token_array(text) for text in texts])
    return {name: list(values) for name, values in row.items()}


def make_rows(tokenizer: Any, template: Template, vocabulary_size: int | None = None) -> list[ProbeRow]:
    """Texts of different tokens and lengths, the longest first; the last has a mask token, if there is any.

    ESM scales the embeddings of a text by its share of mask tokens.

    vocabulary_size: as in `make_row`.
    """
    rows = [make_row(tokenizer, template, size, first) for first, size in enumerate(TEXT_LENGTHS)]
    mask_id = getattr(tokenizer, "mask_token_id", None)
    if mask_id is None or (vocabulary_size is not None and mask_id >= vocabulary_size):
        return rows
    ids = list(rows[-2]["input_ids"])
    ids[len(ids) // 2] = mask_id
    return [*rows, {**rows[-2], "input_ids": ids}]


def to_tensors(rows: Sequence[ProbeRow], pad_token_id: int, device: Any, width: int = 0) -> dict[str, torch.Tensor]:
    """The model's inputs: rows padded on the right to the longest, or to `width` if that is more."""
    lengths = [len(row["input_ids"]) for row in rows]
    width = max(width, *lengths)
    pad_values = {"input_ids": pad_token_id, "attention_mask": 0}
    masked = [{**row, "attention_mask": [1] * length} for row, length in zip(rows, lengths, strict=True)]
    return {
        name: torch.tensor(
            [row[name] + [pad_values.get(name, 0)] * (width - len(row[name])) for row in masked], device=device
        )
        for name in masked[0]
    }


def compute(model: Any, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """One pass's scores, `(rows, …)`: per row or per token; for spans, the last axis holds start and end.

    Of a model without a head, they are the vectors of the tokens.
    """
    output = model(**tensors)
    if "start_logits" in output:
        return torch.stack([output.start_logits, output.end_logits], dim=-1)
    scores: torch.Tensor = output.logits if "logits" in output else output[0]
    return scores


def reraise_machine_problem(error: Exception) -> None:
    """Raise the error again if a device, memory or another resource failed: then it says nothing about the model."""
    if is_machine_problem(error):
        raise error


def unusable_model_error(model: Any, error: Exception) -> Exception:
    """The ModelError that refuses a model; the error itself if its cause is the device."""
    if is_machine_problem(error) or is_device_error(error):
        return error
    return ModelError(f"{type(model).__name__} fails on a text of a few words: {first_line(error)}; take another model")
