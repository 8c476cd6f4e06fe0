"""The dtype in which a pipeline runs, and the warnings about slow ones."""

from typing import Any

import pytest

from models.hardware import processor
from models.pipelines import precision
from models.pipelines.checkpoint import Checkpoint
from models.pipelines.pipeline import Pipeline

FLOAT32 = Checkpoint("float32", 1, 0)


def pipeline(**fields: Any) -> Pipeline:
    return Pipeline(name="mine", task="ner", model="a/b", **fields)


@pytest.mark.parametrize(
    ("dtype", "kind", "config", "checkpoint", "expected"),
    [
        ("auto", "cpu", {"dtype": "float16"}, FLOAT32, "float32"),
        ("auto", "cuda", {}, FLOAT32, "float32"),
        ("auto", "cuda", {"torch_dtype": "float16"}, FLOAT32, "float16"),
        ("auto", "cuda", {"dtype": "torch.bfloat16"}, FLOAT32, "bfloat16"),
        ("auto", "cuda", {"dtype": "auto"}, FLOAT32, "float32"),
        ("auto", "cuda", {"dtype": ["float16"]}, FLOAT32, "float32"),
        ("auto", "cuda", {}, None, None),
        ("float16", "cuda", {}, FLOAT32, "float16"),
        ("bfloat16", "cpu", {}, None, "bfloat16"),
    ],
)
def test_the_effective_dtype(
    dtype: Any, kind: str, config: dict[str, Any], checkpoint: Checkpoint | None, expected: str | None
) -> None:
    assert precision.effective_dtype(pipeline(dtype=dtype), kind, config, checkpoint) == expected


def test_float32_on_a_gpu_is_warned_about_with_its_factor() -> None:
    warning = precision.slow_dtype_warning(pipeline(), "cuda", "float32")

    assert warning is not None
    assert warning.startswith("mine computes in float32, the dtype of its files, about 8 times slower on a GPU than in")
    assert 'set dtype = "float16" or "bfloat16" in [pipelines.mine]' in warning


@pytest.mark.parametrize(
    ("fields", "dtype"), [({}, "float16"), ({"dtype": "float32"}, "float32"), ({"quantization": "int8"}, "float32")]
)
def test_no_other_dtype_on_a_gpu_is(fields: dict[str, Any], dtype: str) -> None:
    assert precision.slow_dtype_warning(pipeline(**fields), "cuda", dtype) is None


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(("has_instructions", "is_warned"), [(False, True), (True, False), (None, False)])
def test_half_precision_is_warned_about_on_a_processor_without_it(
    monkeypatch: pytest.MonkeyPatch, dtype: Any, has_instructions: bool | None, is_warned: bool
) -> None:
    monkeypatch.setattr(processor, "has_instructions_for", lambda _dtype: has_instructions)

    warning = precision.slow_dtype_warning(pipeline(dtype=dtype), "cpu", dtype)

    assert (warning is not None) == is_warned
    assert warning is None or f"mine computes in {dtype}, for which this processor has no instructions" in warning
    assert precision.slow_dtype_warning(pipeline(), "cpu", "float32") is None
