"""Probes of how rows go through a model that scores texts: padded, packed, and with a head at few positions."""

import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from itertools import starmap
from typing import Any

import torch

from models.foreign_errors import first_line
from worker.adapters.probes import probe_scores
from worker.adapters.probes.probe_scores import (
    ProbeRow,
    reraise_machine_problem,
    rounding_between,
    scale_of,
    scores_match,
)
from worker.adapters.tokenization import vocabulary
from worker.adapters.tokenization.special_tokens import Template, TemplatedRow
from worker.adapters.tokenization.token_array import token_array
from worker.layers import int8_linear
from worker.layers.packed_attention import Positions
from worker.layers.packed_layers import HALF_DTYPES
from worker.layers.sparse_lm_head import SparseLmHead

PADDING_TOKENS = 16  # after the probe's text: more than the widest convolution

PackedPass = Callable[[Sequence[int], int, Positions | None], AbstractContextManager[None]]


def padding_changes_scores(model: Any, tokenizer: Any, template: Template, max_width: int | None = None) -> bool:
    """Compare a row's scores alone and padded; true if they differ, or if the tokenizer pads on the left.

    Attention ignores padding, but convolutions (CANINE, ConvBERT) and Fourier transforms (FNet) include it. Padding on
    the left shifts every text to other positions, and most models depend on positions. Padding on the right would be
    wrong for models that look at the last position (XLNet).

    max_width: tokens of the widest pass, None = no limit.

    Raises ModelError if the model can't read a row at all.
    """
    vocabulary_size = vocabulary.size(model)
    row = probe_scores.make_row(tokenizer, template, vocabulary_size=vocabulary_size)
    _check_embeddings(model, row, vocabulary_size)
    with int8_linear.float32_fallback(model), torch.inference_mode():
        try:
            alone = probe_scores.compute(model, probe_scores.to_tensors([row], 0, model.device))
            scale = scale_of([alone, *_other_scores(model, tokenizer, template)]) if alone.numel() == 1 else 0.0
        except Exception as error:
            raise probe_scores.unusable_model_error(model, error) from error
        if tokenizer.padding_side == "left":
            return True
        if tokenizer.pad_token_id is None:
            return False  # then a row never shares a pass
        if vocabulary.lacks_padding(model, tokenizer):
            return True
        try:
            width = min(len(row["input_ids"]) + PADDING_TOKENS, max_width or sys.maxsize)
            tensors = probe_scores.to_tensors([row], tokenizer.pad_token_id, model.device, width)
            padded = probe_scores.compute(model, tensors)
            if scores_match(alone, padded[:, : alone.shape[1]], scale=scale):
                return False
            # In half precision, the difference may be rounding.
            return alone.dtype not in HALF_DTYPES or not _ignores_padding(model, row, tensors, padded, alone.shape[1])
        except Exception as error:  # a model that can't read padding may raise anything; its rows stay unpadded
            reraise_machine_problem(error)
            return True


def _other_scores(model: Any, tokenizer: Any, template: Template) -> list[torch.Tensor]:
    """The scores of other texts, each alone."""
    sizes, count = probe_scores.TEXT_LENGTHS[2:], vocabulary.size(model)
    rows = [probe_scores.make_row(tokenizer, template, size, vocabulary_size=count) for size in sizes]
    return [probe_scores.compute(model, probe_scores.to_tensors([row], 0, model.device)) for row in rows]


def _check_embeddings(model: Any, row: ProbeRow, vocabulary_size: int | None) -> None:
    """Raise ModelError if the model lacks an embedding; a look-up would be an error, and lose the device on CUDA."""
    sizes = {"input_ids": vocabulary_size, "token_type_ids": vocabulary.type_count(model)}
    for name, size in sizes.items():
        if size and name in row and max(row[name]) >= size:
            problem = f"its tokenizer gives {name} up to {max(row[name])}, and the model has {size} embeddings for them"
            raise probe_scores.unusable_model_error(model, IndexError(problem))


def packing_problem(
    model: Any,
    rows: Sequence[ProbeRow],
    pad_token_id: int,
    packed_pass: PackedPass,
    *,
    sparse_positions: bool,
    with_mask: bool,
) -> str | None:
    """The reason why the rows can't be packed; None if each gets the same scores packed.

    The rows' packed scores are compared with those of each row alone, and with those among different other rows. The
    second comparison finds differences that the first could mistake for rounding, mostly in half precision.

    packed_pass: makes passes packed, given lengths, width and the positions that the head looks at.
    sparse_positions: compare only the positions that a head over few positions would look at.
    with_mask: call the model with an attention mask in packed passes too.
    """

    def score(rows: Sequence[ProbeRow], *, masked: bool = True) -> torch.Tensor:
        tensors = probe_scores.to_tensors(rows, pad_token_id, model.device)
        if not masked:
            del tensors["attention_mask"]
        return probe_scores.compute(model, tensors)

    def score_packed(rows: Sequence[ProbeRow]) -> list[torch.Tensor]:
        lengths = [len(row["input_ids"]) for row in rows]
        with packed_pass(lengths, max(lengths), positions):
            return _select_positions(score(rows, masked=with_mask), positions)

    try:
        alone = [score([row])[0] for row in rows]
        rounding = rounding_between(alone, score(rows)) if alone[0].dtype in HALF_DTYPES else 0.0
        positions = [
            _output_positions(row, row_scores, sparse_positions=sparse_positions)
            for row, row_scores in zip(rows, alone, strict=True)
        ]
        packed = score_packed(rows)
        # Once with other texts at the odd indices, once with other texts at the even ones.
        mixed = [
            score_packed([row if index % 2 == parity else _reversed_row(row) for index, row in enumerate(rows)])
            for parity in (0, 1)
        ]
    except Exception as error:  # layers of another kind may raise anything
        reraise_machine_problem(error)
        return f"its layers can't be packed ({type(error).__name__}: {first_line(error)})"
    expected = _select_positions(alone, positions)
    scale = scale_of(expected)
    if not all(starmap(partial(scores_match, rounding=rounding, scale=scale), zip(expected, packed, strict=True))):
        return "its scores change when rows are packed"
    if not all(scores_match(packed[i], mixed[i % 2][i], same_shape=True, scale=scale) for i in range(len(rows))):
        return "its scores depend on the other rows of a packed pass"
    return None


@torch.inference_mode()
def is_sparse_head_exact(lm_head: SparseLmHead, template: Template, token_id: int, device: Any) -> bool:
    """Compare a head's scores at three positions, not in order, with its scores at all positions of two rows.

    token_id: the token that the rows consist of.
    """
    row = TemplatedRow.from_texts(template, [token_array([token_id] * 3)])
    tensors = {name: torch.tensor([values.tolist()] * 2, device=device) for name, values in row.items()}
    tensors["input_ids"][1, -1] = token_id
    tensors["attention_mask"] = torch.ones_like(tensors["input_ids"])
    last = len(row["input_ids"]) - 1
    rows, columns = torch.tensor([1, 0, 1], device=device), torch.tensor([last, last - 1, 0], device=device)
    full = lm_head.full_scores(tensors)[rows, columns]
    try:
        return scores_match(full, lm_head.scores(tensors, rows, columns))
    except Exception as error:  # a head that needs every position may raise anything
        reraise_machine_problem(error)
        return False


def _ignores_padding(
    model: Any, row: ProbeRow, tensors: dict[str, torch.Tensor], padded: torch.Tensor, columns: int
) -> bool:
    """Whether other tokens behind the mask leave a padded row's scores unchanged.

    Such passes have the same shape, so they round alike, and any difference is the padding's.

    columns: how many of the padded scores are the row's own.
    """
    ids, length = tensors["input_ids"].clone(), len(row["input_ids"])
    ids[:, length:] = ids[:, length // 2, None]
    other = probe_scores.compute(model, {**tensors, "input_ids": ids})
    return scores_match(padded[:, :columns], other[:, :columns], same_shape=True)


def _select_positions(all_scores: Iterable[torch.Tensor], positions: Positions) -> list[torch.Tensor]:
    return [
        row_scores if row_scores.ndim == 1 else row_scores[list(row_positions)]
        for row_scores, row_positions in zip(all_scores, positions, strict=True)
    ]


def _output_positions(row: ProbeRow, row_scores: torch.Tensor, *, sparse_positions: bool) -> list[int]:
    """The positions that the head looks at: the first if it scores rows, else first and last or all of them."""
    if row_scores.ndim == 1:
        return [0]
    length = len(row["input_ids"])
    return [0, length - 1] if sparse_positions else list(range(length))


def _reversed_row(row: ProbeRow) -> ProbeRow:
    return {**row, "input_ids": row["input_ids"][::-1]}
