"""The pipelines that transformers has registered, and which of them an input of text or JSON is enough for."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from transformers.pipelines import PIPELINE_REGISTRY

from models.errors import LoadFailed, ModelError
from models.tasks.generic.transformers_pipeline import OWN_TASKS, PREFIX

# Registered as `multimodal` for the images that some requests carry, which Batchmill does not take.
TEXT_TASKS = ("decision",)
SOUND_TASKS = ("text-to-audio", "text-to-speech")
# Mandatory parts of a pipeline that reads images, audio or video.
OTHER_READERS = ("_load_image_processor", "_load_feature_extractor", "_load_video_processor")


@dataclass(frozen=True, slots=True)
class RegisteredPipeline:
    """A pipeline of transformers.

    model_classes: the classes that load its model, to be tried in order.
    """

    name: str
    pipeline_class: Any
    model_classes: tuple[Any, ...]


def find(task: str) -> RegisteredPipeline:
    """Find the pipeline of a task, with or without the prefix. Raises ModelError that names those that there are."""
    name = task.removeprefix(PREFIX)
    known: Mapping[str, Any] = PIPELINE_REGISTRY.supported_tasks
    name = PIPELINE_REGISTRY.task_aliases.get(name, name)
    if name in SOUND_TASKS:
        raise ModelError(f"transformers' pipeline {name} gives sound, which no result can hold; name another task")
    if name not in known:
        names = ", ".join(text_pipelines()) or "none"
        raise ModelError(f"transformers has no pipeline {name[:80]!r} here; of the others for text it has: {names}")
    entry = known[name]
    pipeline_class = _resolve(entry["impl"])
    if not _reads_text(name, entry, pipeline_class):
        raise ModelError(f"transformers' pipeline {name} reads images, sound or video, and an input is text or JSON")
    if name == "table-question-answering" and find_spec("pandas") is None:
        raise LoadFailed(f"{name} needs pandas; run: pip install -c constraints.txt '.[tables]'")
    return RegisteredPipeline(name, pipeline_class, tuple(entry["pt"]))


def text_pipelines() -> list[str]:
    """The names of registered pipelines for text that Batchmill runs only as `transformers:NAME`."""
    return sorted(
        name
        for name, entry in PIPELINE_REGISTRY.supported_tasks.items()
        if name not in OWN_TASKS and name not in SOUND_TASKS and _reads_text(name, entry, _resolve(entry["impl"]))
    )


def _reads_text(name: str, entry: Mapping[str, Any], pipeline_class: Any) -> bool:
    if name in TEXT_TASKS:
        return True
    kind = entry.get("type")
    if kind is not None:
        return bool(kind == "text")
    return not any(getattr(pipeline_class, attribute, None) is True for attribute in OTHER_READERS)


def _resolve(implementation: Any) -> Any:
    """The class that the registry has, or has by its dotted name."""
    if not isinstance(implementation, str):
        return implementation
    module, _, name = implementation.rpartition(".")
    return getattr(import_module(module), name)
