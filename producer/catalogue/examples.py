"""Inputs with which a pipeline can be tried: those that come with the sample models, or the example of its task."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.documents import to_json
from models.pipelines.options.prompt_template import TEXT, PromptTemplate
from models.pipelines.pipeline import SAMPLES_FOLDER, Pipeline

EXAMPLES_FOLDER = SAMPLES_FOLDER / "examples"
REVIEWS_FILE = SAMPLES_FOLDER / "reviews.jsonl"
SAMPLE_PREFIX = "sample-"
ID = "id"  # of the examples
# Short answers that are the same each time.
TASK_PARAMETERS: Mapping[str, Mapping[str, Any]] = {
    "text-generation": {"seed": 1, "max_new_tokens": 64},
    "fill-mask": {"top_k": 3},
    "ner": {"aggregation_strategy": "simple"},
}


def example_lines(pipeline: Pipeline) -> bytes | None:
    """Return inputs for a pipeline as JSON lines; None if there are none that fit its prompt."""
    path = _example_file(pipeline)
    lines = (to_json(pipeline.spec.example_input) + "\n").encode() if path is None else path.read_bytes()
    if pipeline.template is None:
        return lines
    records = [_fill_template(parse_line(line), pipeline.template) for line in lines.splitlines()]
    filled = [to_json(record) + "\n" for record in records if record is not None]
    return "".join(filled).encode() or None


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


def _fill_template(record: dict[str, Any], template: PromptTemplate) -> dict[str, Any] | None:
    """An input with the text as the only field of the prompt; None if the prompt has more, or there is no text."""
    if len(template.names) != 1 or TEXT not in record:
        return None
    kept = {ID: record[ID]} if ID in record else {}
    return {**kept, template.names[0]: record[TEXT]} if template.prompt else {**record, template.names[0]: record[TEXT]}


def _example_file(pipeline: Pipeline) -> Path | None:
    """The bundled inputs, by the name of a sample pipeline or by the task of another one."""
    for name in (pipeline.name.removeprefix(SAMPLE_PREFIX), pipeline.spec.name):
        if name == "sentiment-analysis":
            return REVIEWS_FILE
        path = EXAMPLES_FOLDER / f"{name}.jsonl"
        if path.is_file() and (name == pipeline.spec.name or pipeline.name.startswith(SAMPLE_PREFIX)):
            return path
    return None
