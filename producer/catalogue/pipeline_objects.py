"""Pipelines of the catalogue as JSON objects."""

from typing import Any

from models.guards.definition import Guard
from models.pipelines import redaction
from models.pipelines.pipeline import Pipeline


def pipeline_object(pipeline: Pipeline, *, shows_patterns: bool) -> dict[str, Any]:
    """Return a pipeline with its guards.

    shows_patterns: whether the reader is the operator, who may see the pattern of a guard's rule
    """
    guards = {name: _guard_object(guard, shows_patterns=shows_patterns) for name, guard in pipeline.guards.items()}
    return {"object": "pipeline", **redaction.redact_pipeline(pipeline), "guards": guards}


def _guard_object(guard: Guard, *, shows_patterns: bool) -> dict[str, Any]:
    # A list of words says only how long it is.
    fields = {**guard.model_dump(mode="json"), "words": None if guard.words is None else len(guard.words)}
    return fields if shows_patterns else {name: value for name, value in fields.items() if name != "pattern"}
