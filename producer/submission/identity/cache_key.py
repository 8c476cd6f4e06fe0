"""The cache key of a batch is a hash of everything that determines an output, except the model's revision.

The guards and the revisions of their models are part of it.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.documents import to_json
from models.embedding.sentence_files import TASK as EMBEDDING_TASK
from models.errors import ModelError
from models.guards.definition import Guard
from models.pipelines.folder_hash import cached_content_hash
from models.pipelines.output_settings import guard_definitions, guard_fields, output_settings
from models.pipelines.pipeline import Pipeline, join_revisions
from models.settings import model_hashes_file

NO_POOLING = "none"  # the parameter `pooling` of embeddings, which gives no vectors but a document for each text


def not_cacheable_because(pipeline: Pipeline, parameters: Mapping[str, Any]) -> str | None:
    """The reason why the same input may get another output next time; None where it can't."""
    if pipeline.spec.is_random(parameters):
        return "it samples without a seed"
    if pipeline.tokenizer is not None and pipeline.tokenizer_revision is None:
        return f"pipeline {pipeline.name} does not pin its tokenizer_revision"
    for reference, version in pipeline.operator_code.items():
        if version is None:
            return f"the code of {reference} is not installed here, so its version is not known"
    for name, guard in pipeline.guards.items():
        if guard.pipeline is not None and (reason := _unknown_guard_because(pipeline, guard.pipeline)) is not None:
            return f"guard {name} may decide otherwise: {reason}"
    return None


def output_cache_key(pipeline: Pipeline, parameters: Mapping[str, Any]) -> str | None:
    """The hash; None where the same input may get another output."""
    if not_cacheable_because(pipeline, parameters) is not None:
        return None
    values = output_settings(pipeline) | {"parameters": dict(parameters)}
    if (limits := pipeline.generation_limits) is not None:
        values["limits"] = limits.model_dump()
    if pipeline.guards:
        values["guards"] = [_guard_values(pipeline, name, guard) for name, guard in pipeline.guards.items()]
    return _hash(values)


def embedding_key(pipeline: Pipeline, parameters: Mapping[str, Any]) -> str | None:
    """The hash of all settings that two vectors of one model must share to be compared; None if outputs are none.

    Unlike the cache key, it exists for an unpinned tokenizer too. Guards are not part of it: one that redacts a text
    changes its vector, but not what other vectors it can be compared with.
    """
    if pipeline.task != EMBEDDING_TASK or parameters.get("pooling") == NO_POOLING:
        return None
    return _hash(output_settings(pipeline) | {"parameters": dict(parameters)})


def resolve_revision(pipeline: Pipeline) -> str | None:
    """The revision that a worker would record: the pinned one, or a folder's content hash; None if unknown.

    That of a pipeline with an adapter is both revisions.
    """
    revision = _resolve_files(pipeline.revision, pipeline.folder)
    if revision is None or pipeline.adapter is None:
        return revision
    adapter_revision = _resolve_files(pipeline.adapter_revision, pipeline.adapter_folder)
    return None if adapter_revision is None else join_revisions(revision, adapter_revision)


def _resolve_files(revision: str | None, folder: Path | None) -> str | None:
    if revision is not None or folder is None:
        return revision
    try:
        return cached_content_hash(folder, model_hashes_file())
    except (ModelError, OSError):
        return None


def expected_verdicts(pipeline: Pipeline) -> list[dict[str, Any]]:
    """What a result's verdicts must have of each guard: the hash of its definition, and its model's revision."""
    return [
        {"guard": name, "definition": definition, "revision": _guard_revision(pipeline, pipeline.guards[name])}
        for name, definition in guard_definitions(pipeline).items()
    ]


def _guard_revision(pipeline: Pipeline, guard: Guard) -> str | None:
    return None if guard.pipeline is None else resolve_revision(pipeline.guard_pipelines[guard.pipeline])


def _unknown_guard_because(pipeline: Pipeline, name: str) -> str | None:
    """The reason why another model may guard next time; None where it can't."""
    entry = pipeline.guard_pipelines.get(name)
    if entry is None:
        return f"pipeline {name} is not in the catalogue"
    if resolve_revision(entry) is None:
        return f"the revision of pipeline {name} is not known here"
    return not_cacheable_because(entry, {})


def _guard_values(pipeline: Pipeline, name: str, guard: Guard) -> dict[str, Any]:
    """All that determines what a guard decides, its model's revision included."""
    values: dict[str, Any] = {"name": name, "definition": guard_fields(guard)}
    if guard.pipeline is not None:
        entry = pipeline.guard_pipelines[guard.pipeline]
        own = {"revision": resolve_revision(entry), "parameters": dict(entry.parameters)}
        values["model"] = output_settings(entry) | own
    return values


def _hash(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(to_json(_sort_keys(values)).encode()).hexdigest()


def _sort_keys(value: Any) -> Any:
    """The document with its keys in order, so that equal parameters have equal hashes."""
    if isinstance(value, Mapping):
        return {key: _sort_keys(value[key]) for key in sorted(value)}
    return [_sort_keys(item) for item in value] if isinstance(value, (list, tuple)) else value
