"""Padding: whether a model's answers change when rows of other lengths share its pass.

Attention leaves the padding out, but convolutions (CANINE, ConvBERT) and Fourier transforms (FNet) run over it. Rows of
such models may share a pass only with rows of their own length.
"""

from typing import Any

import torch

from worker import int8
from worker.adapters import trials
from worker.adapters.framing import Frame

PADDING = 16  # behind the trial's text: more than the widest convolution


def matters(model: Any, tokenizer: Any, frame: Frame) -> bool:
    """Tries a row alone and padded; true where the scores differ, or padding on the right is not the tokenizer's.

    Padding on the left moves every text to other positions, which most models tell apart. On the right it would be
    wrong for models that look at the last position (XLNet).
    """
    if tokenizer.padding_side == "left":
        return True
    if tokenizer.pad_token_id is None:
        return False  # then a row never shares a pass
    row = trials.row(tokenizer, frame)
    try:
        with int8.unrounded(model), torch.inference_mode():
            return not _agree(model, row, tokenizer.pad_token_id)
    except Exception:  # whatever a model says to a row that it can't take; its rows stay apart
        return True


def _agree(model: Any, row: trials.Row, pad: int) -> bool:
    length = len(row["input_ids"])
    alone, padded = (
        trials.scores(model, trials.tensors([row], pad, model.device, width)) for width in (length, length + PADDING)
    )
    return trials.agree(alone, padded[:, : alone.shape[1]])
