"""A training loop over examples generated for every step, so that none is seen twice."""

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

import torch

Row = dict[str, Any]  # a tokenized example: lists have a value for each token, numbers one for the example
Batch = dict[str, torch.Tensor]

_POOL_ROWS: Final = 2_048  # examples sorted by length at a time, so that little of a batch is padding
_IGNORED_LABEL: Final = -100  # the label that a loss ignores
_LABEL_KEYS: Final = ("labels", "hints")  # lists of labels; all others are padded with 0
_WARM_UP_FRACTION: Final = 0.08  # share of the steps in which the learning rate rises


def pad_rows(rows: Sequence[Row]) -> Batch:
    """Return rows as tensors of shape (rows, tokens) or (rows,), with a padding mask."""
    longest = max(len(row["input_ids"]) for row in rows)
    batch = {key: torch.tensor([_pad_values(key, row[key], longest) for row in rows]) for key in rows[0]}
    lengths = torch.tensor([len(row["input_ids"]) for row in rows])
    return {**batch, "attention_mask": (torch.arange(longest) < lengths[:, None]).long()}


def _pad_values(key: str, value: Any, width: int) -> Any:
    if not isinstance(value, list):
        return value
    return [*value, *[_IGNORED_LABEL if key in _LABEL_KEYS else 0] * (width - len(value))]


def group_by_length(rows: Sequence[Row], max_rows: int, max_tokens: int) -> list[Batch]:
    """Group rows of similar length; both limits apply to each batch, and `max_tokens` includes padding."""
    groups: list[list[Row]] = [[]]
    for row in sorted(rows, key=lambda row: len(row["input_ids"])):
        if len(groups[-1]) == max_rows or (groups[-1] and (len(groups[-1]) + 1) * len(row["input_ids"]) > max_tokens):
            groups.append([])
        groups[-1].append(row)
    return [pad_rows(group) for group in groups]


def stream_batches(rows: Iterator[Row], seed: int, max_rows: int = 64, max_tokens: int = 4_096) -> Iterator[Batch]:
    """Yield batches of endless rows, in an order independent of their length."""
    rng = random.Random(seed)
    while pool := list(islice(rows, _POOL_ROWS)):
        group = group_by_length(pool, max_rows, max_tokens)
        yield from rng.sample(group, len(group))


def fit(
    model: Any,
    training_batches: Iterator[Batch],
    *,
    steps: int,
    learning_rate: float,
    loss_of: Callable[[Any, Batch], torch.Tensor] | None = None,
) -> float:
    """Train for `steps` steps and return the last one's loss; the learning rate rises first, then falls to zero."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=learning_rate, total_steps=steps, pct_start=_WARM_UP_FRACTION
    )
    model.train()
    last = float("nan")
    for step, batch in enumerate(islice(training_batches, steps)):
        loss = loss_of(model, batch) if loss_of else model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        last = loss.item()
        if step % 250 == 0:
            print(f"step {step:5}/{steps}  loss {last:.3f}", flush=True)
    model.eval()
    return last


def fit_with_hints(
    model: Any, training_batches: Iterator[Batch], *, hint_count: int, layer: int, steps: int, learning_rate: float
) -> None:
    """Fit a model to batches whose `hints`, (rows, tokens), are the kind of each token, -100 for none.

    The hints are predicted from the states after `layer` layers. A model this small stays at chance for thousands
    of steps if its only signal is one label a text. The layer that learns from hints is removed afterwards.
    """
    model.hints = torch.nn.Linear(model.config.hidden_size, hint_count)

    def loss_of(model: Any, batch: Batch) -> torch.Tensor:
        hints = batch.pop("hints")
        answer = model(**batch, output_hidden_states=True)
        guesses = model.hints(answer.hidden_states[layer])
        return answer.loss + torch.nn.functional.cross_entropy(guesses.flatten(0, 1), hints.flatten())

    fit(model, training_batches, steps=steps, learning_rate=learning_rate, loss_of=loss_of)
    del model.hints


def init_sinusoidal_positions(embedding: torch.nn.Embedding, scale: float) -> None:
    """Set position embeddings to sine waves (Vaswani et al. 2017, section 3.5) before training.

    Random embeddings would first have to learn which positions are close, and rarely used late positions never would.
    """
    positions, width = embedding.weight.shape
    rates = torch.exp(torch.arange(0, width, 2) * (-torch.log(torch.tensor(10_000.0)) / width))
    angles = torch.arange(positions)[:, None] * rates[None, :]
    with torch.no_grad():
        embedding.weight[:, 0::2] = torch.sin(angles) * scale
        embedding.weight[:, 1::2] = torch.cos(angles) * scale


def init_mimetic_attention(query: torch.nn.Linear, key: torch.nn.Linear, scale: float) -> None:
    """Initialize attention to favour equal tokens (after Trockman and Kolter 2023, "Mimetic initialization").

    Matching the question's name in the passage is slow to learn from scratch, and everything else depends on it.
    """
    with torch.no_grad():
        torch.nn.init.normal_(query.weight, std=scale)
        key.weight.copy_(query.weight)
