"""The layout of a packed pass equals one made text by text."""

from collections.abc import Sequence
from itertools import accumulate, groupby

import torch
from hypothesis import given
from hypothesis import strategies as st

from worker.layers.packed_attention import PackedLayout

CPU = torch.device("cpu")


def indices_text_by_text(positions: Sequence[Sequence[int]], starts: Sequence[int]) -> list[int]:
    """The indices as the layout made them before it worked in arrays: the reference."""
    return [position + start for row, start in zip(positions, starts, strict=True) for position in row]


@st.composite
def texts(draw: st.DrawFn) -> tuple[list[int], list[list[int]]]:
    """Lengths of texts, and in each of them the positions that a head looks at, which may be none."""
    lengths = draw(st.lists(st.integers(1, 12), min_size=1, max_size=20))
    return lengths, [draw(st.lists(st.integers(0, length - 1), max_size=3)) for length in lengths]


@given(texts(), st.integers(0, 4), st.booleans())
def test_indices_and_runs_equal_those_made_text_by_text(
    drawn: tuple[list[int], list[list[int]]], extra_width: int, needs_all: bool
) -> None:
    lengths, positions = drawn
    width = max(lengths) + extra_width
    starts = [width * row for row in range(len(lengths))]
    every_position = [range(length) for length in lengths]
    needed = every_position if needs_all else positions

    layout = PackedLayout(lengths, width, CPU, None if needs_all else positions)

    offsets = [0, *accumulate(lengths)]
    assert layout.shape == (len(lengths), width)
    assert layout.token_indices.tolist() == indices_text_by_text(every_position, starts)
    assert layout.output_indices.tolist() == indices_text_by_text(needed, starts)
    assert layout.positions.tolist() == [position for row in every_position for position in row]
    assert layout.token_lengths.offsets.tolist() == offsets
    assert (layout.token_lengths.total, layout.token_lengths.longest) == (sum(lengths), max(lengths))
    assert layout.query_indices.tolist() == indices_text_by_text(needed, starts if needs_all else offsets[:-1])
    counts = list(map(len, needed))
    assert layout.output_lengths.offsets.tolist() == [0, *accumulate(counts)]
    expected_runs = [(sum(1 for _ in run), *pair) for pair, run in groupby(zip(counts, lengths, strict=True))]
    assert layout.output_runs == expected_runs
    assert layout.token_runs == [(sum(1 for _ in run), length, length) for length, run in groupby(lengths)]
