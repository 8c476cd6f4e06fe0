"""Guard models: which pipelines are loaded for a pipeline's guards, and how they read. Pure."""

from collections.abc import Mapping
from typing import Any

from models.errors import LoadFailed
from models.guards.definition import Guard
from models.pipelines import guard_checks
from models.pipelines.pipeline import Pipeline

# What an injection must not be longer than to lie in one window whole, wherever it stands.
MIN_OVERLAP_TOKENS, OVERLAP_DIVISOR = 64, 4
MAX_SPECIAL_TOKENS = 8  # around a text


def pipeline_names(pipeline: Pipeline) -> list[str]:
    """Return the pipelines that its guards name, each once."""
    return list(dict.fromkeys(guard.pipeline for guard in pipeline.guards.values() if guard.pipeline is not None))


def guard_pipeline(pipeline: Pipeline, name: str) -> Pipeline:
    """Return a guard's pipeline as guards run it: it reads whole texts. Raises LoadFailed if it is not known."""
    entry = pipeline.guard_pipelines.get(name)
    if entry is None:
        raise LoadFailed("the catalogue has no such pipeline here")
    return entry.model_copy(update={"truncation": "stride", "window_aggregation": "max"})


def default_overlap(max_length: int | None) -> int | None:
    """Return the tokens that neighbouring windows of a guard share, if its pipeline names no stride.

    max_length: tokens of a window, special ones included, None = texts are never split.
    """
    if max_length is None:
        return None
    half = max(0, (max_length - MAX_SPECIAL_TOKENS) // 2)
    return max(max_length // OVERLAP_DIVISOR, min(MIN_OVERLAP_TOKENS, half))


def describe(pipeline: Pipeline, name: str) -> str:
    """Return the guards that share this pipeline, for error messages: `guard injection (prompt-injection)`."""
    guards = list(_guards_of(pipeline, name))
    return f"guard{'s' if len(guards) > 1 else ''} {', '.join(guards)} ({name})"


def check_labels(pipeline: Pipeline, name: str, config: Any) -> None:
    """Raise LoadFailed if a guard catches a label that its model can't give.

    config: the model's, of transformers.
    """
    for guard in _guards_of(pipeline, name).values():
        if problem := guard_checks.find_unknown_label(guard, pipeline.guard_pipelines[name], config.id2label.values()):
            raise LoadFailed(problem)


def _guards_of(pipeline: Pipeline, name: str) -> Mapping[str, Guard]:
    return {guard_name: guard for guard_name, guard in pipeline.guards.items() if guard.pipeline == name}
