"""Masks of decode steps: the same as those of transformers, without a look at the device."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AttentionMaskInterface
from transformers.masking_utils import causal_mask_function, sdpa_mask, sliding_window_causal_mask_function

from tests.factories import tiny_decoders, tiny_models
from tests.factories.forward_passes import TEXTS, encode_texts, load_adapter, load_decoder
from tests.golden import seq2seq_models
from worker.adapters.generation import end_check
from worker.adapters.generation.continuous_batching import DecodeMicroBatch
from worker.adapters.generation.decode_mask import make_sdpa_mask, with_kept_masks, with_known_padding
from worker.adapters.rows import MicroBatch, Row

# Operations on which the host waits for the device.
BLOCKING_OPERATIONS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero", "aten::masked_select"}

PADDED = torch.tensor([[False, True, True, True], [True, True, True, True]])
FULL = torch.ones_like(PADDED)


class RecordedOperations(TorchDispatchMode):
    """Records the names of torch's operations."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Record the name, and call the operation."""
        self.names.append(function.name().partition(".")[0])
        return function(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_decoder(tmp_path_factory.mktemp("llama"))


def make_mask(function: Any, mask: torch.Tensor, window: int | None = None) -> torch.Tensor | None:
    mask_function = sliding_window_causal_mask_function(window) if window else causal_mask_function
    kept = min(window - 1, 3) if window else 3  # of earlier tokens
    result: torch.Tensor | None = function(
        batch_size=2,
        q_length=1,
        kv_length=kept + 1,
        q_offset=3,
        kv_offset=3 - kept,
        mask_function=mask_function,
        attention_mask=mask,
        local_size=window,
        device=mask.device,
    )
    return result


@pytest.mark.parametrize("texts", [TEXTS[:3], ["abc", "abd"]], ids=["padded", "equal lengths"])
def test_a_pass_of_a_fixed_shape_waits_for_nothing(
    llama: Any, monkeypatch: pytest.MonkeyPatch, texts: list[str]
) -> None:
    model, passes = llama._pipeline.model, []
    forward = model.forward

    @wraps(forward)
    def recorded(*args: Any, **kwargs: Any) -> Any:
        with RecordedOperations() as operations:
            outputs = forward(*args, **kwargs)
        passes.append(operations.names)
        return outputs

    rows = encode_texts(llama, texts, max_new_tokens=9, min_new_tokens=9, do_sample=True, seed=1)
    monkeypatch.setattr(model, "forward", recorded)

    llama.forward(MicroBatch(tuple(rows)))

    assert len(passes) == 9
    assert [sorted(BLOCKING_OPERATIONS.intersection(names)) for names in passes] == [[]] * 9


def is_same(mask: torch.Tensor | None, expected: torch.Tensor | None) -> bool:
    return mask is expected if mask is None or expected is None else torch.equal(mask, expected)


@pytest.mark.parametrize("window", [None, 2, 3, 9])
@pytest.mark.parametrize("mask", [PADDED, FULL], ids=["padded", "full"])
def test_known_padding_makes_the_mask_of_transformers(mask: torch.Tensor, window: int | None) -> None:
    expected = make_mask(sdpa_mask, mask, window)

    with with_known_padding(not bool(mask.all())):
        made = make_mask(make_sdpa_mask, mask, window)

    assert is_same(made, expected)
    assert is_same(make_mask(make_sdpa_mask, mask, window), expected)


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("has_padding", [False, True, None])
def test_a_kept_mask_has_a_row_for_each_text_without_padding(has_padding: bool | None, window: int | None) -> None:
    with with_known_padding(has_padding), with_kept_masks():
        made = make_mask(make_sdpa_mask, FULL, window)

    assert made is not None
    assert made.shape == (2, 1, 1, min(window or 4, 4))
    assert made.all()


class RecordedAttention:
    """Records whether each call of sdpa has a mask."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.masks: list[bool] = []
        self._attention = torch.nn.functional.scaled_dot_product_attention
        monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", self._record)

    def _record(self, *args: Any, attn_mask: torch.Tensor | None = None, **options: Any) -> torch.Tensor:
        self.masks.append(attn_mask is not None)
        return self._attention(*args, attn_mask=attn_mask, **options)

    def during(self, adapter: Any, rows: list[Row]) -> list[bool]:
        """For each call of sdpa in a pass of these rows, whether it has a mask."""
        self.masks = []
        adapter.forward(MicroBatch(tuple(rows)))
        return self.masks


@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
@pytest.mark.parametrize(
    ("task", "parameters"),
    [
        ("text-generation", {"max_new_tokens": 3, "min_new_tokens": 3}),
        ("summarization", {"max_new_tokens": 3, "min_new_tokens": 3, "num_beams": 1}),
        ("sentiment-analysis", {}),
    ],
)
def test_a_fixed_shape_has_the_same_masks_whatever_its_neighbours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, parameters: dict[str, Any]
) -> None:
    make = {"text-generation": tiny_decoders.llama, "summarization": seq2seq_models.bart}
    folder = make.get(task, tiny_models.distilbert)(tmp_path / "model") or tmp_path / "model"
    adapter = load_adapter(folder, task, deterministic=True)
    rows = encode_texts(adapter, ["great " * count for count in range(1, 16)], task, **parameters)
    full = next(row for row in rows if row.length == row.width)
    shorter = next(row for row in rows if row.width == full.width and row.length < full.length)
    attention = RecordedAttention(monkeypatch)

    alone = attention.during(adapter, [full])

    assert any(alone)
    assert alone == attention.during(adapter, [full, shorter])


def test_transformers_makes_its_masks_here() -> None:
    assert AttentionMaskInterface()["sdpa"] is make_sdpa_mask


@contextmanager
def record_steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[str]]]:
    """Record the operations of each decode step."""
    steps: list[list[str]] = []
    decode_step = DecodeMicroBatch.decode_step

    def recorded(micro_batch: DecodeMicroBatch) -> None:
        with RecordedOperations() as operations:
            decode_step(micro_batch)
        steps.append(operations.names)

    monkeypatch.setattr(DecodeMicroBatch, "decode_step", recorded)
    yield steps


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "qwen2", "gpt_neox", "opt"])
@pytest.mark.parametrize("texts", [TEXTS[:4], ["abc", "abd"]], ids=["padded", "equal lengths"])
@pytest.mark.parametrize("parameters", [{}, {"do_sample": True, "top_k": 5, "stop_sequence": ["~"]}], ids=str)
def test_a_decode_step_waits_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str, texts: list[str], parameters: dict[str, Any]
) -> None:
    monkeypatch.setitem(end_check.CHECK_INTERVALS, "cpu", 4)
    adapter = load_decoder(tmp_path / "model", architecture)
    rows = encode_texts(adapter, texts, max_new_tokens=9, min_new_tokens=9, **parameters)

    with record_steps(monkeypatch) as steps:
        adapter.forward(MicroBatch(tuple(rows)))

    assert len(steps) == 8
    assert [sorted(BLOCKING_OPERATIONS.intersection(names)) for names in steps] == [[]] * 8
