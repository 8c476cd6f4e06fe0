"""The collator pads rows as a loop over them would, and logs once that inputs are cut."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.factories import tiny_models
from worker.adapters.encoding import collation
from worker.adapters.encoding.collation import Collator
from worker.adapters.interface import Limits
from worker.adapters.rows import MicroBatch, Row
from worker.adapters.tokenization.token_array import token_array
from worker.leasing.leases import Job, Lease

JOB = Job(Lease(1, "batch", 0, 1, 1, 1), 0, {"text": "a"})
TOKENIZER = tiny_models.wordpiece_tokenizer()


def test_the_first_cut_input_of_a_pipeline_is_logged_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collation, "_logged_truncations", set())

    def make_collator(pipeline: str) -> Collator:
        return Collator(tiny_models.wordpiece_tokenizer(), torch.device("cpu"), Limits(8, pipeline=pipeline))

    collators = [make_collator("reviews"), make_collator("reviews"), make_collator("letters")]

    with capture_logs() as logged:
        for collator in collators:
            for truncated in (False, True, False, True):
                collator.make_row(JOB, {"input_ids": [5]}, truncated=truncated)

    line = {"event": "input.truncated", "log_level": "warning", "max_length": 8}
    assert logged == [{**line, "pipeline": "reviews"}, {**line, "pipeline": "letters"}]


def pad_row_by_row(
    rows: Sequence[Row], width: int, name: str, pad_value: int, side: Literal["left", "right"]
) -> torch.Tensor:
    """The tensor as the collator made it before it worked in arrays: the reference."""
    array = np.full((len(rows), width), pad_value, dtype=np.int64)
    for line, row in zip(array, rows, strict=True):
        values = [1] * row.length if name == "attention_mask" else list(row.features[name])
        if side == "left":
            line[width - len(values) :] = values
        else:
            line[: len(values)] = values
    return torch.from_numpy(array)


@given(
    texts=st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=40), min_size=1, max_size=20),
    side=st.sampled_from(["left", "right"]),
    filler_rows=st.integers(0, 3),
    extra_width=st.integers(0, 5),
)
def test_tensors_equal_those_made_row_by_row(
    texts: list[list[int]], side: Literal["left", "right"], filler_rows: int, extra_width: int
) -> None:
    collator = Collator(TOKENIZER, torch.device("cpu"), Limits(None), padding_side=side, pad_values={"input_ids": 7})
    width = max(map(len, texts)) + extra_width
    rows = [
        Row(
            JOB,
            {"input_ids": token_array(ids), "token_type_ids": token_array([index % 2] * len(ids))},
            len(ids),
            truncated=False,
            width=width or None,
            max_rows=len(texts) + filler_rows,
        )
        for index, ids in enumerate(texts)
    ]

    tensors = collator.collate(MicroBatch(tuple(rows)))

    filled = [*rows, *[rows[-1]] * filler_rows]
    pad_values = {"input_ids": 7, "token_type_ids": TOKENIZER.pad_token_type_id, "attention_mask": 0}
    assert list(tensors) == list(pad_values)
    for name, pad_value in pad_values.items():
        assert torch.equal(tensors[name], pad_row_by_row(filled, width, name, pad_value, side))
    assert set(collator.collate(MicroBatch(tuple(rows)), with_mask=False)) == {"input_ids", "token_type_ids"}
