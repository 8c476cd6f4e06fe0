"""Vectors and rankings on the device in each dtype, against float32 on the CPU, and with equal bits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.pipelines.pipeline import SAMPLES_FOLDER
from tests.gpu.conftest import entry_for, load_on
from tests.unit.worker.adapters.test_vector_modes import (
    RANKED,
    TICKETS,
    answer,
    assert_same_ranking,
    pairs,
    random_texts,
    vectors,
)

CLOSE = {"float32": 1e-5, "float16": 5e-3, "bfloat16": 3e-2}
INPUTS: dict[str, list[Any]] = {
    "feature-extraction": [*TICKETS, *random_texts(40)],
    "text-ranking": [RANKED, *pairs(random_texts(10))],
}


def load(device: str, task: str, **entry: Any) -> Any:
    folder: Path = SAMPLES_FOLDER / task
    return load_on(device, entry_for(folder, task, **entry)).adapter


@pytest.mark.parametrize("dtype", CLOSE)
def test_vectors_are_those_of_float32_on_the_cpu(device: str, dtype: str) -> None:
    ours, reference = load(device, "feature-extraction", dtype=dtype), load("cpu", "feature-extraction")
    inputs = INPUTS["feature-extraction"]

    found, expected = (vectors(answer(adapter, "feature-extraction", inputs)) for adapter in (ours, reference))

    assert np.abs(found - expected).max() < CLOSE[dtype]
    assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("dtype", CLOSE)
def test_rankings_are_those_of_float32_on_the_cpu(device: str, dtype: str) -> None:
    ours, reference = load(device, "text-ranking", dtype=dtype), load("cpu", "text-ranking")

    found, expected = (answer(adapter, "text-ranking", [RANKED]) for adapter in (ours, reference))

    assert_same_ranking(found, expected, CLOSE[dtype])
    assert found[0][0]["index"] == expected[0][0]["index"]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("task", INPUTS)
@pytest.mark.gpu
def test_deterministic_answers_have_equal_bits(gpu: str, task: str, dtype: str) -> None:
    adapter, inputs = load(gpu, task, dtype=dtype, deterministic=True), INPUTS[task]

    reference = answer(adapter, task, inputs)

    for order, budget in ((list(reference)[::-1], 4_096), ([3, 1, 2], 64), ([5], 1_024)):
        found = answer(adapter, task, inputs, order, budget)
        assert all(found[place] == reference[place] for place in order)
