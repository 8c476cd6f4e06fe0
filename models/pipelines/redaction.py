"""Redaction of parameters for logs and output: numbers, known choices and names stay, free text becomes a hash.

Labels and stop strings reveal the subject of a batch. Roles with access to the batch can read them in SQL.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

from models.documents import to_json
from models.guards.definition import Guard
from models.pipelines.options.prompt_template import PROMPT, SYSTEM
from models.pipelines.pipeline import Pipeline
from models.tasks import SPECS
from models.tasks.own import registry
from models.tasks.spec import TaskSpec

HASH_DIGITS = 16
NAMES = frozenset({"prompt_name"})  # parameters that name an entry of the model's files
SHORT_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")


def redact_parameters(params: Mapping[str, Any]) -> dict[str, Any]:
    """Redact a batch's parameters with `redact_value`; the names stay."""
    choices = _allowed_choices()
    return {
        name: value if _is_name(name, value) else redact_value(value, choices.get(name, frozenset()))
        for name, value in params.items()
    }


def redact_pipeline(pipeline: Pipeline) -> dict[str, Any]:
    """Return a catalogue entry as a document with redacted parameters and templates, and the fields of its inputs."""
    redacted = {name: redact_value(getattr(pipeline, name)) for name in (PROMPT, SYSTEM)}
    inputs = [{"name": field.name, "required": field.required} for field in pipeline.spec.fields]
    redacted["examples"] = [redact_value(example) for example in pipeline.examples]
    document = {**pipeline.model_dump(mode="json"), **redacted, "inputs": inputs}
    return {**document, "parameters": redact_parameters(pipeline.parameters)}


def redact_guard(guard: Guard) -> dict[str, Any]:
    """Return a guard's definition as a document; its pattern and words, which tell what is secret, become hashes."""
    document = guard.model_dump(mode="json", exclude_none=True)
    return {name: redact_value(value) if name in ("pattern", "words") else value for name, value in document.items()}


def redact_value(raw_value: Any, choices: frozenset[Any] = frozenset()) -> Any:
    """Return a number, boolean, null or known choice unchanged; otherwise a short `sha256:` hash."""
    if (
        raw_value is None
        or isinstance(raw_value, bool | int | float)
        or (isinstance(raw_value, str) and raw_value in choices)
    ):
        return raw_value
    return f"sha256:{hashlib.sha256(to_json(raw_value).encode(errors='surrogatepass')).hexdigest()[:HASH_DIGITS]}"


def _is_name(parameter: str, value: Any) -> bool:
    return parameter in NAMES and isinstance(value, str) and SHORT_NAME.fullmatch(value) is not None


def _allowed_choices() -> dict[str, frozenset[Any]]:
    return _choices_of((*SPECS, *registry.registered()))


def _choices_of(specs: Iterable[TaskSpec]) -> dict[str, frozenset[Any]]:
    choices_by_name: dict[str, set[Any]] = {}
    for spec in specs:
        for name, field in spec.parameters.model_fields.items():
            choices_by_name.setdefault(name, set()).update(_literals(field.annotation))
    return {name: frozenset(choices) for name, choices in choices_by_name.items()}


def _literals(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
        return
    for part in get_args(annotation):
        yield from _literals(part)
