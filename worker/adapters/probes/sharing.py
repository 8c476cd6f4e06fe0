"""The policy by which rows share forward passes, as the sameness probe decided it for one model."""

from dataclasses import dataclass
from enum import Enum
from typing import Any

from worker.layers.model_state import ModelState


class Sharing(Enum):
    """The rows that may share a pass: all, padded to the longest; those of equal length; or none."""

    TOGETHER = "together"
    BY_LENGTH = "by length"
    ALONE = "alone"


@dataclass(frozen=True, slots=True)
class SharingPolicy:
    """The conditions under which each of a model's rows gets the answer that it gets alone.

    sharing: the rows that may share a pass.
    supports_continuous: whether rows may leave and enter a running generation.
    stateful_classes: names of the classes whose modules must be restored before each pass.
    always_together_tokens: rows of at most this many tokens share passes despite `sharing`, None = none do.
    """

    sharing: Sharing = Sharing.TOGETHER
    supports_continuous: bool = True
    stateful_classes: frozenset[str] = frozenset()
    always_together_tokens: int | None = None

    def sharing_for(self, token_count: int, *, fixed_shape: bool = False) -> Sharing:
        """The rows that a row may share a pass with.

        token_count: the row's tokens, new ones included.
        fixed_shape: the pass has a fixed shape, which may be wider than any of its rows.
        """
        if self.always_together_tokens is None or fixed_shape or token_count > self.always_together_tokens:
            return self.sharing
        return Sharing.TOGETHER

    def state_to_restore(self, model: Any) -> ModelState | None:
        """The state to restore before each pass; None if the model has none."""
        return ModelState(model, self.stateful_classes) if self.stateful_classes else None
