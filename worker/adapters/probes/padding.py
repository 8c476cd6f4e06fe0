"""The probe that checks whether padding changes a model's scores.

Attention ignores padding, but convolutions (CANINE, ConvBERT) and Fourier transforms (FNet) include it. Rows of such
models share a pass only with rows of the same length.
"""

import sys
from typing import Any

import torch

from worker.adapters.probes import probe_rows
from worker.adapters.tokenization import vocabulary
from worker.adapters.tokenization.special_tokens import Template
from worker.layers import int8_linear, tolerance

PADDING_TOKENS = 16  # after the probe's text: more than the widest convolution


def padding_changes_scores(model: Any, tokenizer: Any, template: Template, max_width: int | None = None) -> bool:
    """Compare a row's scores alone and padded; true if they differ, or if the tokenizer pads on the left.

    Padding on the left shifts every text to other positions, and most models depend on positions. Padding on the right
    would be wrong for models that look at the last position (XLNet).

    max_width: tokens of the widest pass, None = no limit.

    Raises ModelError if the model can't read a row at all.
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
        except Exception:  # a model that can't read padding may raise anything; its rows stay unpadded
            return True
    return not tolerance.scores_match(alone, padded[:, : alone.shape[1]])


def _scores_alone(model: Any, row: probe_rows.ProbeRow) -> torch.Tensor:
    try:
        return probe_rows.compute_scores(model, probe_rows.to_tensors([row], 0, model.device))
    except Exception as error:
        raise probe_rows.unusable_model_error(model, error) from error
