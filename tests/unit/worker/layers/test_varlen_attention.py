"""Variable-length attention, tried on the CPU with a stand-in for torch's kernel, which needs CUDA."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import varlen
from torch.nn.functional import scaled_dot_product_attention
from transformers.masking_utils import (
    bidirectional_mask_function,
    chunked_overlay,
    sliding_window_bidirectional_mask_function,
    sliding_window_causal_mask_function,
)

from tests.factories import tiny_encoders as encoders
from tests.unit.worker.layers.test_packed_layers import LENGTHS, PACKED, encode_rows, max_difference, scores, texts
from worker.layers import packed_attention, varlen_attention
from worker.layers.varlen_attention import SlidingWindow
from worker.loading import runtime

Calls = list[dict[str, Any]]


def varlen_attn(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: torch.Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    num_splits: int | None = None,
) -> torch.Tensor:
    """Torch's function as its documentation describes it, text by text."""
    del num_splits
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    query_bounds, key_bounds = list(pairwise(cu_seq_q.tolist())), list(pairwise(cu_seq_k.tolist()))
    assert (max_q, max_k) == tuple(max(end - start for start, end in bounds) for bounds in (query_bounds, key_bounds))
    outputs = []
    for (query_start, query_end), (start, end) in zip(query_bounds, key_bounds, strict=True):
        q, k, v = query[query_start:query_end], key[start:end], value[start:end]
        mask = None
        if window_size != (-1, -1):
            distance = torch.arange(len(k)) - torch.arange(len(q))[:, None] - (len(k) - len(q))
            mask = (distance >= -window_size[0]) & (distance <= window_size[1])
        states = (part.transpose(0, 1) for part in (q, k, v))
        outputs.append(scaled_dot_product_attention(*states, attn_mask=mask, scale=scale).transpose(0, 1))
    return torch.cat(outputs)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Lets packed passes use the stand-in on the CPU; returns the options of its calls."""
    calls: Calls = []

    def recorded(*given: Any, **options: Any) -> torch.Tensor:
        calls.append(options)
        return varlen_attn(*given, **options)

    monkeypatch.setattr(varlen_attention, "is_available", lambda _device: True)
    monkeypatch.setattr(varlen, "varlen_attn", recorded)
    return calls


def load(folder: Path, task: str, **entry: Any) -> Any:
    return runtime.load(encoders.pipeline_for(folder, task, **entry), "cpu", threads=1)


def assert_rows_as_alone(folder: Path, task: str) -> None:
    packed, alone = load(folder, task), load(folder, task, attention="eager")
    mask = alone.adapter._tokenizer.mask_token if task == "fill-mask" else ""
    rows = encode_rows(packed, texts(LENGTHS, mask))

    assert packed.adapter.uses_packing
    assert max_difference(scores(packed, rows), [scores(alone, [row])[0] for row in rows]) < 1e-5


class TestScores:
    @pytest.mark.parametrize("architecture", PACKED)
    @pytest.mark.parametrize("make", [encoders.token_classifier, encoders.nli_model], ids=["tokens", "texts"])
    def test_are_those_of_each_row_alone(
        self, calls: Calls, architecture: str, make: Callable[..., Path], tmp_path: Path
    ) -> None:
        task = "ner" if make is encoders.token_classifier else "sentiment-analysis"

        assert_rows_as_alone(make(tmp_path, architecture), task)

        windows = {options.get("window_size") for options in calls}
        assert windows == ({None, (4, 4)} if architecture == "modernbert" else {None})

    def test_of_masked_words_are_too(self, calls: Calls, tmp_path: Path) -> None:
        assert_rows_as_alone(encoders.masked_lm(tmp_path, "modernbert"), "fill-mask")

        assert calls

    def test_come_from_masks_where_torch_has_no_windows(
        self, calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(varlen_attention, "OPTIONS", varlen_attention.OPTIONS - {"window_size"})

        assert_rows_as_alone(encoders.token_classifier(tmp_path, "modernbert"), "ner")

        assert {options.get("window_size") for options in calls} == {None}

    @pytest.mark.parametrize("options", [{"num_splits"}, set()], ids=["has splits", "has none"])
    def test_do_not_depend_on_splits(
        self, calls: Calls, options: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(varlen_attention, "OPTIONS", frozenset(options))

        assert_rows_as_alone(encoders.token_classifier(tmp_path, "bert"), "ner")

        assert {called.get("num_splits") for called in calls} == ({1} if options else {None})


class TestWindow:
    @pytest.mark.parametrize("width", [1, 2, 9, 40])
    @pytest.mark.parametrize("reach", [0, 1, 4, 64])
    def test_is_found_in_a_mask_of_transformers(self, reach: int, width: int) -> None:
        found = varlen_attention.find_window(sliding_window_bidirectional_mask_function(reach), width)

        assert found is not None
        assert min(found.reach, width - 1) == min(reach, width - 1)

    @pytest.mark.parametrize(
        "mask_function",
        [
            sliding_window_causal_mask_function(4),
            chunked_overlay(4, torch.zeros(1, dtype=torch.long)),
            lambda _batch, _head, query, key: (key == 0) | ((key - query).abs() <= 4),
            lambda _batch, _head, query, key: (key < 0) & (query < 0),
        ],
        ids=["causal", "chunks", "first token", "nothing"],
    )
    def test_is_not_seen_in_another_mask(self, mask_function: Any) -> None:
        assert varlen_attention.find_window(mask_function, 20) is None

    def test_of_all_positions_is_none(self) -> None:
        assert packed_attention.packed_mask(9, bidirectional_mask_function, torch.device("cpu")) is None

    def test_is_what_each_token_sees(self, calls: Calls) -> None:
        torch.manual_seed(0)
        query, key, value = torch.randn(3, 1, 2, 15, 4)
        layout = packed_attention.PackedLayout([9, 6], 9, torch.device("cpu"), None)
        mask = packed_attention.packed_mask(9, sliding_window_bidirectional_mask_function(2), torch.device("cpu"))

        [found] = layout.compute_attention(query, key, value, None, mask)

        assert mask == SlidingWindow(2)
        assert torch.allclose(found, expected_attention((query, key, value), [9, 6], 2), atol=1e-6)


def expected_attention(states: Sequence[torch.Tensor], lengths: Sequence[int], reach: int) -> torch.Tensor:
    """One block of the mask for each text, and each token sees its window."""
    owners = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    positions = torch.cat([torch.arange(length) for length in lengths])
    mask = (owners == owners[:, None]) & ((positions - positions[:, None]).abs() <= reach)
    output = scaled_dot_product_attention(*states, attn_mask=mask)
    return output[0].transpose(0, 1)
