"""Inputs with which a pipeline can be tried: those that come with the sample models, or the example of its task."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.documents import to_json
from models.pipelines.pipeline import SAMPLES_FOLDER, Pipeline

EXAMPLES_FOLDER = SAMPLES_FOLDER / "examples"
REVIEWS_FILE = SAMPLES_FOLDER / "reviews.jsonl"
SAMPLE_PREFIX = "sample-"
# Short answers that are the same each time.
TASK_PARAMETERS: Mapping[str, Mapping[str, Any]] = {
    "text-generation": {"seed": 1, "max_new_tokens": 64},
    "fill-mask": {"top_k": 3},
    "ner": {"aggregation_strategy": "simple"},
}


def example_lines(pipeline: Pipeline) -> bytes | None:
    """Return inputs for a pipeline as JSON lines; None if there are none that fit its prompt."""
    if pipeline.template is not None and pipeline.template.prompt is not None:
        return None
    path = _example_file(pipeline)
    if path is not None:
        return path.read_bytes()
    return (to_json(pipeline.spec.example_input) + "\n").encode()


def parse_line(line: bytes) -> Any:
    """Return an input of the example."""
    return json.loads(line)


def example_parameters(pipeline: Pipeline) -> dict[str, Any]:
    """Return parameters that suit the example."""
    return {
        name: value
        for name, value in TASK_PARAMETERS.get(pipeline.spec.name, {}).items()
        if name in pipeline.spec.parameters.model_fields and name not in pipeline.parameters
    }


def _example_file(pipeline: Pipeline) -> Path | None:
    """The bundled inputs, by the name of a sample pipeline or by the task of another one."""
    for name in (pipeline.name.removeprefix(SAMPLE_PREFIX), pipeline.spec.name):
        if name == "sentiment-analysis":
            return REVIEWS_FILE
        path = EXAMPLES_FOLDER / f"{name}.jsonl"
        if path.is_file() and (name == pipeline.spec.name or pipeline.name.startswith(SAMPLE_PREFIX)):
            return path
    return None
