"""A language model's head, applied only at the positions whose scores are needed.

The head turns each position's state into a score for every word of the vocabulary. With multilingual vocabularies that
is more work than the rest of the model, and gigabytes of scores, although one position in a hundred is a mask.
"""

from collections.abc import Mapping
from typing import Any

import torch

from worker.layers import tolerance

# How far sparse and full scores may differ, relative to the largest: the rounding of products of another shape.
HEAD_TOLERANCE = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}


class SparseLmHead:
    """The scores of some positions; the others are removed between a model's body and its head.

    Heads that treat each position independently allow this, and `calibrate` checks it. With other heads, positions are
    removed after the head.

    full: remove positions after the head in any case, so that its products have the same shape whatever is masked.
    """

    def __init__(self, model: Any, *, full: bool = False) -> None:
        self._model = model
        self._positions: tuple[torch.Tensor, torch.Tensor] | None = None
        self._full = full or model.base_model is model
        if not self._full:
            model.base_model.register_forward_hook(self._gather_positions)

    @torch.inference_mode()
    def scores(self, tensors: Mapping[str, torch.Tensor], rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """`(positions, words)` at these rows and columns of a micro-batch."""
        if self._full:
            logits: torch.Tensor = self._model(**tensors).logits
            return logits[rows, columns]
        self._positions = rows, columns
        try:
            [sparse] = self._model(**tensors).logits
        finally:
            self._positions = None
        return sparse

    def calibrate(self, tensors: Mapping[str, torch.Tensor], rows: torch.Tensor, columns: torch.Tensor) -> None:
        """Compare sparse and full scores on a micro-batch, and use the full head from here on where they differ."""
        if not self._full:
            self._full = not self._scores_match(tensors, rows, columns)

    @torch.inference_mode()
    def _scores_match(self, tensors: Mapping[str, torch.Tensor], rows: torch.Tensor, columns: torch.Tensor) -> bool:
        full = self._model(**tensors).logits[rows, columns]
        try:
            sparse = self.scores(tensors, rows, columns)
        except Exception:  # a head that needs every position may raise anything
            return False
        return sparse.shape == full.shape and tolerance.scores_match(full, sparse, HEAD_TOLERANCE.get(full.dtype, 0.0))

    def _gather_positions(self, _body: Any, _args: Any, output: Any) -> Any:
        if self._positions is None:
            return None
        rows, columns = self._positions
        states = output[0][rows, columns][None]
        if isinstance(output, tuple):
            return (states, *output[1:])
        output["last_hidden_state"] = states
        return output
