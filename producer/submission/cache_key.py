"""Recipes: all that an input's output hangs on, but the model's own revision, as one hash."""

import hashlib
from collections.abc import Mapping
from typing import Any

from models.documents import to_json
from models.errors import ModelError
from models.pipelines.folder_hash import cached_content_hash
from models.pipelines.pipeline import Pipeline
from models.settings import model_hashes_file

# What of a catalogue entry shows in an output. How many go through the model at once, and where, does not.
OUTPUT_RELEVANT_FIELDS = (
    "task",
    "model",
    "tokenizer",
    "tokenizer_revision",
    "dtype",
    "quantization",
    "attention",
    "truncation",
    "stride",
    "deterministic",
    "max_length",
)


def not_cacheable_because(pipeline: Pipeline, parameters: Mapping[str, Any]) -> str | None:
    """Why the same input may come to something else the next time; None where it may not."""
    if pipeline.spec.is_random(parameters):
        return "it samples without a seed"
    if pipeline.tokenizer is not None and pipeline.tokenizer_revision is None:
        return f"pipeline {pipeline.name} does not pin its tokenizer_revision"
    return None


def output_cache_key(pipeline: Pipeline, parameters: Mapping[str, Any]) -> str | None:
    """The hash; None where the same input may come to something else."""
    if not_cacheable_because(pipeline, parameters) is not None:
        return None
    told = {name: getattr(pipeline, name) for name in OUTPUT_RELEVANT_FIELDS} | {"parameters": dict(parameters)}
    return hashlib.sha256(to_json(_sort_keys(told)).encode()).hexdigest()


def resolve_revision(pipeline: Pipeline) -> str | None:
    """Exactly which model this is, as a worker would say: the pin, or a folder's content; None where it isn't known."""
    if pipeline.revision is not None or pipeline.folder is None:
        return pipeline.revision
    try:
        return cached_content_hash(pipeline.folder, model_hashes_file())
    except (ModelError, OSError):
        return None


def _sort_keys(value: Any) -> Any:
    """The same document whatever the order in which it was written."""
    if isinstance(value, Mapping):
        return {key: _sort_keys(value[key]) for key in sorted(value)}
    return [_sort_keys(one) for one in value] if isinstance(value, (list, tuple)) else value
