"""A language model's head, applied only at the positions whose scores are needed.

The head turns each position's state into a score for every word of the vocabulary. With multilingual vocabularies that
is more work than the rest of the model, and gigabytes of scores, although one position in a hundred is a mask.
"""

from collections.abc import Mapping
from typing import Any

import torch


class SparseLmHead:
    """The scores of some positions; the others are removed between a model's body and its head.

    Heads that treat each position independently allow this; a probe finds the others. With these, positions are removed
    after the head.

    full: remove positions after the head, also so that its products have the same shape whatever is masked.
    """

    def __init__(self, model: Any, *, full: bool = False) -> None:
        self._model = model
        self._positions: tuple[torch.Tensor, torch.Tensor] | None = None
        self.full = full or model.base_model is model
        if not self.full:
            model.base_model.register_forward_hook(self._gather_positions)

    @torch.inference_mode()
    def scores(self, tensors: Mapping[str, torch.Tensor], rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """`(positions, words)` at these rows and columns of a micro-batch."""
        if self.full:
            return self.full_scores(tensors)[rows, columns]
        self._positions = rows, columns
        try:
            [sparse] = self._model(**tensors).logits
        finally:
            self._positions = None
        return sparse

    def full_scores(self, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """`(rows, width, words)`, the scores of every position."""
        logits: torch.Tensor = self._model(**tensors).logits
        return logits

    def _gather_positions(self, _body: Any, _args: Any, output: Any) -> Any:
        if self._positions is None:
            return None
        # The layers of a model that is spread over several GPUs end on another one than they begin.
        rows, columns = (places.to(output[0].device) for places in self._positions)
        states = output[0][rows, columns][None]
        if isinstance(output, tuple):
            return (states, *output[1:])
        output["last_hidden_state"] = states
        return output
