"""The activation that turns a cross-encoder's numbers into scores."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from models.embedding.cross_encoder_files import NO_ACTIVATION

Floats = npt.NDArray[np.float32]


def activate(logits: Floats, activation: str) -> Floats:
    """Return the scores of these numbers, each of which depends on its number alone.

    In double precision, because torch rounds a float32 in the middle of an array otherwise than one at its end.

    activation: the name of a module of torch.nn.
    """
    if activation == NO_ACTIVATION:
        return logits
    function: Callable[[torch.Tensor], torch.Tensor] = getattr(torch.nn, activation)()
    scores: Floats = function(torch.from_numpy(logits.astype(np.float64))).numpy().astype(np.float32)
    return scores
