"""An auxiliary training task that predicts a hint for every token.

A model this small stays at chance for thousands of steps if its only signal is one label a text. The layer that learns
from hints is removed before the model is saved.
"""

from collections.abc import Iterator
from typing import Any

import torch

from training import training_loop
from training.training_loop import Batch


def fit_with_hints(
    model: Any, training_batches: Iterator[Batch], *, hint_count: int, layer: int, steps: int, learning_rate: float
) -> None:
    """Fit a model to batches whose `hints`, (rows, tokens), are the kind of each token, -100 for none.

    The hints are predicted from the hidden states after `layer` layers.
    """
    model.hints = torch.nn.Linear(model.config.hidden_size, hint_count)

    def loss_of(model: Any, batch: Batch) -> torch.Tensor:
        hints = batch.pop("hints")
        answer = model(**batch, output_hidden_states=True)
        guesses = model.hints(answer.hidden_states[layer])
        return answer.loss + torch.nn.functional.cross_entropy(guesses.flatten(0, 1), hints.flatten())

    training_loop.fit(model, training_batches, steps=steps, learning_rate=learning_rate, loss_of=loss_of)
    del model.hints
