"""Fit a model with Muon (Jordan et al. 2024): its matrices take steps of equal size in every direction.

For these tiny encoders, decoders and generators it comes to the loss that AdamW reaches in about half of the steps; and
copying a name, the last thing they learn, fits into minutes on one core. Embeddings, norms and biases stay with AdamW.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

import torch

_WARM_UP: Final = 100  # steps
_FALLING: Final = 0.6  # share of the steps, the last ones, in which the learning rate falls to nothing
_SAID: Final = 250  # steps between two lines of progress


def fit(model: Any, learned: Iterator[dict[str, torch.Tensor]], *, steps: int, rate: float) -> list[float]:
    """Take `steps` steps and return each one's loss."""
    optimizers = _optimizers(model, rate)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _share(step, steps)) for optimizer in optimizers
    ]
    losses: list[float] = []
    model.train()
    for batch in islice(learned, steps):
        losses.append(_step(model, batch, optimizers))
        for schedule in schedules:
            schedule.step()
        if len(losses) % _SAID == 0:
            print(f"step {len(losses):5}/{steps}  loss {sum(losses[-_SAID:]) / _SAID:.3f}", flush=True)
    model.eval()
    return losses


def _optimizers(model: Any, rate: float) -> list[torch.optim.Optimizer]:
    """Give Muon the matrices of the layers; embeddings are matrices too, but each row is a thing of its own."""
    embeddings = {id(part.weight) for part in model.modules() if isinstance(part, torch.nn.Embedding)}
    parameters = list(model.parameters())
    matrices = [weight for weight in parameters if weight.ndim == 2 and id(weight) not in embeddings]
    taken = {id(weight) for weight in matrices}
    others = [weight for weight in parameters if id(weight) not in taken]
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=rate, weight_decay=0.0, betas=(0.9, 0.98)),
    ]


def _step(model: Any, batch: dict[str, torch.Tensor], optimizers: list[torch.optim.Optimizer]) -> float:
    loss = model(**batch).loss
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
    return float(loss.item())


def _share(step: int, steps: int) -> float:
    """Return the share of the full learning rate: up at first, level, then down."""
    left = max(0.0, 1 - step / steps)
    return min(1.0, (step + 1) / _WARM_UP, left / _FALLING)
