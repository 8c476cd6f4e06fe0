"""A task's adapter: its class, the tokenizer and the limits that it is made with, and what a model still lacks."""

from typing import Any

from models import operator_code, tasks
from models.errors import ModelError
from models.pipelines.pipeline import Pipeline
from models.settings import Settings
from worker import adapters
from worker.adapters.control import output_schemas
from worker.adapters.interface import CompletingAdapter, Limits
from worker.adapters.own.no_tokenizer import NoTokenizer
from worker.loading import guard_models
from worker.loading.files.snapshots import Snapshot
from worker.loading.tokenizers import tokenizer_loading

DEFAULT_TRIAL_SECONDS = Settings.model_fields["forward_timeout_seconds"].default


def find_class(pipeline: Pipeline) -> Any:
    """Return the adapter's class; raises ModelError, LoadFailed or SettingsError if a package is missing."""
    if pipeline.registered_by is not None:
        operator_code.load_object(pipeline.registered_by)  # its import registers the pipeline with transformers
    output_schemas.check_package(pipeline.parameters)
    return adapters.adapter_for(pipeline.task)


def load_tokenizer(adapter_class: Any, files: Snapshot, model: Any) -> Any:
    """Load the tokenizer; a stand-in for an adapter that uses none."""
    return (
        tokenizer_loading.load(files) if getattr(adapter_class, "uses_tokenizer", True) else NoTokenizer(model.config)
    )


def complete(adapter_class: Any, model: Any, tokenizer: Any, files: Snapshot) -> int | None:
    """As `CompletingAdapter.complete`; None for any other adapter."""
    if not issubclass(adapter_class, CompletingAdapter):
        return None
    try:
        return adapter_class.complete(model, tokenizer, files.folder)
    except ModelError as error:
        raise ModelError(f"{files.name}: {error}") from error


def limits_for(pipeline: Pipeline, max_length: int | None, *, is_guard: bool) -> Limits:
    """Return the limits of a pipeline's inputs.

    max_length: tokens of an input, None = no limit
    is_guard: whether the model is a guard's, which reads windows that overlap
    """
    stride = pipeline.stride
    if is_guard and stride is None:
        stride = guard_models.default_overlap(max_length)
    return Limits(
        max_length,
        pipeline.truncation,
        stride,
        pipeline.deterministic,
        pipeline.name,
        generation=pipeline.generation_limits,
        window_aggregation=pipeline.effective_window_aggregation,
        trial_seconds=pipeline.pass_seconds or DEFAULT_TRIAL_SECONDS,
        logits_processors=pipeline.logits_processors,
        examples=tuple(map(tasks.find_spec(pipeline.task).normalise, pipeline.examples)),
    )
