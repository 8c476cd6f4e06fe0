"""Quantizations: on which devices each can run, in one sentence."""

import pytest

from models.hardware import processor
from models.pipelines.options.quantization import device_problem


@pytest.fixture(autouse=True)
def old_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "_instructions", lambda: frozenset({"avx2"}))


@pytest.mark.parametrize(
    ("name", "kind"),
    [(None, "cpu"), ("int8", "cpu"), ("torchao-int8-weights", "cpu"), ("int4", "cuda"), ("torchao-int8", "cuda")],
)
def test_one_that_can_run(name: str | None, kind: str) -> None:
    assert device_problem(name, kind) is None


@pytest.mark.parametrize(
    ("name", "kind", "sentence"),
    [
        ("int4", "cpu", "int4 needs a CUDA device; on a CPU there are int8, torchao-int8, torchao-int8-weights"),
        ("torchao-float8", "cpu", "torchao-float8 needs a CUDA device; on a CPU there are int8"),
        ("int8", "mps", "int8 needs a CUDA device or a CPU; this is mps"),
        ("torchao-int4-weights", "mps", "torchao-int4-weights needs a CUDA device; this is mps"),
        ("torchao-int8", "cpu", "torchao-int8 needs a CPU with VNNI instructions; int8 and torchao-int8-weights need"),
    ],
)
def test_one_that_can_t_is_a_sentence(name: str, kind: str, sentence: str) -> None:
    assert sentence in str(device_problem(name, kind))


def test_vnni_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "_instructions", lambda: frozenset({"avx512_vnni"}))

    assert device_problem("torchao-int8", "cpu") is None
