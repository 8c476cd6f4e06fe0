"""Packed passes on CUDA: every family packs in half precision, and each row is scored as it is alone."""

from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.factories import tiny_encoders as encoders
from tests.gpu.conftest import entry_for, load_on
from tests.unit.worker.layers import test_packed_layers as suite
from tests.unit.worker.layers.test_packed_layers import (
    LENGTHS,
    PACKED,
    USUAL,
    Load,
    encode_rows,
    max_difference,
    scores,
    texts,
)

pytestmark = pytest.mark.gpu

CLOSE = {"float16": 2e-3, "bfloat16": 2e-2}  # what rounding may cost in each dtype


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("architecture", PACKED)
def test_rows_are_scored_as_alone(gpu: str, architecture: str, dtype: str, tmp_path: Path) -> None:
    folder = encoders.token_classifier(tmp_path, architecture, **USUAL)
    packed = load_on(gpu, entry_for(folder, "ner", dtype=dtype))
    alone = load_on(gpu, entry_for(folder, "ner", dtype=dtype, attention="eager"))
    rows = encode_rows(packed, texts(LENGTHS))

    assert packed.adapter.uses_packing
    assert not alone.adapter.uses_packing
    assert max_difference(scores(packed, rows), [scores(alone, [row])[0] for row in rows]) < CLOSE[dtype]


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("task", ["ner", "fill-mask", "sentiment-analysis"])
def test_rows_do_not_depend_on_others(suite_on_gpu: str, load: Load, task: str, dtype: str) -> None:
    suite.TestScores().test_do_not_depend_on_other_rows(load, task, {"dtype": dtype})


@pytest.mark.parametrize("dtype", CLOSE)
def test_windows_are_those_of_the_model(gpu: str, dtype: str, tmp_path: Path) -> None:
    """ModernBERT: texts several times as long as its window, against the same model in float32 on the CPU."""
    folder = encoders.token_classifier(tmp_path, "modernbert", **USUAL)
    packed = load_on(gpu, entry_for(folder, "ner", dtype=dtype))
    reference = load_on("cpu", entry_for(folder, "ner", dtype="float32", attention="eager"))
    rows = encode_rows(packed, texts((60, 3, 41, 17)))

    assert packed.adapter.uses_packing
    expected = [scores(reference, [row])[0] for row in rows]
    assert max_difference(scores(packed, rows), expected) < 5 * CLOSE[dtype]


@pytest.mark.parametrize(
    ("architecture", "entry"), [("deberta-v2", {}), ("bert", {"attention": "eager"}), ("bert", {"deterministic": True})]
)
def test_others_are_padded(suite_on_gpu: str, load: Load, architecture: str, entry: dict[str, Any]) -> None:
    suite.TestFallback().test_pads_what_can_t_or_must_not_be_packed(load, architecture, entry)


def test_float32_is_padded_and_the_log_says_why(cuda: str, tmp_path: Path) -> None:
    folder = encoders.token_classifier(tmp_path, "bert")

    with structlog.testing.capture_logs() as logs:
        loaded = load_on(cuda, entry_for(folder, "ner", dtype="float32"))

    assert not loaded.adapter.uses_packing
    [reason] = [log["reason"] for log in logs if log["event"] == "model.padded"]
    assert "set dtype to float16" in reason
