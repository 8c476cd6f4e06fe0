"""Neighbours: whether a row comes out of a packed pass as it does alone, whoever else is in it."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch

from worker.adapters.probes import probe_rows
from worker.adapters.probes.probe_rows import Row
from worker.layers import tolerance
from worker.layers.packed_attention import Places

# How much of the largest score other texts in a pass may move, its shape being the same: nothing.
LEAK = 1e-6

Pass = Callable[[Sequence[int], int, Places | None], AbstractContextManager[None]]


def harmless(model: Any, rows: Sequence[Row], pad: int, packed: Pass, *, few: bool) -> bool:
    """Holds rows in a packed pass against each of them alone, and against themselves beside other rows.

    The second shows what the first might take for rounding, in half precision above all. `packed` makes the model's
    passes packed, of these lengths and this width; with `few` only what is looked at is held against the other.
    """
    try:
        alone = [probe_rows.scores(model, probe_rows.tensors([row], pad, model.device))[0] for row in rows]
        places = [_places(row, scores, few=few) for row, scores in zip(rows, alone, strict=True)]

        def together(rows: Sequence[Row]) -> list[torch.Tensor]:
            lengths = [len(row["input_ids"]) for row in rows]
            with packed(lengths, max(lengths), places):
                found = probe_rows.scores(model, probe_rows.tensors(rows, pad, model.device))
            return [
                scores if scores.ndim == 1 else scores[of_row] for scores, of_row in zip(found, places, strict=True)
            ]

        beside = together(rows)
        # The rows at even places beside others, and those at odd places.
        others = [
            together([_other(row) if place % 2 != kept else row for place, row in enumerate(rows)]) for kept in (0, 1)
        ]
    except Exception:  # whatever a model says whose layers are of another kind
        return False
    return all(
        tolerance.agree(scores if scores.ndim == 1 else scores[of_row], found)
        and tolerance.agree(found, others[place % 2][place], LEAK)
        for place, (scores, of_row, found) in enumerate(zip(alone, places, beside, strict=True))
    )


def _places(row: Row, scores: torch.Tensor, *, few: bool) -> list[int]:
    """What a head looks at that scores rows, or one that scores tokens."""
    if scores.ndim == 1:
        return [0]
    length = len(row["input_ids"])
    return [0, length - 1] if few else list(range(length))


def _other(row: Row) -> Row:
    """A row of the same length that reads otherwise."""
    return {**row, "input_ids": row["input_ids"][::-1]}
