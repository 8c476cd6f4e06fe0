"""The options of a catalogue entry in words, for `models show`."""

from collections.abc import Mapping
from typing import Any

from models.pipelines.pipeline import Pipeline
from models.tasks.generic.transformers_pipeline import PREFIX


def describe_input(pipeline: Pipeline) -> str:
    """The fields of an input."""
    source = ", which its prompt names" if pipeline.template is not None else ""
    return f"{pipeline.spec.field_names}{source}"


def describe_options(pipeline: Pipeline) -> dict[str, object]:
    """How the model is loaded, and what happens to long inputs; options that are not set are empty."""
    aggregates = pipeline.truncation == "stride" and pipeline.spec.aggregates_windows
    return {
        "quantization": pipeline.quantization,
        "attention": pipeline.attention,
        "device": pipeline.device,
        "device map": pipeline.device_map and _describe_device_map(pipeline),
        "truncation": _describe_truncation(pipeline),
        "window aggregation": aggregates and pipeline.effective_window_aggregation,
        "deterministic": pipeline.deterministic and "yes",
    }


def _describe_device_map(pipeline: Pipeline) -> str:
    limits = ", ".join(f"{device} {size}" for device, size in (pipeline.max_memory or {}).items())
    return f"{pipeline.device_map}, at most {limits or '80 % of what is free on each device'}"


def describe_vectors(vectors: Mapping[str, Any]) -> str:
    """The vectors of a pipeline that makes some."""
    size = f"{vectors['dimensions']:,} numbers, " if vectors["dimensions"] else ""
    normalized = ", normalized" if vectors["normalized"] else ""
    return f"{size}pooled by {' + '.join(vectors['pooling']) or 'none'}{normalized}"


def _describe_truncation(pipeline: Pipeline) -> str:
    effects = {"error": "longer inputs fail", "stride": "longer inputs are read in overlapping windows"}
    effect = effects.get(pipeline.truncation, "longer inputs are cut, and their results marked")
    if pipeline.spec.name == "question-answering":
        effect = "longer contexts are read in overlapping windows"
    elif pipeline.spec.name == "text-generation" and pipeline.truncation == "truncate":
        effect = "longer prompts fail, unless handle_long_generation is hole"
    elif pipeline.spec.name.startswith(PREFIX) and pipeline.truncation == "truncate":
        effect = "longer inputs fail, unless the pipeline of transformers cuts them"
    return f"{pipeline.truncation}: {effect}"
