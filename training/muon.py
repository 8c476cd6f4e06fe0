"""Training with Muon (Jordan et al. 2024), which gives matrices steps of equal size in every direction.

For these tiny models, Muon reaches AdamW's loss in about half of the steps. Copying a name, the last skill they learn,
then takes minutes on one core. Embeddings, norms and biases use AdamW.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

import torch

_WARM_UP_STEPS: Final = 100
_DECAY_FRACTION: Final = 0.6  # share of the steps at the end in which the learning rate falls to zero
_REPORT_EVERY_STEPS: Final = 250  # steps between two lines of progress


def fit(
    model: Any, training_batches: Iterator[dict[str, torch.Tensor]], *, steps: int, learning_rate: float
) -> list[float]:
    """Train for `steps` steps and return the loss of each."""
    optimizers = _build_optimizers(model, learning_rate)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _learning_rate_factor(step, steps))
        for optimizer in optimizers
    ]
    losses: list[float] = []
    model.train()
    for batch in islice(training_batches, steps):
        losses.append(_train_step(model, batch, optimizers))
        for schedule in schedules:
            schedule.step()
        if len(losses) % _REPORT_EVERY_STEPS == 0:
            print(
                f"step {len(losses):5}/{steps}  loss {sum(losses[-_REPORT_EVERY_STEPS:]) / _REPORT_EVERY_STEPS:.3f}",
                flush=True,
            )
    model.eval()
    return losses


def _build_optimizers(model: Any, learning_rate: float) -> list[torch.optim.Optimizer]:
    """Assign the layers' matrices to Muon; an embedding's rows are independent, so it uses AdamW."""
    embeddings = {id(part.weight) for part in model.modules() if isinstance(part, torch.nn.Embedding)}
    parameters = list(model.parameters())
    matrices = [weight for weight in parameters if weight.ndim == 2 and id(weight) not in embeddings]
    taken = {id(weight) for weight in matrices}
    others = [weight for weight in parameters if id(weight) not in taken]
    return [
        torch.optim.Muon(matrices, lr=learning_rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=learning_rate, weight_decay=0.0, betas=(0.9, 0.98)),
    ]


def _train_step(model: Any, batch: dict[str, torch.Tensor], optimizers: list[torch.optim.Optimizer]) -> float:
    loss = model(**batch).loss
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
    return float(loss.item())


def _learning_rate_factor(step: int, steps: int) -> float:
    """Return the share of the full learning rate: rising, constant, then falling."""
    left = max(0.0, 1 - step / steps)
    return min(1.0, (step + 1) / _WARM_UP_STEPS, left / _DECAY_FRACTION)
