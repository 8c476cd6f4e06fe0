"""Padding: whether a model's answers change when rows of other lengths share its pass.

Attention leaves the padding out, but convolutions (CANINE, ConvBERT) and Fourier transforms (FNet) run over it. Rows of
such models may share a pass only with rows of their own length.
"""

import sys
from typing import Any

import torch

from worker.adapters.probes import probe_rows
from worker.adapters.tokenization import vocabulary
from worker.adapters.tokenization.special_tokens import Template
from worker.layers import int8_linear, tolerance

PADDING_TOKENS = 16  # behind the trial's text: more than the widest convolution


def padding_changes_scores(model: Any, tokenizer: Any, template: Template, max_width: int | None = None) -> bool:
    """Tries a row alone and padded; true where the scores differ, or padding on the right is not the tokenizer's.

    Padding on the left moves every text to other positions, which most models tell apart. On the right it would be
    wrong for models that look at the last position (XLNet). `longest` is the width that no pass goes past. Raises
    ModelError where the model can't read a row at all.
    """
    row = probe_rows.make_row(tokenizer, template, vocabulary_size=vocabulary.size(model))
    with int8_linear.float32_fallback(model), torch.inference_mode():
        alone = _scores_alone(model, row)
        if tokenizer.padding_side == "left":
            return True
        if tokenizer.pad_token_id is None:
            return False  # then a row never shares a pass
        try:
            width = min(len(row["input_ids"]) + PADDING_TOKENS, max_width or sys.maxsize)
            padded = probe_rows.compute_scores(
                model, probe_rows.to_tensors([row], tokenizer.pad_token_id, model.device, width)
            )
        except Exception:  # whatever a model says to padding that it can't take; its rows stay apart
            return True
    return not tolerance.scores_match(alone, padded[:, : alone.shape[1]])


def _scores_alone(model: Any, row: probe_rows.ProbeRow) -> torch.Tensor:
    try:
        return probe_rows.compute_scores(model, probe_rows.to_tensors([row], 0, model.device))
    except Exception as error:
        raise probe_rows.unusable_model_error(model, error) from error
