"""Recipes: all that an input's output hangs on, but the model's own revision, as one hash."""

import hashlib
from collections.abc import Mapping
from typing import Any

from models.documents import as_json
from models.errors import ModelError
from models.pipelines.folder_hash import known_hash
from models.pipelines.pipeline import Pipeline
from models.settings import hashes_file

# What of a catalogue entry shows in an output. How many go through the model at once, and where, does not.
SHOWS = (
    "task", "model", "tokenizer", "tokenizer_revision", "dtype", "quantization", "attention", "truncation", "stride",
    "deterministic", "max_length",
)  # fmt: skip


def obstacle(pipeline: Pipeline, parameters: Mapping[str, Any]) -> str | None:
    """Why the same input may come to something else the next time; None where it may not."""
    if pipeline.spec.draws(parameters):
        return "it samples without a seed"
    if pipeline.tokenizer is not None and pipeline.tokenizer_revision is None:
        return f"pipeline {pipeline.name} does not pin its tokenizer_revision"
    return None


def recipe(pipeline: Pipeline, parameters: Mapping[str, Any]) -> str | None:
    """The hash; None where the same input may come to something else."""
    if obstacle(pipeline, parameters) is not None:
        return None
    told = {name: getattr(pipeline, name) for name in SHOWS} | {"parameters": dict(parameters)}
    return hashlib.sha256(as_json(_sorted(told)).encode()).hexdigest()


def revision(pipeline: Pipeline) -> str | None:
    """Exactly which model this is, as a worker would say: the pin, or a folder's content; None where it isn't known."""
    if pipeline.revision is not None or pipeline.folder is None:
        return pipeline.revision
    try:
        return known_hash(pipeline.folder, hashes_file())
    except (ModelError, OSError):
        return None


def _sorted(value: Any) -> Any:
    """The same document whatever the order in which it was written."""
    if isinstance(value, Mapping):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(one) for one in value] if isinstance(value, (list, tuple)) else value
