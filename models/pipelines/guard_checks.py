"""Checks of the guards of all pipelines against the pipelines that they name, and those pipelines' labels. Pure."""

import re
from collections.abc import Iterable, Mapping

from models import validation
from models.errors import SettingsError
from models.guards.definition import Guard
from models.pipelines.pipeline import Pipeline
from models.settings import settings_place

MAX_LABELS_SHOWN = 20
COMMIT = re.compile(r"[0-9a-f]{40}")

NO_ENTITY = "O"  # a tagger's label for tokens of no entity, which are left out
GUARD_TASKS = ("sentiment-analysis", "ner")  # text classification and token classification


def check(pipelines: Mapping[str, Pipeline]) -> None:
    """Raise SettingsError that names the first guard whose pipeline can't guard, and says what to do."""
    for name, pipeline in pipelines.items():
        for guard_name, guard in pipeline.guards.items():
            if problem := find_problem(name, guard, pipelines):
                raise SettingsError(f"{settings_place()}[pipelines.{name}.guards.{guard_name}] {problem}")


def find_problem(pipeline_name: str, guard: Guard, pipelines: Mapping[str, Pipeline]) -> str | None:
    """Return what is wrong with the pipeline that a guard names, as the end of a sentence; None = nothing.

    pipeline_name: the pipeline that the guard belongs to.
    """
    name = guard.pipeline
    if name is None:
        return None
    if name == pipeline_name:
        return f"pipeline: {name} can't guard itself; add another entry for the guard's model"
    entry = pipelines.get(name)
    if entry is None:
        return f"pipeline: there is no pipeline {name[:80]!r}; {validation.suggest(name, _guard_names(pipelines))}"
    if entry.spec.name not in GUARD_TASKS:
        return f"pipeline: {name} does {entry.task}, and only text-classification and token-classification can guard"
    if entry.guards:
        return f"pipeline: {name} has guards itself, and guards are not guarded; name one without"
    if entry.template is not None:
        return f"pipeline: {name} has a prompt, and guards read texts as they are; name one without"
    return _find_pin_problem(entry) or _find_label_problem(guard, entry)


def find_unknown_label(guard: Guard, entry: Pipeline, model_labels: Iterable[object]) -> str | None:
    """Return a sentence if a guard catches a label that its model can't give; None = it catches none such.

    model_labels: the names in the model's config; those of a tagger count without `B-` and `I-`, as its entities do,
        and its `O` is no entity.
    """
    is_tagger = entry.spec.name == "ner"
    names = [str(label).split("-", 1)[-1] if is_tagger else str(label) for label in model_labels]
    known = [name for name in dict.fromkeys(names) if not (is_tagger and name == NO_ENTITY)]
    for label in guard.labels:
        if label not in known:
            shown = ", ".join(known[:MAX_LABELS_SHOWN]) + (", …" if len(known) > MAX_LABELS_SHOWN else "")
            return f"the model of {entry.name} has no label {label!r}; set label to one of {shown}"
    return None


def _find_pin_problem(entry: Pipeline) -> str | None:
    name = entry.name
    if entry.prompt is not None:
        return f"pipeline: {name} has a prompt, and guards read texts as they are; name an entry without one"
    if entry.folder is None and not COMMIT.fullmatch(entry.revision or ""):
        return f"pipeline: {name} must pin its model; set revision to a full commit in [pipelines.{name}]"
    has_other_tokenizer = entry.tokenizer is not None and entry.tokenizer_folder is None
    if has_other_tokenizer and not COMMIT.fullmatch(entry.tokenizer_revision or ""):
        return f"pipeline: {name} must pin its tokenizer; set tokenizer_revision to a full commit in [pipelines.{name}]"
    return None


def _find_label_problem(guard: Guard, entry: Pipeline) -> str | None:
    if entry.spec.name == "ner":
        return None
    if not guard.labels:
        return f"label is missing: {entry.name} gives every text a label; name those to catch"
    if guard.action == "redact":
        return (
            f"action can't be redact, because {entry.name} labels whole texts; set fail or flag, or name a "
            "token-classification pipeline, which finds the places"
        )
    return None


def _guard_names(pipelines: Mapping[str, Pipeline]) -> list[str]:
    return sorted(name for name, entry in pipelines.items() if entry.spec.name in GUARD_TASKS)
