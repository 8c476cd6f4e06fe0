"""Narrowing: a language model's head is applied where it is wanted, and nowhere else.

The head turns each position's state into a score for every word there is. For multilingual vocabularies that is more
work than the rest of the model, and gigabytes, where one position in a hundred is a mask.
"""

from collections.abc import Mapping
from typing import Any

import torch

from worker.layers import tolerance

# How far the two ways may be apart, as a part of the largest score: what a product of another shape may cost.
HEAD_TOLERANCE = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}


class SparseLmHead:
    """The scores of some positions, by taking the others out between a model's body and its head.

    It works for heads that look at each position by itself, which a trial tells; elsewhere the others are taken out
    behind the head. With `wide` it is always so: the head's products then have the same shape whatever is masked.
    """

    def __init__(self, model: Any, *, full: bool = False) -> None:
        self._model = model
        self._positions: tuple[torch.Tensor, torch.Tensor] | None = None
        self._full = full or model.base_model is model
        if not self._full:
            model.base_model.register_forward_hook(self._gather_positions)

    @torch.inference_mode()
    def scores(self, tensors: Mapping[str, torch.Tensor], rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """`(places, words)` at these rows and columns of a batch."""
        if self._full:
            whole: torch.Tensor = self._model(**tensors).logits
            return whole[rows, columns]
        self._positions = rows, columns
        try:
            [narrow] = self._model(**tensors).logits
        finally:
            self._positions = None
        return narrow

    def calibrate(self, tensors: Mapping[str, torch.Tensor], rows: torch.Tensor, columns: torch.Tensor) -> None:
        """Try both ways on a batch, and stay with the wide one where they differ."""
        if not self._full:
            self._full = not self._scores_match(tensors, rows, columns)

    @torch.inference_mode()
    def _scores_match(self, tensors: Mapping[str, torch.Tensor], rows: torch.Tensor, columns: torch.Tensor) -> bool:
        wide = self._model(**tensors).logits[rows, columns]
        try:
            narrow = self.scores(tensors, rows, columns)
        except Exception:  # whatever a head says that wants every position
            return False
        if narrow.shape != wide.shape:
            return False
        allowed = HEAD_TOLERANCE.get(wide.dtype, 0.0) * tolerance.max_magnitude(wide)
        return torch.allclose(narrow, wide, rtol=0.0, atol=allowed, equal_nan=True)

    def _gather_positions(self, _body: Any, _args: Any, output: Any) -> Any:
        if self._positions is None:
            return None
        rows, columns = self._positions
        states = output[0][rows, columns][None]
        if isinstance(output, tuple):
            return (states, *output[1:])
        output["last_hidden_state"] = states
        return output
