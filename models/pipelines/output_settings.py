"""The settings of a pipeline, and the definitions of its guards, that determine outputs and verdicts. Pure."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.guards.definition import Guard
from models.pipelines.pipeline import Pipeline

DEFINITION_DIGITS = 12  # each verdict has them

# The fields of a catalogue entry that change outputs, beside its guards; its device and token budget do not.
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
    "window_aggregation",
    "deterministic",
    "max_length",
    "logits_processors",
    "adapter",
    "registered_by",
)

# They came after the first keys, and an entry without them keeps its key.
LATER_FIELDS = frozenset({"window_aggregation", "logits_processors", "adapter", "registered_by"})


def output_settings(pipeline: Pipeline) -> dict[str, Any]:
    """The fields of an entry that change outputs, and the versions of the operator's own code that computes them."""
    values = {name: getattr(pipeline, name) for name in OUTPUT_RELEVANT_FIELDS}
    settings = {name: value for name, value in values.items() if value not in (None, ()) or name not in LATER_FIELDS}
    code = pipeline.operator_code
    return settings | {"operator_code": code} if code else settings


def guard_fields(guard: Guard) -> dict[str, Any]:
    """The fields of a guard that are set."""
    return guard.model_dump(mode="json", exclude_defaults=True)


def guard_definitions(pipeline: Pipeline) -> Mapping[str, str]:
    """A short hash of each guard's definition, by the guard's name, as its verdicts have it.

    A worker and a submitter have the same one if they have the same settings: folders count by their names, which
    machines share. The revision of a guard's model is not part of it, because a verdict names that as well.
    """
    return {name: _hash_definition(pipeline, guard) for name, guard in pipeline.guards.items()}


def _hash_definition(pipeline: Pipeline, guard: Guard) -> str:
    values = guard_fields(guard)
    entry = pipeline.guard_pipelines.get(guard.pipeline or "")
    if entry is not None:
        values["model"] = {**output_settings(entry), "parameters": entry.parameters}
        for key, folder in (
            ("model", entry.folder),
            ("tokenizer", entry.tokenizer_folder),
            ("adapter", entry.adapter_folder),
        ):
            if folder is not None:
                values["model"][key] = Path(folder).name
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:DEFINITION_DIGITS]
