"""Padding: whether a model's answers change when rows of other lengths share its pass.

Attention leaves the padding out, but convolutions (CANINE, ConvBERT) and Fourier transforms (FNet) run over it. Rows of
such models may share a pass only with rows of their own length.
"""

from typing import Any

import torch

from worker.adapters.framing import Frame, Framed

# Tokens of the trial's text, and of padding behind it: more than the widest convolution.
TEXT, PADDING = 16, 16
# How far two passes may be apart, as a part of the largest score: what a product of another shape may cost.
CLOSE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}


def matters(model: Any, tokenizer: Any, frame: Frame) -> bool:
    """Tries a row alone and padded; true where the scores differ, or padding on the right is not the tokenizer's.

    Padding on the left moves every text to other positions, which most models tell apart. On the right it would be
    wrong for models that look at the last position (XLNet).
    """
    if tokenizer.padding_side == "left":
        return True
    if tokenizer.pad_token_id is None:
        return False  # then a row never shares a pass
    special = set(tokenizer.all_special_ids)
    usual = [token for token in range(len(tokenizer)) if token not in special][:TEXT]
    row = Framed(frame, (usual, *[usual[:1]] * (len(frame.special) - 2)))
    try:
        return not _agree(model, dict(row), tokenizer.pad_token_id)
    except Exception:  # whatever a model says to a row that it can't take; its rows stay apart
        return True


@torch.inference_mode()
def _agree(model: Any, row: dict[str, list[int]], pad: int) -> bool:
    alone = _scores(model, row, 0, pad)
    padded = _scores(model, row, PADDING, pad)[:, : alone.shape[1]]
    allowed = CLOSE.get(alone.dtype, 0.0) * alone.abs().max().item()
    return torch.allclose(alone, padded, rtol=0.0, atol=allowed, equal_nan=True)


def _scores(model: Any, row: dict[str, list[int]], padding: int, pad: int) -> torch.Tensor:
    length = len(row["input_ids"])
    filled = {name: values + [pad if name == "input_ids" else 0] * padding for name, values in row.items()}
    tensors = {name: torch.tensor([values], device=model.device) for name, values in filled.items()}
    tensors["attention_mask"] = torch.tensor([[1] * length + [0] * padding], device=model.device)
    scores: torch.Tensor = model(**tensors).logits
    return scores
