"""Models spread over memory and disk: every task's answers equal those of the undivided model."""

import json
from array import array
from pathlib import Path
from typing import Any

import pytest

from models.pipelines.builtin import BUILTIN_PIPELINES
from models.pipelines.pipeline import SAMPLES_FOLDER, Pipeline
from tests.conformance.conftest import RunBatches
from worker.layers import spread_weights
from worker.loading import runtime

TOLERANCE = 1e-5
MEMORY_SHARE = 0.9  # of a model's weights; the embeddings of the samples, which come first, are most of them

SAMPLES = {
    pipeline.spec.name: pipeline for pipeline in BUILTIN_PIPELINES if pipeline.name == f"sample-{pipeline.spec.name}"
}
TEXTS = [{"text": "The parcel arrived on time, and everything works. I love it!"}, {"text": "It broke at once."}]
PARAMETERS = {
    "text-generation": {"do_sample": False, "max_new_tokens": 12},
    "summarization": {"max_new_tokens": 6, "num_beams": 2, "min_new_tokens": 2},
    "translation": {"max_new_tokens": 8},
}


def example_inputs(task: str) -> list[dict[str, Any]]:
    file = SAMPLES_FOLDER / "examples" / f"{task}.jsonl"
    if not file.exists():
        return TEXTS
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()[:2]]
    return [{name: value for name, value in row.items() if name != "id"} for row in rows]


def assert_close(answer: Any, expected: Any) -> None:
    """Compare numbers within the tolerance, and everything else exactly."""
    assert type(answer) is type(expected)
    if isinstance(expected, dict):
        assert answer.keys() == expected.keys()
        for name, value in expected.items():
            assert_close(answer[name], value)
    elif isinstance(expected, list):
        assert len(answer) == len(expected)
        for part, other in zip(answer, expected, strict=True):
            assert_close(part, other)
    elif isinstance(expected, float):
        assert answer == pytest.approx(expected, abs=TOLERANCE)
    else:
        assert answer == expected


def read_output(row: Any) -> Any:
    return row.output if row.vector is None else array("f", row.vector).tolist()


@pytest.mark.parametrize("task", sorted(SAMPLES))
def test_answers_equal_those_of_the_undivided_model(task: str, run_batches: RunBatches, tmp_path: Path) -> None:
    sample, inputs, parameters = SAMPLES[task], example_inputs(task), [PARAMETERS.get(task, {})]
    undivided = runtime.load(sample, "cpu", threads=1)
    limit = {"cpu": f"{MEMORY_SHARE * undivided.weight_bytes / 1e6:.3f}MB"}
    fields = {**sample.model_dump(exclude_unset=True), "device_map": "auto", "max_memory": limit}
    spread = runtime.load(Pipeline(**fields), "cpu", threads=1, offload_parent=tmp_path)

    [expected], [answers] = run_batches(undivided, inputs, parameters), run_batches(spread, inputs, parameters)

    assert spread_weights.bytes_by_place(spread.model)["disk"] > 0.1 * undivided.weight_bytes
    assert [row.error_code for row in answers] == [None] * len(inputs)
    for row, other in zip(answers, expected, strict=True):
        assert_close(read_output(row), read_output(other))
