"""Hints: a second task while training, which tells every token, and not only the answer, what there is to notice.

A model this small stays at guessing for thousands of steps when one label a text is all that it is told. The layer that
learns from hints is taken off again before the model is saved.
"""

from collections.abc import Iterator
from typing import Any

import torch

from training import fitting
from training.fitting import Batch


def fit_with_hints(
    model: Any, training_batches: Iterator[Batch], *, hint_count: int, layer: int, steps: int, learning_rate: float
) -> None:
    """Fit a model to batches whose `hints`, (rows, tokens), say what kind of token each is, -100 for none.

    The hints are read off the hidden states after `layer` layers.
    """
    model.hints = torch.nn.Linear(model.config.hidden_size, hint_count)

    def loss_of(model: Any, batch: Batch) -> torch.Tensor:
        hints = batch.pop("hints")
        answer = model(**batch, output_hidden_states=True)
        guesses = model.hints(answer.hidden_states[layer])
        return answer.loss + torch.nn.functional.cross_entropy(guesses.flatten(0, 1), hints.flatten())

    fitting.fit(model, training_batches, steps=steps, learning_rate=learning_rate, loss_of=loss_of)
    del model.hints
