"""Neighbours: whether a row comes out of a packed pass as it does alone, whoever else is in it."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch

from worker.adapters.probes import probe_rows
from worker.adapters.probes.probe_rows import ProbeRow
from worker.layers import tolerance
from worker.layers.packed_attention import Positions

# How much of the largest score other texts in a pass may move, its shape being the same: nothing.
CROSS_ROW_TOLERANCE = 1e-6

PackedPass = Callable[[Sequence[int], int, Positions | None], AbstractContextManager[None]]


def is_packing_exact(
    model: Any, rows: Sequence[ProbeRow], pad_token_id: int, packed_pass: PackedPass, *, sparse_positions: bool
) -> bool:
    """Holds rows in a packed pass against each of them alone, and against themselves beside other rows.

    The second shows what the first might take for rounding, in half precision above all. `packed` makes the model's
    passes packed, of these lengths and this width; with `few` only what is looked at is held against the other.
    """
    try:
        alone = [
            probe_rows.compute_scores(model, probe_rows.to_tensors([row], pad_token_id, model.device))[0]
            for row in rows
        ]
        places = [
            _output_positions(row, scores, sparse_positions=sparse_positions)
            for row, scores in zip(rows, alone, strict=True)
        ]

        def together(rows: Sequence[ProbeRow]) -> list[torch.Tensor]:
            lengths = [len(row["input_ids"]) for row in rows]
            with packed_pass(lengths, max(lengths), places):
                found = probe_rows.compute_scores(model, probe_rows.to_tensors(rows, pad_token_id, model.device))
            return [
                scores if scores.ndim == 1 else scores[of_row] for scores, of_row in zip(found, places, strict=True)
            ]

        beside = together(rows)
        # The rows at even places beside others, and those at odd places.
        others = [
            together([_reversed_row(row) if place % 2 != kept else row for place, row in enumerate(rows)])
            for kept in (0, 1)
        ]
    except Exception:  # whatever a model says whose layers are of another kind
        return False
    return all(
        tolerance.scores_match(scores if scores.ndim == 1 else scores[of_row], found)
        and tolerance.scores_match(found, others[place % 2][place], CROSS_ROW_TOLERANCE)
        for place, (scores, of_row, found) in enumerate(zip(alone, places, beside, strict=True))
    )


def _output_positions(row: ProbeRow, scores: torch.Tensor, *, sparse_positions: bool) -> list[int]:
    """What a head looks at that scores rows, or one that scores tokens."""
    if scores.ndim == 1:
        return [0]
    length = len(row["input_ids"])
    return [0, length - 1] if sparse_positions else list(range(length))


def _reversed_row(row: ProbeRow) -> ProbeRow:
    """A row of the same length that reads otherwise."""
    return {**row, "input_ids": row["input_ids"][::-1]}
