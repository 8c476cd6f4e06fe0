"""The probe that checks whether a row gets the same scores in a packed pass as alone, whatever else is in it."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch

from worker.adapters.probes import probe_rows
from worker.adapters.probes.probe_rows import ProbeRow
from worker.layers import tolerance
from worker.layers.packed_attention import Positions

# What other texts may change in a pass of the same shape, relative to the largest score: practically nothing.
CROSS_ROW_TOLERANCE = 1e-6

PackedPass = Callable[[Sequence[int], int, Positions | None], AbstractContextManager[None]]


def is_packing_exact(
    model: Any, rows: Sequence[ProbeRow], pad_token_id: int, packed_pass: PackedPass, *, sparse_positions: bool
) -> bool:
    """Compare the rows' packed scores with those of each row alone, and with those among different other rows.

    The second comparison finds differences that the first could mistake for rounding, mostly in half precision.

    packed_pass: makes passes packed, given lengths, width and the positions that the head looks at.
    sparse_positions: compare only the positions that a head over few positions would look at.
    """

    def score(rows: Sequence[ProbeRow]) -> torch.Tensor:
        return probe_rows.compute_scores(model, probe_rows.to_tensors(rows, pad_token_id, model.device))

    def score_packed(rows: Sequence[ProbeRow]) -> list[torch.Tensor]:
        lengths = [len(row["input_ids"]) for row in rows]
        with packed_pass(lengths, max(lengths), positions):
            return _select_positions(score(rows), positions)

    try:
        alone = [score([row])[0] for row in rows]
        positions = [
            _output_positions(row, scores, sparse_positions=sparse_positions)
            for row, scores in zip(rows, alone, strict=True)
        ]
        packed = score_packed(rows)
        # Once with other texts at the odd indices, once with other texts at the even ones.
        mixed = [
            score_packed([row if index % 2 == parity else _reversed_row(row) for index, row in enumerate(rows)])
            for parity in (0, 1)
        ]
    except Exception:  # layers of another kind may raise anything
        return False
    return all(
        tolerance.scores_match(alone_scores, packed_scores)
        and tolerance.scores_match(packed_scores, mixed[index % 2][index], CROSS_ROW_TOLERANCE)
        for index, (alone_scores, packed_scores) in enumerate(
            zip(_select_positions(alone, positions), packed, strict=True)
        )
    )


def _select_positions(scores: Iterable[torch.Tensor], positions: Positions) -> list[torch.Tensor]:
    """Each row's scores at its positions; a row with a single set of scores keeps it."""
    return [
        row_scores if row_scores.ndim == 1 else row_scores[list(row_positions)]
        for row_scores, row_positions in zip(scores, positions, strict=True)
    ]


def _output_positions(row: ProbeRow, scores: torch.Tensor, *, sparse_positions: bool) -> list[int]:
    """The positions that the head looks at: the first if it scores rows, else first and last or all of them."""
    if scores.ndim == 1:
        return [0]
    length = len(row["input_ids"])
    return [0, length - 1] if sparse_positions else list(range(length))


def _reversed_row(row: ProbeRow) -> ProbeRow:
    """A row of the same length with another text."""
    return {**row, "input_ids": row["input_ids"][::-1]}
