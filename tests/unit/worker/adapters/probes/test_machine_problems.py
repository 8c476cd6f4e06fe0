"""Probes never take a broken device, or a lack of memory, for a property of the model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
import torch
from transformers import AutoModelForMaskedLM, BertForMaskedLM, LlamaForCausalLM

from models.errors import LoadFailed
from tests.factories import tiny_decoders
from tests.factories import tiny_encoders as encoders
from worker.adapters.probes import probe_scores, sameness, sameness_trials, small_copy
from worker.failures import is_device_lost
from worker.layers import packed_attention
from worker.layers.sparse_lm_head import SparseLmHead
from worker.loading import runtime

LOST = "CUDA error: device-side assert triggered"
PROBLEMS = [
    torch.AcceleratorError(LOST),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"),
    MemoryError(),
]


def fail_at_call(number: int, error: Exception, original: Any) -> Callable[..., Any]:
    """A function that raises at this call, and works before it."""
    calls = iter(range(1, 10_000))

    def work(*args: Any, **options: Any) -> Any:
        if next(calls) >= number:
            raise error
        return original(*args, **options)

    return work


# Each probe, and the call inside it that fails.
PLACES: dict[str, tuple[Any, str, int]] = {
    "small copy": (small_copy, "_make_model", 1),
    "row of a small copy": (sameness_trials.ScoringTrial, "score_alone", 1),
    "rows that share a pass": (sameness_trials.ScoringTrial, "score_together", 1),
    "alone": (probe_scores, "compute", 1),
    "padded": (probe_scores, "compute", 2),
    "packed": (packed_attention.PackedLayout, "compute_attention", 1),
    "head at few positions": (SparseLmHead, "scores", 1),
}


@pytest.mark.parametrize("error", PROBLEMS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("place", PLACES)
def test_fail_the_load_and_not_the_model(
    place: str, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = encoders.masked_lm(tmp_path, "bert")
    owner, name, number = PLACES[place]
    if number == 1 and owner is not probe_scores:
        sameness._examine.cache_clear()
    else:
        load(folder)  # its small copy is examined, so that the first passes are those of the model itself
    monkeypatch.setattr(owner, name, fail_at_call(number, error, getattr(owner, name)))

    with pytest.raises(LoadFailed) as caught:
        load(folder)

    assert is_device_lost(caught.value) is (str(error) == LOST)


@pytest.mark.parametrize("task", ["fill-mask", "text-generation"])
def test_a_card_that_torch_has_no_kernels_for_fails_the_load_and_not_the_model(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = RuntimeError("CUDA error: no kernel image is available for execution on the device")
    folder = encoders.masked_lm(tmp_path, "bert") if task == "fill-mask" else tiny_decoders.llama(tmp_path / "model")
    load(folder, task)
    model_class = BertForMaskedLM if task == "fill-mask" else LlamaForCausalLM
    monkeypatch.setattr(model_class, "forward", fail_at_call(1, error, None))

    with pytest.raises(LoadFailed, match="no kernel image"):
        load(folder, task)


def test_keep_their_cause_where_a_loader_has_named_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = encoders.masked_lm(tmp_path, "bert")
    monkeypatch.setattr(AutoModelForMaskedLM, "from_pretrained", fail_at_call(1, torch.AcceleratorError(LOST), None))

    with pytest.raises(LoadFailed) as caught:
        load(folder)

    assert is_device_lost(caught.value)


def test_are_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = encoders.masked_lm(tmp_path, "bert")
    sameness._examine.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(small_copy, "_make_model", fail_at_call(1, MemoryError(), None))
        with pytest.raises(LoadFailed):
            load(folder)

    assert load(folder).adapter.uses_packing


@pytest.mark.parametrize(
    ("architecture", "entry", "reason"),
    [
        ("bert", {"attention": "eager"}, "its attention is eager, and only sdpa is packed"),
        ("bert", {"deterministic": True}, "deterministic passes have a fixed shape"),
        ("convbert", {}, "padding changes its scores"),
        ("deberta-v2", {}, "its attention is eager, and only sdpa is packed"),
    ],
)
def test_why_a_model_is_padded_is_logged(architecture: str, entry: dict[str, Any], reason: str, tmp_path: Path) -> None:
    folder = encoders.token_classifier(tmp_path, architecture)

    with structlog.testing.capture_logs() as logs:
        loaded = load(folder, "ner", **entry)

    assert not loaded.adapter.uses_packing
    assert [(log["pipeline"], log["reason"]) for log in logs if log["event"] == "model.padded"] == [("made", reason)]


def test_an_error_of_packed_layers_is_logged_with_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_given: Any) -> None:
        raise TypeError("no such kernel\nfor this card")

    monkeypatch.setattr(packed_attention.PackedLayout, "compute_attention", refuse)
    folder = encoders.token_classifier(tmp_path, "bert")

    with structlog.testing.capture_logs() as logs:
        assert not load(folder, "ner").adapter.uses_packing

    [reason] = [log["reason"] for log in logs if log["event"] == "model.padded"]
    assert reason == "its layers can't be packed (TypeError: no such kernel)"


def test_a_packed_model_logs_no_reason(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as logs:
        load(encoders.token_classifier(tmp_path, "bert"), "ner")

    assert "model.padded" not in [log["event"] for log in logs]


def load(folder: Path, task: str = "fill-mask", **entry: Any) -> Any:
    return runtime.load(encoders.pipeline_for(folder, task, **entry), "cpu", threads=1)
